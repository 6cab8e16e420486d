// What port finders do: listens on 127.0.0.1 for a moment, and then serves on all addresses.
//
// usage: node port-probe.js PORT
const http = require('http');
const net = require('net');
const port = Number(process.argv[2]);
const body = () => `${process.env.REUSE_WORKER_ID} ${process.pid} \n`;
const probe = net.createServer((socket) => socket.destroy()).listen(port, '127.0.0.1', () =>
  setTimeout(
    () =>
      probe.close(() => http.createServer((request, response) => response.end(body())).listen(port, '0.0.0.0')),
    1,
  ),
);
