"""Listens at once, and says READY=1 to NOTIFY_SOCKET when a file is there.

    python3 notify_server.py PORT FILE [status=TEXT]

Answers "SLOT PID". GET of anything is answered before it is ready, too: only the message makes the difference.
"""

import asyncio
import os
import signal
import socket
import sys

BODY = f"{os.environ.get('REUSE_WORKER_ID', '-')} {os.getpid()}\n".encode()
ANSWER = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)


def notify(message: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.connect(os.environ["NOTIFY_SOCKET"])
        channel.send(message.encode())


async def main(port: int, file: str, status: str) -> None:
    stop = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(ANSWER)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    while not os.path.exists(file) and not stop.is_set():
        await asyncio.sleep(0.01)
    if status:
        notify(f"STATUS={status}")
    notify("READY=1")
    await stop.wait()
    server.close()
    await asyncio.sleep(0.2)


STATUS = next((flag[7:] for flag in sys.argv[3:] if flag.startswith("status=")), "")
asyncio.run(main(int(sys.argv[1]), sys.argv[2], STATUS))
