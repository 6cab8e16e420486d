// HTTP and WebSockets (package `ws`), without shutdown code.
const http = require("node:http");
const { WebSocketServer } = require("ws");

const server = http.createServer(require("./handler.js"));
new WebSocketServer({ server }).on("connection", (socket) => socket.on("message", (data) => socket.send(data)));
server.listen(8080, "127.0.0.1");
