"""Serves two ports, and opens the second one a second after the first."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"hello"
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128


threading.Thread(target=Server(("127.0.0.1", 8080), Handler).serve_forever, daemon=True).start()
time.sleep(1)
Server(("127.0.0.1", 8081), Handler).serve_forever()
