// Node's cluster: the primary has the listener, and ends its workers when it is told to.
const cluster = require("node:cluster");

if (cluster.isPrimary) {
  for (let i = 0; i < 2; i++) cluster.fork();
  process.on("SIGTERM", () => {
    for (const worker of Object.values(cluster.workers)) worker.process.kill("SIGTERM");
  });
} else {
  require("./server.js");
}
