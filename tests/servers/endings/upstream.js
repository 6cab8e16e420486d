// What the proxies of this folder stand in front of.
const http = require("node:http");

http.createServer(require("./handler.js")).listen(9090, "127.0.0.1");
