// Bun.serve as most people write it: without `reusePort`, without a signal handler.
//   bun bun-plain.js PORT
Bun.serve({
  port: Number(process.argv[2] ?? 8080),
  hostname: "127.0.0.1",
  fetch: () => new Response(`${process.env.REUSE_WORKER_ID ?? "-"} ${process.pid}\n`),
});
