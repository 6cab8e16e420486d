// A server of Deno's own that loses nothing when it is told to stop, by the signal or by a message.
//   deno run -A deno-server.mjs PORT [ready=FILE] [delay=MS]
//   deno run -A --unstable-net deno-server.mjs PORT reuse-port     with the option of that name
import { answer, listen, ready } from "./deno-messages.mjs";

const [port = "8080", ...flags] = Deno.args;
const reusePort = flags.includes("reuse-port") ? { reusePort: true } : {};
const options = { port: Number(port), hostname: "127.0.0.1", ...reusePort, onListen: () => ready(flags) };
const server = Deno.serve(options, answer);
listen(async () => {
  await server.shutdown();
  Deno.exit(0);
});
