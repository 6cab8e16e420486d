"""Listens as Go >= 1.24 does: with MPTCP, and with plain TCP when MPTCP is refused.

    python3 mptcp_listener.py PORT

Prints which of the two it got; answers "SLOT PID", one connection at a time.
"""

import os
import socket
import sys

IPPROTO_MPTCP = 262


def listener(port: int) -> socket.socket:
    for protocol, name in ((IPPROTO_MPTCP, "MPTCP"), (socket.IPPROTO_TCP, "TCP")):
        try:
            made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol)
        except OSError as error:
            print(f"{name} refused: {error}", flush=True)
            continue
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(("127.0.0.1", port))
        made.listen(128)
        print(f"listening with {name}", flush=True)
        return made
    raise SystemExit("no protocol left")


def main() -> None:
    body = f"{os.environ.get('REUSE_WORKER_ID', '-')} {os.getpid()}\n".encode()
    answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    made = listener(int(sys.argv[1]))
    while True:
        connection, _ = made.accept()
        with connection:
            try:
                connection.recv(4096)
                connection.sendall(answer)
            except OSError:
                pass


main()
