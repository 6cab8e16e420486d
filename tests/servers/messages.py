"""As messages.js, and what no library would do.

    python3 messages.py PORT

    {"do": "raw", "text": TEXT}     writes TEXT to the channel
    {"do": "long", "bytes": N}      sends an event `long` whose line has so many bytes
    {"do": "flood"}                 says something all the time, from now on
    {"do": "node", "node": PATH}    runs Node with what Python hands over to children by default: the environment, but no descriptors
    {"do": "close"}                 closes the channel
"""

import http.server
import json
import os
import socket
import subprocess
import sys
import threading

CHANNEL = socket.socket(fileno=int(os.environ["NODE_CHANNEL_FD"]))
ME = int(os.environ["REUSE_WORKER_ID"])
seen = {}
received = {"count": 0, "disordered": 0}


def say(message):
    CHANNEL.sendall(json.dumps(message).encode() + b"\n")


def burst(to, count):
    following = {}
    for i in range(count):
        receiver = to[i % len(to)]
        following[receiver] = following.get(receiver, 0) + 1
        say({"type": "process:msg", "id": receiver, "topic": "numbered", "data": {"from": ME, "n": following[receiver]}})


def flood():
    line = json.dumps({"type": "noise", "data": "x" * 200}).encode() + b"\n"
    while True:
        CHANNEL.sendall(line * 300)


def numbered(data):
    if data["n"] <= seen.get(data["from"], 0):
        received["disordered"] += 1
    seen[data["from"]] = data["n"]
    received["count"] += 1


def act(message):
    what = message.get("do") if isinstance(message, dict) else None
    if message == "shutdown":
        print("ends by message", flush=True)
        os._exit(0)
    elif isinstance(message, dict) and message.get("topic") == "numbered":
        numbered(message["data"])
    elif what == "burst":
        # Not here: who waits until all is sent reads nothing meanwhile.
        threading.Thread(target=burst, args=(message["to"], message["count"])).start()
    elif what == "report":
        say({"type": "report", "data": {**received, "seen": seen}})
    elif what == "say":
        say(message["message"])
    elif what == "raw":
        CHANNEL.sendall(message["text"].encode())
    elif what == "long":
        around = len(json.dumps({"type": "long", "data": ""}))
        say({"type": "long", "data": "x" * (message["bytes"] - around)})
    elif what == "flood":
        threading.Thread(target=flood, daemon=True).start()
    elif what == "node":
        script = "setTimeout(() => console.log('fine'), 100)"
        done = subprocess.run([message["node"], "-e", script], capture_output=True, text=True)
        say({"type": "node", "data": [done.returncode, done.stdout.strip()]})
    elif what == "close":
        CHANNEL.shutdown(socket.SHUT_RDWR)
    else:
        say({"type": "heard", "data": message})


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"{ME} {os.getpid()}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Answer)
threading.Thread(target=server.serve_forever, daemon=True).start()
say("ready")
with CHANNEL.makefile("rb", buffering=1024 * 1024) as lines:
    for line in lines:
        act(json.loads(line))
threading.Event().wait()
