"""Python's own HTTP server, which answers one request at a time.

    python3 http_server.py PORT [reuse-port] [slow=MS]

Answers "SLOT PID"; slow=MS: every request takes that long.
"""

import http.server
import os
import socketserver
import sys
import time

BODY = f"{os.environ.get('REUSE_WORKER_ID', '-')} {os.getpid()}\n".encode()
SLOW_S = next((int(flag[5:]) for flag in sys.argv if flag.startswith("slow=")), 0) / 1000


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        time.sleep(SLOW_S)
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, *_: object) -> None:
        """Only what goes wrong is written."""


class Server(socketserver.TCPServer):
    allow_reuse_address = True
    allow_reuse_port = "reuse-port" in sys.argv
    request_queue_size = 1024


Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
