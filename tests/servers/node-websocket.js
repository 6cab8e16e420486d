// A Node WebSocket server (package `ws`) on a plain `http` server.
//   node node-websocket.js PORT
// Echoes; on SIGTERM every socket is closed with 1001, then the server ends.
const http = require("node:http");
const { WebSocketServer } = require("ws");

const body = `${process.env.REUSE_WORKER_ID ?? "-"} ${process.pid}\n`;
const server = http.createServer((request, response) => response.end(body));
const sockets = new WebSocketServer({ server });
sockets.on("connection", (socket) => socket.on("message", (data, binary) => socket.send(data, { binary })));
server.listen({ port: Number(process.argv[2] ?? 8080), host: "127.0.0.1" });

process.on("SIGTERM", () => {
  for (const socket of sockets.clients) socket.close(1001, "going away");
  server.close(() => process.exit(0));
  server.closeIdleConnections();
});
