"""What the tests of connections share: connections, a bare environment, a server that records what reaches the wire."""

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
from xcargo.stores import open_store
from xcargo.stores.base import Access, Limits, Store

SECRET = "s3cr3t-that-must-not-be-shown"
_CLOUDS = ("AWS_", "AZURE_", "GOOGLE_", "CLOUDSDK_", "IDENTITY_", "MSI_", "STORAGE_EMULATOR")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@dataclass
class Connection:
    """The attributes of an Airflow connection that are read."""

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
    set_variables(monkeypatch, {"HOME": str(home), "AWS_EC2_METADATA_DISABLED": "true", "NO_GCE_CHECK": "true"})
    return home


def set_variables(monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def access(url: str, connection: Any = None) -> Access:
    """What the product makes of a root's URL and its connection."""

    def get_connection(conn_id: str) -> Any:
        assert conn_id == Root.parse(url).connection_id
        return connection

    made = access_of(Root.parse(url), get_connection)
    # A forked child sends them through a pipe as JSON.
    json.dumps([dict(made.config), dict(made.client)])
    return made


def options(url: str, connection: Any = None) -> dict[str, Any]:
    """All options of the client, credentials among them."""
    made = access(url, connection)
    credentials = dict(made.credentials()) if made.credentials else {}
    credentials.pop("expires_at", None)
    assert SECRET not in repr(made) + repr(made.credentials)
    return {**made.config, **made.client, **credentials}


def store(url: str, connection: Any = None, *, timeout_seconds: float = 5.0) -> Store:
    """The store behind a connection."""
    return open_store(Root.parse(url), access(url, connection), Limits(timeout_seconds=timeout_seconds))


def put(url: str, connection: Any = None, **limits: float) -> None:
    store(url, connection, **limits).put("key", [b"value"])


def put_and_get(url: str, connection: Any, key: str) -> None:
    opened = store(url, connection)
    opened.put(key, [b"value"])
    assert bytes(opened.get(key)) == b"value"


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
            reply = next((reply for start, reply in record.replies.items() if path.startswith(start)), None)
            status, payload = _reply(reply() if callable(reply) else reply)
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


def _reply(reply: Any) -> tuple[int, bytes]:
    if isinstance(reply, tuple):
        return reply[0], reply[1].encode()
    return 200, b"" if reply is None else json.dumps(reply).encode()


def seconds_left(expires_at: datetime) -> float:
    """How long credentials still last."""
    return (expires_at - datetime.now(expires_at.tzinfo)).total_seconds()
