// The HTTP server that the benchmarks put under every runtime and in front of every proxy: Node, Bun, Node's `cluster`, PM2.
//   node bench-server.js PORT [reuse-port]
// GET /block/MS: the worker's only thread sleeps, so that the worker is busy and the processor is not; /spin/MS: it computes;
// /wait/MS: it waits for a timer and does other things meanwhile. Answers "SLOT PID". SIGTERM and SIGINT end it without a loss of
// what it has accepted; PM2 is told when it is ready.
// Under PM2's runtime the workers of a cluster get its own arguments before theirs, so the port may be a variable.
const [argument, reusePort] = process.argv.slice(2);
const port = process.env.BENCH_PORT ?? argument;
const address = { port: Number(port), hostname: "127.0.0.1", host: "127.0.0.1", backlog: 1024, ...(reusePort ? { reusePort: true } : {}) };
const body = `${process.env.REUSE_WORKER_ID ?? process.env.NODE_APP_INSTANCE ?? "-"} ${process.pid}\n`;
const nobody = new Int32Array(new SharedArrayBuffer(4));

// A promise, where it is not done at once.
function work(kind, ms) {
  if (kind === "wait") return new Promise((resolve) => setTimeout(resolve, ms));
  if (kind === "spin") for (const end = performance.now() + ms; performance.now() < end; );
  else if (ms > 0) Atomics.wait(nobody, 0, 0, ms);
}

function parse(path) {
  const [, kind, ms] = path.split("/");
  return [kind, Number(ms ?? 0)];
}

function onSignal(stop) {
  for (const signal of ["SIGTERM", "SIGINT"]) process.once(signal, stop);
}

if (globalThis.Bun) {
  const server = Bun.serve({
    ...address,
    async fetch(request) {
      await work(...parse(new URL(request.url).pathname));
      return new Response(body);
    },
  });
  onSignal(async () => {
    await server.stop();
    process.exit(0);
  });
  process.send?.("ready");
} else {
  const server = require("node:http").createServer((request, response) => {
    // nginx speaks HTTP/1.0 to its servers, to which Node does not say it by itself.
    response.setHeader("Content-Length", body.length);
    const later = work(...parse(request.url));
    if (later) later.then(() => response.end(body));
    else response.end(body);
  });
  server.listen(address, () => process.send?.("ready"));
  onSignal(() => {
    server.close(() => process.exit(0));
    server.closeIdleConnections();
  });
}
