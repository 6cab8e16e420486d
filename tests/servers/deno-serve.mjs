// For `deno serve`, which listens by itself and closes by itself on SIGTERM.
//   deno serve -A --host 127.0.0.1 --port PORT deno-serve.mjs [ready=FILE] [delay=MS]
import process from "node:process";
import { answer, listen, ready } from "./deno-messages.mjs";

listen(() => {
  // The runtime ends when nothing is left to wait for; a channel that somebody listens to is something.
  process.channel.unref();
  Deno.kill(Deno.pid, "SIGTERM");
});
export default { fetch: answer, onListen: () => ready(Deno.args) };
