// A plain Node `http` server.
//   node node-http.js PORT [HOST] [graceful]      HOST "" is Node's default, `::` dual-stack
// Answers "SLOT PID". `graceful` closes on SIGTERM: what is being answered is answered, idle connections are closed.
const http = require("node:http");

const [port = "8080", host = "127.0.0.1", graceful] = process.argv.slice(2);
const body = `${process.env.REUSE_WORKER_ID ?? "-"} ${process.pid}\n`;
const server = http.createServer((request, response) => response.end(body));
server.listen(host === "" ? { port: Number(port) } : { port: Number(port), host });

if (graceful) {
  process.on("SIGTERM", () => {
    server.close(() => process.exit(0));
    server.closeIdleConnections();
  });
}
