// A Bun server that loses nothing when it is told to stop.
//   bun bun-server.js PORT [reuse-port] [linger=MS] [host=ADDRESS]
// Answers "SLOT PID"; upgrades /ws to a WebSocket that echoes.
const [port = "8080", ...flags] = process.argv.slice(2);
const option = (name, otherwise) => flags.find((flag) => flag.startsWith(`${name}=`))?.slice(name.length + 1) ?? otherwise;
const body = `${process.env.REUSE_WORKER_ID ?? "-"} ${process.pid}\n`;
const sockets = new Set();
let stopping = false;

const server = Bun.serve({
  port: Number(port),
  hostname: option("host", "127.0.0.1"),
  ...(flags.includes("reuse-port") ? { reusePort: true } : {}),
  fetch(request, self) {
    if (request.headers.get("upgrade") && self.upgrade(request)) return;
    return new Response(body, stopping ? { headers: { connection: "close" } } : undefined);
  },
  websocket: {
    open(socket) {
      sockets.add(socket);
    },
    message(socket, message) {
      socket.send(message);
    },
    close(socket) {
      sockets.delete(socket);
    },
  },
});

process.on("SIGTERM", async () => {
  stopping = true;
  // `server.stop()` also closes a connection whose first request is still on its way; `linger` is how long such a request is awaited.
  const linger = Number(option("linger", "0"));
  if (linger > 0) await Bun.sleep(linger);
  for (const socket of sockets) socket.close(1001, "going away");
  await server.stop();
  process.exit(0);
});
