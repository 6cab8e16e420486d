// Tells what it was started with, and is ready when it is told so.
//   node|bun environment.mjs [PORT] [ready=FILE] [leak=BYTES]      PORT else from the environment
// GET /env: {"env", "cwd"} as JSON. GET /ready: 200 if FILE is there, else 503. Everything else: "SLOT PID".
// `leak`: each request keeps so many bytes.
import fs from "node:fs";
import http from "node:http";

const [first, ...rest] = process.argv.slice(2);
const flags = [first, ...rest].filter((flag) => flag?.includes("="));
const option = (name) => flags.find((flag) => flag.startsWith(`${name}=`))?.slice(name.length + 1);
const port = Number(/^\d+$/.test(first ?? "") ? first : process.env.PORT);
const body = `${process.env.REUSE_WORKER_ID ?? "-"} ${process.pid}\n`;
const leak = Number(option("leak") ?? 0);
const kept = [];

// What a module may do at its top, and what PM2 can't load with Bun.
await new Promise((resolve) => setTimeout(resolve, 20));

const server = http.createServer((request, response) => {
  if (leak > 0) kept.push(Buffer.alloc(leak, 1));
  if (request.url === "/env") return response.end(JSON.stringify({ env: process.env, cwd: process.cwd() }));
  if (request.url === "/ready" && !fs.existsSync(option("ready"))) response.statusCode = 503;
  response.end(body);
});
server.listen({ port, host: "127.0.0.1" });

process.on("SIGTERM", () => {
  server.close(() => process.exit(0));
  server.closeIdleConnections?.();
});
