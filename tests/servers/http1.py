"""HTTP/1.1 framing on a socket: heads kept byte for byte, bodies read and written in pieces."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

_PIECE_BYTES = 256 * 1024


@dataclass(frozen=True)
class Head:
    """The head of a request or reply: the raw bytes, and what they say."""

    raw: bytes
    first_line: str
    fields: Mapping[str, str]
    """Header fields under lower-case names; of a repeated one, the last."""

    @property
    def is_chunked(self) -> bool:
        return "chunked" in self.fields.get("transfer-encoding", "").lower()

    @property
    def length(self) -> int | None:
        """Content-Length in bytes, None when there is none."""
        text = self.fields.get("content-length")
        return None if text is None else int(text)

    def with_field(self, name: str, value: str | None) -> Head:
        """The same head with this value for one header field, or without the field."""
        prefix = name.lower().encode() + b":"
        first, *lines = self.raw.rstrip(b"\r\n").split(b"\r\n")
        kept = [line for line in lines if not line.lower().startswith(prefix)]
        added = [] if value is None else [f"{name}: {value}".encode("latin-1")]
        return parse_head(b"\r\n".join([first, *added, *kept, b"", b""]))


def parse_head(raw: bytes) -> Head:
    """A head from its bytes, the empty line at the end included."""
    first_line, *lines = raw.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines if line)
    return Head(raw, first_line, {name.strip().lower(): value.strip() for name, _, value in pairs})


class Wire:
    """A connected socket that speaks HTTP/1.1, as either side of it."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(None)
        self._socket = connection
        self._reader = connection.makefile("rb")

    def read_head(self) -> Head | None:
        """The next head; None when either side has closed."""
        if self.is_closed:
            return None
        lines: list[bytes] = []
        while (line := self._reader.readline()) not in (b"\r\n", b""):
            lines.append(line)
        return parse_head(b"".join([*lines, line])) if line else None

    def read_body(self, head: Head, to: str | None = None) -> Iterator[bytes]:
        """The body that follows a head, unchunked. `to` is the method that a reply answers.

        The wire is closed afterwards if the body was one that ends with its connection.
        """
        status = head.first_line.split(" ")[1] if to else ""
        if to == "HEAD" or status in ("204", "304"):
            return
        if head.is_chunked:
            yield from self._read_chunks()
        elif head.length is not None:
            yield from self._read_exactly(head.length)
        elif to:
            while piece := self._reader.read1(_PIECE_BYTES):
                yield piece
            self.close()

    def send_head(self, head: Head) -> None:
        """Send a head byte for byte."""
        self.send(head.raw)

    def send_body(self, head: Head, pieces: Iterable[bytes]) -> None:
        """Send a body in the framing that its head announced."""
        for piece in pieces:
            self.send(b"%x\r\n%b\r\n" % (len(piece), piece) if head.is_chunked else piece)
        if head.is_chunked:
            self.send(b"0\r\n\r\n")

    def send(self, data: bytes) -> None:
        """Send these bytes, all of them."""
        self._socket.sendall(data)

    @property
    def is_closed(self) -> bool:
        """Has this side closed?"""
        return self._reader.closed

    def is_stale(self) -> bool:
        """Between two messages: is there no use in sending another?"""
        if self.is_closed:
            return True
        try:
            self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True  # the peer's end, or bytes that belong to no reply

    def wait_for_close(self, seconds: float) -> bool:
        """Throw away what the peer sends; True once it has closed, False when time is up."""
        self._socket.settimeout(seconds)
        try:
            return not self._socket.recv(_PIECE_BYTES)
        except TimeoutError:
            return False
        finally:
            self._socket.settimeout(None)

    def hang_up(self) -> None:
        """End the connection; safe to call from another thread than the one that reads."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def reset(self) -> None:
        """Close with RST: the peer gets a connection reset, not an orderly end."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._reader.close()
        self._socket.close()

    def close(self) -> None:
        """Close in order; calling it again does nothing."""
        self.hang_up()
        self._reader.close()
        self._socket.close()

    def _read_exactly(self, size: int) -> Iterator[bytes]:
        while size:
            piece = self._reader.read1(min(size, _PIECE_BYTES))
            if not piece:
                raise ConnectionError("the peer closed in the middle of a body")
            size -= len(piece)
            yield piece

    def _read_chunks(self) -> Iterator[bytes]:
        while size := int(self._reader.readline().split(b";")[0] or b"0", 16):
            yield from self._read_exactly(size)
            self._reader.readline()
        while self._reader.readline() not in (b"\r\n", b""):
            pass  # trailers
