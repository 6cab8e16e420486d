// A server that listens for no signal.
//   deno run -A deno-plain.mjs PORT [delay=MS]
import { answer } from "./deno-messages.mjs";

Deno.serve({ port: Number(Deno.args[0] ?? 8080), hostname: "127.0.0.1" }, answer);
