// Says so many lines, one after the other, and prints what comes back.
//   node client.js PORT LINES
const { WebSocket } = require('ws');

const lines = Number(process.argv[3]);
const socket = new WebSocket(`ws://127.0.0.1:${process.argv[2]}/`);
let heard = 0;

const say = () => socket.send(`line ${heard + 1}`);
socket.on('open', say);
socket.on('message', (data) => {
  const { number, text } = JSON.parse(data);
  console.log(number, text);
  heard += 1;
  if (heard < lines) say();
  else socket.close();
});
socket.on('error', (error) => {
  console.error(String(error));
  process.exitCode = 1;
});
