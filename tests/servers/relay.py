"""An HTTP/1.1 relay in threads of this process: logs each request and hands it on unchanged.

FaultProxy and the front for fake-gcs-server build on it by overriding `handle`.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit

from .http1 import Head, Wire
from .processes import free_ports

_Self = TypeVar("_Self", bound="Relay")

_CONNECT_SECONDS = 10.0


class Seen(NamedTuple):
    """One line of the request log."""

    method: str
    path: str
    """Path with query, as the client sent it."""
    fault: str | None = None
    """The kind of fault that met the request, if one did."""
    body_bytes: int | None = 0
    """Length of the request's body; None if its head does not say it."""


class Exchange:
    """One request from a client, and what is done about it."""

    def __init__(self, head: Head, client: Wire, upstream: Upstream) -> None:
        self.head = head
        self.client = client
        self.method, self.path, _ = head.first_line.split(" ", 2)
        self._upstream = upstream

    def read_body(self) -> bytes:
        """The whole request body."""
        return b"".join(self.client.read_body(self.head))

    def forward(self, body: bytes | None = None) -> None:
        """Hand the request to the server and its reply to the client, in pieces as they come.

        ``body`` stands in for a request body that has been read, and is as long.
        """
        reply, server = self.ask_server(body)
        self.client.send_head(reply)
        self.client.send_body(reply, server.read_body(reply, to=self.method))
        if server.is_closed:
            self.client.close()  # the only end that this reply has

    def send_part_to_server(self, data: bytes) -> None:
        """Hand on the head of the request and the beginning of its body, then hang up on the server."""
        server = self._upstream.connected()
        server.send_head(self.head)
        server.send(data)
        self._upstream.close()

    def ask_server(self, body: bytes | None = None) -> tuple[Head, Wire]:
        """Hand the request to the server; the head of its reply, with the body still to read."""
        server = self._upstream.connected()
        server.send_head(self.head)
        pieces = self.client.read_body(self.head) if body is None else [body] if body else []
        server.send_body(self.head, pieces)
        reply = server.read_head()
        while reply is not None and reply.first_line.split(" ")[1].startswith("1"):
            reply = server.read_head()
        if reply is None:
            raise ConnectionError("the server closed the connection without a reply")
        return reply, server

    def reply(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        """Answer the client here, without the server. Call it once the body has been read."""
        fields = {**headers, "Content-Length": str(len(body))}
        lines = [f"HTTP/1.1 {status} .", *(f"{k}: {v}" for k, v in fields.items())]
        head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
        self.client.send(head if self.method == "HEAD" else head + body)


class Upstream:
    """The server's end of one client connection: opened at first need, and kept."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._wire: Wire | None = None

    def connected(self) -> Wire:
        """A connection to the server that is still open, as far as can be known."""
        if self._wire is not None and self._wire.is_stale():
            self.close()
        if self._wire is None:
            self._wire = Wire(socket.create_connection(self._address, _CONNECT_SECONDS))
        return self._wire

    def close(self) -> None:
        """Close the connection if there is one."""
        if self._wire is not None:
            self._wire.close()
            self._wire = None


class Relay:
    """Listens on a loopback port of its own and relays to the host and port of `upstream_url`.

    The Host header goes through unchanged: AWS signatures cover it. A reply that the server does
    not give reaches the client as a closed connection.
    """

    def __init__(self, upstream_url: str) -> None:
        parts = urlsplit(upstream_url)
        self._upstream = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._port = free_ports(1)[0]
        self._seen: list[Seen] = []
        self._clients: set[Wire] = set()
        self._owner = os.getpid()
        self.stopped = threading.Event()
        self._open_door()

    @property
    def url(self) -> str:
        """Where clients reach the relay."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def requests(self) -> list[Seen]:
        """The requests since the last reset, in order of arrival."""
        return list(self._seen)

    def reset_requests(self) -> None:
        """Forget the requests so far."""
        self._seen.clear()

    def handle(self, exchange: Exchange) -> None:
        """Deal with one request. Raising OSError drops the client's connection."""
        self.log(exchange)
        exchange.forward()

    def log(self, exchange: Exchange, fault: str | None = None) -> None:
        """Add a line to the request log."""
        head = exchange.head
        self._seen.append(Seen(exchange.method, exchange.path, fault, None if head.is_chunked else head.length or 0))

    def close(self) -> None:
        """Stop listening and drop every connection; calling it again does nothing."""
        # A forked child that unwinds must not hang up on its parent's clients.
        if os.getpid() == self._owner:
            self.stopped.set()
            self._shut_door()

    def __enter__(self: _Self) -> _Self:  # noqa: PYI019 - typing.Self needs Python 3.11
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _open_door(self) -> None:
        listener = socket.create_server(("127.0.0.1", self._port), backlog=128)
        self._is_open = True
        self._door = threading.Thread(target=self._accept, args=(listener,), daemon=True)
        self._door.start()

    def _shut_door(self) -> None:
        """Close the port for real, so that clients are refused, and drop all connections."""
        if not self._is_open:
            return
        self._is_open = False
        # Wakes the thread in accept(); closing a listener from another thread would not.
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self._port), _CONNECT_SECONDS).close()
        self._door.join()
        for client in list(self._clients):
            client.hang_up()

    def _accept(self, listener: socket.socket) -> None:
        with listener:
            while True:
                connection, _ = listener.accept()
                if not self._is_open:
                    connection.close()
                    # Ends the listening even while a forked child holds the socket too.
                    with contextlib.suppress(OSError):
                        listener.shutdown(socket.SHUT_RDWR)
                    return
                client = Wire(connection)
                self._clients.add(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: Wire) -> None:
        upstream = Upstream(self._upstream)
        try:
            while (head := client.read_head()) is not None:
                if head.fields.get("expect", "").lower() == "100-continue":
                    client.send(b"HTTP/1.1 100 Continue\r\n\r\n")
                    head = head.with_field("expect", None)
                self.handle(Exchange(head, client, upstream))
        except OSError:
            pass  # one of the two went away, which the other learns by the closing below
        finally:
            self._clients.discard(client)
            upstream.close()
            client.close()
