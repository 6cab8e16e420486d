"""An ASGI app, for daphne, hypercorn and uvicorn."""

import asyncio
import os

BODY = f"{os.environ.get('REUSE_WORKER_ID', '-')} {os.getpid()}\n".encode()
PIECE = b"x" * 1_000_000


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise ValueError(scope["type"])
    while (await receive()).get("more_body"):
        pass
    path = scope["path"]
    length = {"/chunks": None, "/big": 50 * len(PIECE)}.get(path, len(BODY))
    headers = [] if length is None else [(b"content-length", str(length).encode())]
    if path == "/slow":
        await asyncio.sleep(int(scope["query_string"].removeprefix(b"ms=")) / 1000)
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if path == "/chunks":
        for number in range(20):
            if number:
                await asyncio.sleep(0.1)
            await send({"type": "http.response.body", "body": b"chunk\n", "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    elif path == "/big":
        for _ in range(50):
            await send({"type": "http.response.body", "body": PIECE, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    else:
        await send({"type": "http.response.body", "body": BODY})
