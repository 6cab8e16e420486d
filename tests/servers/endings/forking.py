"""Echoes lines; a process of its own serves each connection, as socketserver has it."""

import socketserver


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line)


class Server(socketserver.ForkingTCPServer):
    allow_reuse_address = True


Server(("127.0.0.1", 8080), Handler).serve_forever()
