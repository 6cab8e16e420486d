// A server made for PM2, in Node: PORT from the environment, ended by SIGINT.
//   PORT=8080 NOTES=FILE [IGNORES=yes] node pm2-stop.js
// Each signal that it gets is a line of FILE, "PID SIGNAL MILLISECONDS", and so is its end: "PID exit MILLISECONDS".
// With IGNORES it only notes them. GET /env: its environment. Everything else: "NUMBER PID", after 20 ms.
const fs = require("node:fs");
const http = require("node:http");

const note = (what) => fs.appendFileSync(process.env.NOTES, `${process.pid} ${what} ${Date.now()}\n`);

const server = http.createServer((request, response) => {
  if (request.url === "/env") return response.end(JSON.stringify(process.env));
  setTimeout(() => response.end(`${process.env.NODE_APP_INSTANCE} ${process.pid}\n`), 20);
});

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"]) {
  process.on(signal, () => {
    note(signal);
    if (!process.env.IGNORES) server.close(() => process.exit(0));
  });
}
process.on("exit", () => note("exit"));
server.listen(Number(process.env.PORT), "127.0.0.1", () => process.send && process.send("ready"));
