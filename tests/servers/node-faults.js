// A Node `http` server that can be made to hang.
//   node node-faults.js PORT [reuse-port|fd] [graceful] [slow=MS] [loop=MS log=FILE] [health=FILE]
// GET / answers "SLOT PID"; a request with a body is answered when the body is complete: "SLOT PID BYTES".
// GET /block?ms=N blocks the event loop for N ms, then answers.
// slow=MS     every request blocks the event loop that long: one at a time
// loop=MS     worker 0 alone blocks its event loop that long once a second, and adds "FROM UNTIL" (ms since 1970) to log=FILE after each
// health=FILE /health answers 503 while FILE holds this process's id or "all"
const fs = require("node:fs");
const http = require("node:http");

const [port = "8080", ...flags] = process.argv.slice(2);
const option = (name) => flags.find((flag) => flag.startsWith(`${name}=`))?.slice(name.length + 1);
const slot = process.env.NODE_APP_INSTANCE ?? "-";
const slow = Number(option("slow") ?? 0);
const loop = Number(option("loop") ?? 0);
const health = option("health");

// Waits without using the processor: other workers need it, and to the event loop it is the same.
const cell = new Int32Array(new SharedArrayBuffer(4));
const block = (ms) => Atomics.wait(cell, 0, 0, ms);

const sick = () => {
  if (!health || !fs.existsSync(health)) return false;
  const who = fs.readFileSync(health, "utf8").trim();
  return who === "all" || who === String(process.pid);
};

const server = http.createServer((request, response) => {
  const url = new URL(request.url, "http://test");
  if (url.pathname === "/health") {
    response.statusCode = sick() ? 503 : 200;
    return response.end(`${slot} ${process.pid}\n`);
  }
  let bytes = 0;
  request.on("data", (data) => (bytes += data.length));
  request.on("end", () => {
    if (slow > 0) block(slow);
    if (url.pathname === "/block") block(Number(url.searchParams.get("ms")));
    response.end(bytes > 0 ? `${slot} ${process.pid} ${bytes}\n` : `${slot} ${process.pid}\n`);
  });
});

if (flags.includes("fd")) server.listen({ fd: 3 });
else server.listen({ port: Number(port), host: "127.0.0.1", reusePort: flags.includes("reuse-port") });

if (loop > 0 && slot === "0") {
  setInterval(() => {
    const from = Date.now();
    block(loop);
    // Synchronous, so that it is written before anything else is done.
    fs.appendFileSync(option("log"), `${from} ${Date.now()}\n`);
  }, 1000);
}

if (flags.includes("graceful")) {
  process.on("SIGTERM", () => {
    server.close(() => process.exit(0));
    server.closeIdleConnections();
  });
}
