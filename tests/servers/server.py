"""Server: what a test needs to know about one running store."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

from demo.processes import Process

from .relay import Relay

Kind = Literal["s3", "gcs", "azure"]

BUCKET = "xcom"


class Bucket(Protocol):
    """The bucket behind the product's back: own requests, own signing, never through a proxy."""

    def list_keys(self) -> list[str]:
        """Every key in the bucket, sorted."""

    def get(self, key: str) -> bytes:
        """The stored bytes. Raises FileNotFoundError when there is no such key."""

    def put(self, key: str, data: bytes) -> None:
        """Write, replacing what is there."""

    def delete(self, key: str) -> None:
        """Delete; a missing key counts as deleted."""


@dataclass(frozen=True)
class Server:
    """One running store with one bucket; it lives as long as the `start()` that gave it."""

    kind: Kind
    endpoint: str
    """Base URL for the product's client; for Azure it ends with the account name."""
    root: str
    """The xcargo root, such as `s3://xcargo_s3@xcom/demo`."""
    connection_id: str
    connect: Callable[[str], dict[str, Any]] = field(repr=False)
    """Endpoint -> Airflow connection."""
    raw: Bucket = field(repr=False)
    counter: Relay | None = field(default=None, repr=False)
    bucket: str = BUCKET
    process: Process | None = field(default=None, repr=False)
    """The program, to kill it and start it again; of S3 alone."""

    @property
    def connection(self) -> dict[str, Any]:
        """The Airflow connection in its JSON form: conn_type, login, password, host, extra."""
        return self.connect(self.endpoint)

    def env(self) -> dict[str, str]:
        """Environment variables that make the connection known to Airflow."""
        return {f"AIRFLOW_CONN_{self.connection_id.upper()}": json.dumps(self.connection)}

    def via(self, proxy_url: str) -> Server:
        """The same server with the product's traffic sent to a proxy, such as a FaultProxy."""
        path = urlsplit(self.endpoint).path
        return replace(self, endpoint=proxy_url.rstrip("/") + path)

    def list_keys(self) -> list[str]:
        """Every key in the bucket, sorted; not only those below `root`."""
        return self.raw.list_keys()

    def raw_get(self, key: str) -> bytes:
        """The stored bytes. Raises FileNotFoundError when there is no such key."""
        return self.raw.get(key)

    def raw_put(self, key: str, data: bytes) -> None:
        """Write, replacing what is there."""
        self.raw.put(key, data)

    def raw_delete(self, key: str) -> None:
        """Delete; a missing key counts as deleted."""
        self.raw.delete(key)

    def requests(self) -> list[tuple[str, str]]:
        """(method, path with query) of each request since the last reset, in order of arrival.

        Requests by the `raw_` methods are not among them. Raises RuntimeError unless the server
        was started with `count=True`.
        """
        return [(seen.method, seen.path) for seen in self._counter().requests]

    def sent_bytes(self) -> int:
        """Length of the bodies of these requests. Raises RuntimeError also if one does not say it."""
        sizes = [seen.body_bytes for seen in self._counter().requests]
        if None in sizes:
            raise RuntimeError("a request has a body of unknown length")
        return sum(filter(None, sizes))

    def reset_requests(self) -> None:
        """Forget the requests so far. Raises RuntimeError unless started with `count=True`."""
        self._counter().reset_requests()

    def _counter(self) -> Relay:
        if self.counter is None:
            raise RuntimeError(f"requests are not counted: use start({self.kind!r}, count=True)")
        return self.counter
