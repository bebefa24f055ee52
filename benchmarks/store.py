"""The store under the trials: SeaweedFS on loopback or a given S3 server, plain, farther away, or counted."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from benchmarks import quick_s3
from benchmarks.delay import delayed
from tests.servers import Server, start
from tests.servers.relay import Exchange, Relay

__all__ = ["Endpoint", "Store", "opened"]

QUICK = "an S3 server in memory, on loopback"
SEAWEED = "SeaweedFS on loopback"


@dataclass(frozen=True)
class Endpoint:
    """An S3 server that is there already, with a bucket."""

    url: str
    access_key: str
    secret_key: str
    bucket: str
    region: str


class Counter(Relay):
    """Counts requests and the bytes of both directions, heads included."""

    def __init__(self, upstream_url: str) -> None:
        self.sent_bytes = self.received_bytes = 0
        super().__init__(upstream_url)

    def handle(self, exchange: Exchange) -> None:
        self.log(exchange)
        reply, server = exchange.ask_server()
        self.sent_bytes += len(exchange.head.raw) + (exchange.head.length or 0)
        self.received_bytes += len(reply.raw) + (reply.length or 0 if exchange.method != "HEAD" else 0)
        exchange.client.send_head(reply)
        exchange.client.send_body(reply, server.read_body(reply, to=exchange.method))
        if server.is_closed:
            exchange.client.close()

    def reset(self) -> None:
        """Count from nothing."""
        self.reset_requests()
        self.sent_bytes = self.received_bytes = 0

    def counts(self) -> dict[str, float]:
        """The metrics of a counted trial."""
        return {
            "requests": len(self.requests),
            "sent_bytes": self.sent_bytes,
            "received_bytes": self.received_bytes,
        }


class Store:
    """One S3 server and the ways to it. Everything is put below a prefix of this run's own."""

    def __init__(self, server: Server, name: str, stack: ExitStack) -> None:
        self.name = name
        self.root = f"{server.root}/bench-{secrets.token_hex(4)}"
        self._server = replace(server, connect=lambda url: _as_over_tls(server.connect(url)))
        self._stack = stack
        self._by_latency = {0: self._server}

    def env(self, latency_ms: int, counter: Counter | None = None) -> dict[str, str]:
        """The Airflow connection of one way to the store."""
        return self._via(counter.url).env() if counter else self._at(latency_ms).env()

    def counter(self, latency_ms: int) -> Counter:
        """A new counting way to the store; close it."""
        return Counter(self._at(latency_ms).endpoint)

    def raw(self, latency_ms: int) -> dict[str, Any]:
        """What a client without Airflow needs: endpoint, access_key, secret_key, region, bucket, prefix."""
        server = self._at(latency_ms)
        connection = server.connection
        return {
            "endpoint": connection["extra"]["endpoint_url"],
            "access_key": connection["login"],
            "secret_key": connection["password"],
            "region": connection["extra"]["region_name"],
            "bucket": server.bucket,
            "prefix": self.root.split("/", 3)[3],
        }

    def _at(self, latency_ms: int) -> Server:
        if latency_ms not in self._by_latency:
            parts = urlsplit(self._server.endpoint)
            if parts.scheme != "http":
                raise ValueError("latency can only be added to a server on plain http")
            address = self._stack.enter_context(delayed(f"{parts.hostname}:{parts.port or 80}", latency_ms))
            self._by_latency[latency_ms] = self._via(f"http://{address}")
        return self._by_latency[latency_ms]

    def _via(self, url: str) -> Server:
        return self._server.via(url)


@contextmanager
def opened(endpoint: Endpoint | None, *, quick: bool = True) -> Iterator[Store]:
    """The store to measure on: one in memory that costs next to nothing, or SeaweedFS, both new and on loopback; or
    the given one.
    """
    with ExitStack() as stack:
        if endpoint is None and quick:
            url = stack.enter_context(quick_s3.running())
            yield Store(_given(Endpoint(url, "xcargo", "xcargo-secret", quick_s3.BUCKET, "us-east-1")), QUICK, stack)
        elif endpoint is None:
            yield Store(stack.enter_context(start("s3")), SEAWEED, stack)
        else:
            yield Store(_given(endpoint), f"S3 server at {urlsplit(endpoint.url).netloc}", stack)


def _as_over_tls(connection: dict[str, Any]) -> dict[str, Any]:
    """The same connection, with bodies left out of the signature: over plain HTTP all clients hash them for it, over
    TLS, where values travel in earnest, none.
    """
    config = {"s3": {"payload_signing_enabled": False}}
    return {**connection, "extra": {**connection["extra"], "config_kwargs": config}}


def _given(endpoint: Endpoint) -> Server:
    return Server(
        kind="s3",
        endpoint=endpoint.url,
        root=f"s3://xcargo_bench@{endpoint.bucket}",
        connection_id="xcargo_bench",
        connect=functools.partial(_connection, endpoint),
        raw=None,  # type: ignore[arg-type]
        bucket=endpoint.bucket,
    )


def _connection(endpoint: Endpoint, url: str) -> dict[str, Any]:
    return {
        "conn_type": "aws",
        "login": endpoint.access_key,
        "password": endpoint.secret_key,
        "extra": {"endpoint_url": url, "region_name": endpoint.region},
    }
