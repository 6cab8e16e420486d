// A server that does what messages tell it, in Node and in Bun.
//   node messages.js PORT [ready=FILE]
// Says "ready" at once, or when FILE is there. What it hears and does not understand it tells the bus as `heard`.
//   {do: "burst", to: [SLOT…], count: N}   sends numbered messages to these workers in turn
//   {do: "report"}                         tells the bus how many came from whom, and whether they were in order
//   {do: "steady", to: SLOT}               one numbered message every millisecond, from now on
//   {do: "say", message}                   says that
//   {do: "who"}                            tells the bus its process id
//   "shutdown"                             ends, as SIGTERM does; both say so on the output
const fs = require("node:fs");
const http = require("node:http");

const [port = "8080", ...flags] = process.argv.slice(2);
const me = Number(process.env.REUSE_WORKER_ID);
const body = `${me} ${process.pid}\n`;
const file = flags.find((flag) => flag.startsWith("ready="))?.slice("ready=".length);
const seen = {};
const received = { count: 0, disordered: 0 };
let number = 0;

const numbered = (to, n) => process.send({ type: "process:msg", id: to, topic: "numbered", data: { from: me, n } });

const acts = {
  burst({ to, count }) {
    const next = {};
    for (let i = 0; i < count; i++) {
      const receiver = to[i % to.length];
      next[receiver] = (next[receiver] ?? 0) + 1;
      numbered(receiver, next[receiver]);
    }
  },
  report() {
    process.send({ type: "report", data: { ...received, seen } });
  },
  steady({ to }) {
    setInterval(() => numbered(to, ++number), 1);
  },
  who() {
    process.send({ type: "who", data: process.pid });
  },
  say({ message }) {
    process.send(message);
  },
};

function end(why) {
  console.log(`ends by ${why}`);
  server.close(() => process.exit(0));
  server.closeIdleConnections?.();
  // Bun's `close` has no callback while a connection is open.
  setTimeout(() => process.exit(0), 200);
}

process.on("message", (message) => {
  if (message === "shutdown") return end("message");
  if (message?.topic === "numbered") {
    const { from, n } = message.data;
    if (n <= (seen[from] ?? 0)) received.disordered += 1;
    seen[from] = n;
    received.count += 1;
    return;
  }
  const act = message && acts[message.do];
  if (act) act(message);
  else process.send({ type: "heard", data: message });
});
process.on("SIGTERM", () => end("signal"));

const server = http.createServer((request, response) => response.end(body));
server.listen({ port: Number(port), host: "127.0.0.1" }, () => {
  console.log("listens");
  if (!file) return process.send("ready");
  const wait = setInterval(() => {
    if (!fs.existsSync(file)) return;
    clearInterval(wait);
    process.send("ready");
  }, 10);
});
