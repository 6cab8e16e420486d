// Three apps that work together, in the form that PM2's users have.
const { PREFIX = '', RUNTIME: interpreter, PORT } = process.env;

module.exports = {
  apps: [
    { name: `${PREFIX}main`, script: './main.js', interpreter, env: { PORT } },
    { name: `${PREFIX}chat`, script: './chat.js', interpreter, wait_ready: true },
    { name: `${PREFIX}db`, script: './db.js', interpreter, wait_ready: true },
  ],
};
