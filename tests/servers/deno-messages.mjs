// What messages tell a Deno worker to do; its servers import it. Deno has Node's `process`, and so the channel.
//   {do: "say", message}     says that
//   {do: "long", bytes: N}   tells the bus a text of N bytes
//   "shutdown"               ends, as SIGTERM does; both say so on the output
// What it does not understand it tells the bus as `heard`.
import process from "node:process";

// `end` is called once, however it is told to.
export function listen(end) {
  let isEnding = false;
  const told = (how) => {
    if (isEnding) return;
    isEnding = true;
    console.log(`ends by ${how}`);
    end();
  };
  process.on("message", (message) => {
    if (message === "shutdown") told("message");
    else if (message?.do === "say") process.send(message.message);
    else if (message?.do === "long") process.send({ type: "long", data: "x".repeat(message.bytes) });
    else process.send({ type: "heard", data: message });
  });
  Deno.addSignalListener("SIGTERM", () => told("signal"));
}

// Says "ready" at once, or when the file of `ready=FILE` is there.
export function ready(flags) {
  const file = flags.find((flag) => flag.startsWith("ready="))?.slice("ready=".length);
  console.log("listens");
  if (!file) return process.send("ready");
  const wait = setInterval(() => {
    try {
      Deno.statSync(file);
    } catch {
      return;
    }
    clearInterval(wait);
    process.send("ready");
  }, 10);
}

// At once, or after the milliseconds of `delay=MS`.
const delay = Number(Deno.args.find((flag) => flag.startsWith("delay="))?.slice("delay=".length) ?? 0);

export async function answer() {
  if (delay > 0) await new Promise((resolve) => setTimeout(resolve, delay));
  return new Response(`${process.env.REUSE_WORKER_ID ?? "-"} ${process.pid}\n`);
}
