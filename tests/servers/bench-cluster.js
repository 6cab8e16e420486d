// Node's own `cluster` module in front of bench-server.js.
//   node bench-cluster.js WORKERS PORT
const cluster = require("node:cluster");
const path = require("node:path");

const [workers, port] = process.argv.slice(2);
cluster.setupPrimary({ exec: path.join(__dirname, "bench-server.js"), args: [port] });
for (let slot = 0; slot < Number(workers); slot++) cluster.fork({ NODE_APP_INSTANCE: slot });
