"""A small asyncio HTTP server.

    python3 asyncio_server.py PORT [reuse-port]

Answers "SLOT PID" and keeps connections alive; GET /block?ms=N blocks the event loop for N ms, then answers. On SIGTERM it stops
listening, ends idle connections and exits.
"""

import asyncio
import os
import signal
import sys
import time

BODY = f"{os.environ.get('REUSE_WORKER_ID', '-')} {os.getpid()}\n".encode()
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
BLOCK = b"GET /block?ms="
FIRST_REQUEST_S = 2


async def main(port: int, reuse_port: bool) -> None:
    stop = asyncio.Event()
    idle = set()
    conversations = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversations.add(asyncio.current_task())
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                idle.discard(writer)
                if head.startswith(BLOCK):
                    time.sleep(int(head[len(BLOCK) :].split()[0]) / 1000)
                writer.write(ANSWER)
                await writer.drain()
                if stop.is_set() or b"connection: close" in head.lower():
                    break
                # Only a connection that has had an answer is idle: the others' first request may be on its way.
                idle.add(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            idle.discard(writer)
            writer.close()
            conversations.discard(asyncio.current_task())

    server = await asyncio.start_server(serve, "127.0.0.1", port, reuse_port=reuse_port or None)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    server.close()
    for writer in list(idle):
        writer.close()
    if conversations:
        await asyncio.wait(conversations, timeout=FIRST_REQUEST_S)


asyncio.run(main(int(sys.argv[1]), "reuse-port" in sys.argv[2:]))
