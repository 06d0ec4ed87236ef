"""A door between a unix socket and a TCP port: how a container without any network reaches the stack's MLflow.

Beside the server, `python door.py in SOCKET HOST PORT` takes what comes in at the socket to the port. In a container,
`python door.py out SOCKET PORT COMMAND …` listens on that port of the container's own loopback interface, takes what
comes in there to the socket, and becomes COMMAND. Only the standard library: it starts before all else.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

LOOPBACK = "127.0.0.1"
BACKLOG = 128
CHUNK = 2**16
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def let_in(path: Path, host: str, port: int) -> None:
    """Take every connection at the socket `path` to the TCP port `port` of `host`, until this process ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    path.chmod(0o666)  # MLflow has no login: whoever reaches the folder may as well use the port
    listening.listen(BACKLOG)
    asyncio.run(_pass_on(listening, lambda: asyncio.open_connection(host, port)))


def lead_out(path: Path, port: int, command: list[str]) -> None:
    """Take every connection at `port` of the loopback interface to the socket `path`, and become `command`."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((LOOPBACK, port))
    listening.listen(BACKLOG)
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the command may have something to say at its end
        asyncio.run(_pass_on(listening, lambda: asyncio.open_unix_connection(str(path))))
    listening.close()
    os.execvp(command[0], command)


async def _pass_on(listening: socket.socket, connect: Callable[[], Awaitable[Streams]]) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, onward = await connect()
        except OSError:  # the server is away: whoever asked sees the connection end, as without a door
            writer.close()
            return
        await asyncio.gather(_pump(reader, onward), _pump(there, writer))

    start = asyncio.start_unix_server if listening.family == socket.AF_UNIX else asyncio.start_server
    async with await start(connected, sock=listening) as server:
        await server.serve_forever()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):  # either side may hang up
        while chunk := await reader.read(CHUNK):
            writer.write(chunk)
            await writer.drain()
    writer.close()


if __name__ == "__main__":
    direction, place, *words = sys.argv[1:]
    if direction == "in":
        let_in(Path(place), words[0], int(words[1]))
    else:
        lead_out(Path(place), int(words[0]), words[1:])
