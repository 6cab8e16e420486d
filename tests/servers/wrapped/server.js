// A server that stops cleanly when it is told once, and breaks off when it is told twice.
//   node server.js
// Listens on 127.0.0.1:PORT. `/slow` takes a second. NOTES names a file in which it says what happened: "PID up", "PID begin" for a slow
// request, "PID SIGTERM", "PID end".
const fs = require("node:fs");
const http = require("node:http");

const body = `${process.env.REUSE_WORKER_ID} ${process.pid}\n`;
const note = (what) => fs.appendFileSync(process.env.NOTES, `${process.pid} ${what}\n`);
let told = 0;

const server = http.createServer((request, response) => {
  if (request.url !== "/slow") return response.end(body);
  note("begin");
  setTimeout(() => response.end(body), 1000);
});

for (const signal of ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR2"]) {
  process.on(signal, () => {
    note(signal);
    if (++told > 1) process.exit(1);
    server.close(() => {
      note("end");
      process.exit(0);
    });
    server.closeIdleConnections();
  });
}

server.listen(Number(process.env.PORT), "127.0.0.1", () => note("up"));
