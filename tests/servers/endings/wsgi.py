"""A WSGI app, for gunicorn."""

import os
import time

PIECE = b"x" * 1_000_000


def chunks():
    for number in range(20):
        if number:
            time.sleep(0.1)
        yield b"chunk\n"


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/chunks":
        start_response("200 OK", [])
        return chunks()
    if path == "/big":
        start_response("200 OK", [("Content-Length", str(50 * len(PIECE)))])
        return [PIECE] * 50
    if path == "/slow":
        time.sleep(int(environ["QUERY_STRING"].removeprefix("ms=")) / 1000)
    body = f"{os.environ.get('REUSE_WORKER_ID', '-')} {os.getpid()}\n".encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
