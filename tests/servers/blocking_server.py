"""A thread that is blocked in accept(), and nothing else: the simplest server that there is.

    python3 blocking_server.py PORT

Answers "SLOT PID", one connection at a time. An accept() that fails ends it, as in most programs that are written like this.
"""

import os
import socket
import sys

BODY = f"{os.environ.get('REUSE_WORKER_ID', '-')} {os.getpid()}\n".encode()
ANSWER = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)

listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
listener.bind(("127.0.0.1", int(sys.argv[1])))
listener.listen(1024)
while True:
    connection, _ = listener.accept()
    with connection:
        try:
            connection.recv(4096)
            connection.sendall(ANSWER)
        except OSError:
            pass
