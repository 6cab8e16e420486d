import http.server, json, os, socket, threading
channel = socket.socket(fileno=int(os.environ["NODE_CHANNEL_FD"])).makefile("rw")
threading.Thread(target=http.server.HTTPServer(("127.0.0.1", 8080), http.server.SimpleHTTPRequestHandler).serve_forever).start()
print(json.dumps("ready"), file=channel, flush=True)
for message in map(json.loads, channel):
    os._exit(0) if message == "shutdown" else print(json.dumps({"type": "heard", "data": message}), file=channel, flush=True)
