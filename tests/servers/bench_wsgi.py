"""bench-server.js once more, for gunicorn: GET /block/MS or /spin/MS answers "- PID"."""

import os
import time


def application(environ, start_response):
    _, kind, milliseconds = (environ["PATH_INFO"] + "//").split("/")[:3]
    seconds = float(milliseconds or 0) / 1000
    if kind == "spin":
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass
    elif seconds > 0:
        time.sleep(seconds)
    body = f"- {os.getpid()}\n".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
