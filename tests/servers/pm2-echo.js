// A worker that sends back every packet it gets: {type: "echo", data: packet}; with the topic "raw" only its data, in a list; with "pass on" it
// passes it on to another worker by the client package.
//   node pm2-echo.js PORT
const http = require('node:http');

process.on('message', async (packet) => {
  if (packet.topic === 'raw') {
    process.send([packet.data]);
  } else if (packet.topic === 'pass on') {
    const pm2 = require(packet.data.package);
    await pm2.connect();
    await pm2.sendDataToProcessId(packet.data.to, { topic: 'from a worker', data: {} });
    pm2.disconnect();
  } else {
    process.send({ type: 'echo', data: packet });
  }
});

const server = http.createServer((request, response) => response.end(`${process.env.REUSE_WORKER_ID} ${process.pid}\n`));
server.listen(Number(process.argv[2]), '127.0.0.1', () => process.send('ready'));
const end = () => server.close(() => process.exit(0));
process.on('SIGINT', end);
process.on('SIGTERM', end);
