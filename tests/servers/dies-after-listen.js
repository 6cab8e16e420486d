// A Node `http` server that listens first and connects to its database afterwards, as most tutorials do it.
//   PORT, DIE_MS=50: the connection fails so many milliseconds after it listens; BOOT_MS=1000: it listens so late;
//   HOST=127.0.0.1: there instead of on `::`
// Answers "SLOT PID". Closes on SIGTERM: what is being answered is answered, idle connections are closed.
const http = require("node:http");

const body = `${process.env.REUSE_WORKER_ID ?? "-"} ${process.pid}\n`;
const server = http.createServer((request, response) => response.end(body));
const { PORT = "8080", HOST, DIE_MS, BOOT_MS = "0" } = process.env;

setTimeout(() => server.listen({ port: Number(PORT), host: HOST }, connectToTheDatabase), Number(BOOT_MS));

function connectToTheDatabase() {
  if (DIE_MS !== undefined) {
    setTimeout(() => {
      throw new Error("connect ECONNREFUSED 127.0.0.1:27017");
    }, Number(DIE_MS));
  }
}

process.on("SIGTERM", () => {
  server.close(() => process.exit(0));
  server.closeIdleConnections();
});
