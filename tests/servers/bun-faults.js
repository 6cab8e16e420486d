// `Bun.serve` that can be made to hang.
//   bun bun-faults.js PORT [reuse-port]
// GET / answers "SLOT PID"; a request with a body: "SLOT PID BYTES". GET /block?ms=N blocks the event loop for N ms, then answers.
const [port = "8080", ...flags] = process.argv.slice(2);
const body = `${process.env.REUSE_WORKER_ID ?? "-"} ${process.pid}`;

const server = Bun.serve({
  port: Number(port),
  hostname: "127.0.0.1",
  reusePort: flags.includes("reuse-port"),
  async fetch(request) {
    const url = new URL(request.url);
    if (url.pathname === "/block") Bun.sleepSync(Number(url.searchParams.get("ms")));
    const bytes = request.method === "POST" ? (await request.arrayBuffer()).byteLength : 0;
    return new Response(bytes > 0 ? `${body} ${bytes}\n` : `${body}\n`);
  },
});

process.on("SIGTERM", async () => {
  await server.stop();
  process.exit(0);
});
