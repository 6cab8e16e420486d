// The receiver: WebSockets outside, messages inside.
const http = require('node:http');
const { WebSocketServer } = require('ws');

const server = http.createServer((request, response) => response.end('receiver\n'));
const sockets = new Map();
let next = 1;

new WebSocketServer({ server }).on('connection', (socket) => {
  const id = next++;
  sockets.set(id, socket);
  socket.on('close', () => sockets.delete(id));
  socket.on('message', (text) => {
    process.send({ type: 'chat:say', data: { socket: id, text: String(text) } });
  });
});

process.on('message', (packet) => {
  if (packet.topic !== 'chat:said') return;
  const socket = sockets.get(packet.data.socket);
  if (socket) socket.send(JSON.stringify(packet.data));
});

server.listen(Number(process.env.PORT), '127.0.0.1', () => process.send('ready'));
