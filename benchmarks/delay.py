"""A wire with a delay: what a client sends reaches the server so many milliseconds later, the reply at once.

``python -m benchmarks.delay HOST:PORT MILLISECONDS`` prints the port it listens on and serves until standard input
ends. Bytes are not looked at, so a pipeline of them is delayed but not slowed, as by a long cable; a round trip costs
the delay once.
"""

from __future__ import annotations

import asyncio
import selectors
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_HIGH_WATER_BYTES = 4 * 1024 * 1024


class _End(asyncio.Protocol):
    """One end of a connection through the wire."""

    def __init__(self, delay_seconds: float) -> None:
        self.delay_seconds = delay_seconds
        self.peer: _End | None = None
        self.transport: asyncio.Transport | None = None
        self.early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.set_write_buffer_limits(_HIGH_WATER_BYTES)

    def data_received(self, data: bytes) -> None:
        if self.delay_seconds:
            asyncio.get_running_loop().call_later(self.delay_seconds, self._pass_on, data)
        else:
            self._pass_on(data)

    def _pass_on(self, data: bytes) -> None:
        if self.peer is None:
            self.early.append(data)
        elif self.peer.transport is not None and not self.peer.transport.is_closing():
            self.peer.transport.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.close()

    def pause_writing(self) -> None:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.resume_reading()


class _Front(_End):
    """The client's end: opens the way to the server."""

    def __init__(self, host: str, port: int, delay_seconds: float) -> None:
        super().__init__(delay_seconds)
        self.upstream = host, port

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.opening = asyncio.get_running_loop().create_task(self._open())

    async def _open(self) -> None:
        assert self.transport is not None
        try:
            _, back = await asyncio.get_running_loop().create_connection(lambda: _End(0), *self.upstream)
        except OSError:
            self.transport.abort()
            return
        back.peer, self.peer = self, back
        for data in self.early:
            self._pass_on(data)


async def _serve(host: str, port: int, delay_seconds: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Front(host, port, delay_seconds), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    ended = asyncio.Event()
    loop.add_reader(sys.stdin, ended.set)
    await ended.wait()


@contextmanager
def delayed(address: str, milliseconds: int) -> Iterator[str]:
    """The address (``host:port``) of a wire to ``address``, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.delay", address, str(milliseconds)]
    root = Path(__file__).resolve().parent.parent
    process = subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield f"127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.stdin.close()
        process.wait(10)


if __name__ == "__main__":
    address, _, port = sys.argv[1].rpartition(":")
    # epoll waits in whole milliseconds, select in microseconds.
    selecting = asyncio.SelectorEventLoop(selectors.SelectSelector())
    selecting.run_until_complete(_serve(address, int(port), float(sys.argv[2]) / 1000))
