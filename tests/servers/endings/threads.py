"""Python's own http.server, a thread for each connection, without shutdown code."""

import os
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

BODY = f"{os.environ.get('REUSE_WORKER_ID', '-')} {os.getpid()}\n".encode()
BIG = b"x" * 50_000_000


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        url = urlsplit(self.path)
        if url.path == "/chunks":
            self.chunks()
            return
        if url.path == "/slow":
            time.sleep(int(parse_qs(url.query)["ms"][0]) / 1000)
        body = BIG if url.path == "/big" else BODY
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def chunks(self):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number in range(20):
            if number:
                time.sleep(0.1)
            self.wfile.write(b"6\r\nchunk\n\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *arguments):
        pass


ThreadingHTTPServer(("127.0.0.1", 8080), Handler).serve_forever()
