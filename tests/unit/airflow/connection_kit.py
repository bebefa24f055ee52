"""What the tests of connections share: a connection, a bare environment, a server that shows what reached the wire."""

from __future__ import annotations

import json
import os
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from xcargo.airflow.connections import access_of
from xcargo.model.root import Root
from xcargo.stores.base import Access, Limits, Store
from xcargo.stores.pool import open_store

SECRET = "s3cr3t-that-must-not-be-shown"
_CLOUDS = ("AWS_", "AZURE_", "GOOGLE_", "CLOUDSDK_", "IDENTITY_", "MSI_", "STORAGE_EMULATOR")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@dataclass
class Connection:
    """The attributes of an Airflow connection that are read, for tests that need no Airflow."""

    conn_type: str | None = "aws"
    host: str | None = None
    login: str | None = None
    password: str | None = None
    schema: str | None = None
    port: int | None = None
    extra: Any = field(default_factory=dict)
    conn_id: str = "my_conn"

    @property
    def extra_dejson(self) -> Any:
        return self.extra


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No cloud, no proxy and no home around the test, and no metadata service to ask. Gives the empty home."""
    for name in list(os.environ):
        if name.startswith(_CLOUDS) or name.lower() in _PROXIES:
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    return home


def access(url: str, connection: Any = None) -> Access:
    """What the product makes of a root's URL and its connection."""

    def get_connection(conn_id: str) -> Any:
        assert conn_id == Root.parse(url).connection_id
        return connection

    found = access_of(Root.parse(url), get_connection)
    # A forked child sends them through a pipe as JSON.
    json.dumps([dict(found.config), dict(found.client)])
    return found


def store(url: str, connection: Any = None) -> Store:
    """The store behind a connection."""
    return open_store(Root.parse(url), access(url, connection), Limits(timeout_seconds=5.0))


def from_json(described: Mapping[str, Any]) -> Connection:
    """A connection in the form of the server kit."""
    return Connection(**described)


@dataclass(frozen=True)
class Request:
    """A request as it came in; header names are lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Recorder:
    """A real HTTP server that says yes to everything and remembers it.

    A target that begins with a key of ``replies`` is answered with that JSON, or status and text, instead.
    """

    url: str
    requests: list[Request] = field(default_factory=list)
    replies: dict[str, Any] = field(default_factory=dict)

    @property
    def last(self) -> Request:
        return self.requests[-1]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


@contextmanager
def recorder(context: ssl.SSLContext | None = None) -> Iterator[Recorder]:
    """A recorder on loopback; over TLS with a context."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            record.requests.append(Request(self.command, self.path, headers, body))
            path = self.path.removeprefix(record.url)
            found = next((reply for start, reply in record.replies.items() if path.startswith(start)), None)
            status, payload = _reply(found() if callable(found) else found)
            self.send_response(502 if self.command == "CONNECT" else status)
            self.send_header("content-length", str(len(payload)))
            self.send_header("content-type", "application/json")
            self.send_header("etag", '"e"')
            self.end_headers()
            self.wfile.write(payload)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = do_CONNECT = answer

        def log_message(self, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *args: Any) -> None:
            pass  # a client that refuses our certificate hangs up

    with Server(("127.0.0.1", 0), Handler) as server:
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        record = Recorder(f"{'https' if context else 'http'}://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield record
        finally:
            server.shutdown()
            thread.join()


def _reply(found: Any) -> tuple[int, bytes]:
    if isinstance(found, tuple):
        return found[0], found[1].encode()
    return 200, b"" if found is None else json.dumps(found).encode()


def seconds_left(expires_at: datetime) -> float:
    """How long credentials still last."""
    return (expires_at - datetime.now(expires_at.tzinfo)).total_seconds()
