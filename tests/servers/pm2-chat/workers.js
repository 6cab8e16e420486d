// The three of them as workers of one app, by their numbers. All listen, which is how a worker shows that it is there.
const role = ['receiver', 'chat', 'db'][Number(process.env.NODE_APP_INSTANCE)];
require(`./${role}.js`);

if (role !== 'receiver') {
  const server = require('node:http').createServer((request, response) => response.end(`${role}\n`));
  server.listen(Number(process.env.PORT), '127.0.0.1', () => process.send('ready'));
}
