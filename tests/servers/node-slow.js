// A Node `http` server whose answer to /slow takes a second.
//   node node-slow.js PORT [graceful]      `graceful` closes on SIGTERM
const http = require("node:http");

const [port = "8080", graceful] = process.argv.slice(2);
const server = http.createServer((request, response) => {
  const answer = () => response.end("done\n");
  if (request.url === "/slow") setTimeout(answer, 1000);
  else answer();
});
server.listen({ port: Number(port), host: "127.0.0.1" });

if (graceful) {
  process.on("SIGTERM", () => {
    server.close(() => process.exit(0));
    server.closeIdleConnections();
  });
}
