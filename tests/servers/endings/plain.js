// A Node server as most people write it.
const http = require("node:http");

http.createServer(require("./handler.js")).listen(8080, "127.0.0.1");
