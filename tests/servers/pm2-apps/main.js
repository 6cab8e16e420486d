// The main process: takes a line of text by HTTP, has the others work on it, and answers with what came of it.
//   GET /say/TEXT
const http = require('node:http');
const pm2 = require('pm2');

// Whose job it is.
const ROUTES = { 'db:store': 'db', 'db:stored': 'chat' };

const waiting = new Map();
let next = 1;

// To an app by its name: its process's number is looked up.
function tell(name, topic, data) {
  pm2.list((err, list) => {
    if (err) throw err;
    const found = list.find((one) => one.name.endsWith(name) && one.pm2_env.status === 'online');
    if (!found) return fail(data.request, `no ${name} among ${list.map((one) => one.name)}`);
    pm2.sendDataToProcessId(found.pm_id, { type: 'process:msg', topic, data }, (err) => {
      if (err) fail(data.request, String(err));
    });
  });
}

function fail(request, reason) {
  const response = waiting.get(request);
  waiting.delete(request);
  if (response) response.writeHead(503).end(reason);
}

pm2.connect((err) => {
  if (err) {
    console.error(err);
    process.exit(2);
  }
  pm2.launchBus((err, bus) => {
    if (err) {
      console.error(err);
      process.exit(2);
    }
    for (const [event, name] of Object.entries(ROUTES)) {
      bus.on(event, (packet) => tell(name, event, packet.data));
    }
    bus.on('chat:said', ({ data, process: from }) => {
      const response = waiting.get(data.request);
      waiting.delete(data.request);
      pm2.describe(from.pm_id, (err, found) => {
        if (err) throw err;
        response.end(`${data.number} ${data.text} by ${found[0].name}\n`);
      });
    });

    const server = http.createServer((request, response) => {
      const text = decodeURIComponent(request.url).replace('/say/', '');
      if (text === '/') return response.end('main\n');
      const number = next++;
      waiting.set(number, response);
      tell('chat', 'chat:say', { request: number, text });
    });
    server.listen(Number(process.env.PORT), '127.0.0.1');
    const end = () => {
      pm2.disconnect();
      server.close();
      server.closeAllConnections();
    };
    process.on('SIGINT', end);
    process.on('SIGTERM', end);
  });
});
