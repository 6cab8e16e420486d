"""Many listeners in one process, each with SO_REUSEPORT and a thread of its own.

usage: many_listeners.py PORT COUNT

SIGHUP opens COUNT more and then closes the first ones, as servers do that replace their processes or threads. SIGUSR1 closes all but COUNT // 2.
SIGTERM closes all and ends when every request is answered. `/slow` takes half a second.
"""
import os
import signal
import socket
import sys
import threading
import time

port, count = int(sys.argv[1]), int(sys.argv[2])
worker = os.environ.get("REUSE_WORKER_ID", "?")
opened = []
numbers = iter(range(10**9))


def answer(connection, thread):
    with connection:
        if b"/slow" in connection.recv(2000):
            time.sleep(0.5)
        body = f"{worker} {os.getpid()} {thread}\n".encode()
        connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def serve(thread, listener):
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=answer, args=(connection, thread)).start()


def open_all():
    for _ in range(count):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
        opened.append(listener)
        threading.Thread(target=serve, args=(next(numbers), listener), daemon=True).start()


def close(number):
    for listener in opened[:number]:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
    del opened[:number]


def replace():
    old = len(opened)
    open_all()
    # The new ones are there for a while before the old ones go.
    time.sleep(0.2)
    close(old)


# Waited for and not handled: a handler may miss a signal that comes right before the main thread goes to sleep.
signals = {signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM}
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
open_all()
while True:
    match signal.sigwait(signals):
        case signal.SIGHUP:
            replace()
        case signal.SIGUSR1:
            close(len(opened) - count // 2)
        case _:
            close(len(opened))
            sys.exit(0)
