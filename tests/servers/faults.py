"""FaultProxy: a relay that lets chosen requests meet a fault."""

from __future__ import annotations

import random
import re
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from .http1 import Head, Wire
from .relay import Exchange, Relay

FaultKind = Literal[
    "status",
    "refuse",
    "reset_before",
    "reset_upload",
    "reset_after",
    "reset_during",
    "truncate",
    "corrupt",
    "corrupt_upload",
    "stall",
    "drip",
    "latency",
]

_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Fault:
    """What goes wrong, for which requests and how often.

    | kind | what the client meets |
    |---|---|
    | status | `status` as the answer; the server never sees the request |
    | refuse | the port is closed and all connections are dropped, for `seconds`, or until `clear()` when that is 0 |
    | reset_before | connection reset; the server never sees the request |
    | reset_upload | connection reset after half of the request's body; the server sees the half and no more |
    | reset_after | connection reset; the server has done what was asked |
    | reset_during | the first half of the body, then a connection reset |
    | truncate | the first half of the body, then the end of the connection |
    | corrupt | one byte in the middle of the body flipped, the length as it was |
    | corrupt_upload | nothing: the server gets the request with one byte in the middle of its body flipped |
    | drip | the right head, then one byte of the body each `seconds` |
    | stall | no answer at all; the server never sees the request |
    | latency | the right answer, `seconds` later |

    Those that act on a body leave a request or reply without one as it is.
    """

    kind: FaultKind
    method: str | None = None
    """Only requests with this method."""
    match: str = ""
    """Only requests in whose path with query this regular expression is found."""
    times: int | None = 1
    """How many requests meet it; None for all. Not for refuse, which no request chooses."""
    skip: int = 0
    """How many requests that fit pass first."""
    status: int = 503
    code: str = "Injected"
    """What the body of a status says, as an S3 or Azure error code."""
    retry_after: int | None = None
    """Seconds, for the Retry-After header of a status."""
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in get_args(FaultKind):
            raise ValueError(f"no such fault: {self.kind!r}")
        if self.kind == "refuse" and (self.method or self.match or self.times != 1):
            raise ValueError("refuse acts on connections: method, match and times have no meaning")


@dataclass
class _Armed:
    fault: Fault
    left: int | None
    skip: int


class FaultProxy(Relay):
    """A Relay with faults. Each request meets at most one: the first added that fits.

    `requests` says in its third field which kind each request met.
    """

    def __init__(self, upstream_url: str) -> None:
        self._armed: list[_Armed] = []
        self._lock = threading.Lock()
        self._reopen: threading.Timer | None = None
        super().__init__(upstream_url)

    def add(self, fault: Fault) -> None:
        """Arm a fault. A refuse is in force when this returns."""
        if fault.kind != "refuse":
            with self._lock:
                self._armed.append(_Armed(fault, fault.times, fault.skip))
            return
        self._shut_door()
        if fault.seconds:
            self._reopen = threading.Timer(fault.seconds, self._end_refusal)
            self._reopen.daemon = True
            self._reopen.start()

    def clear(self) -> None:
        """Disarm every fault; a closed port opens again. Stalled requests stay stalled."""
        with self._lock:
            self._armed.clear()
        self._end_refusal()

    def close(self) -> None:
        """Stop listening and drop every connection, stalled ones included."""
        if self._reopen is not None:
            self._reopen.cancel()
        with self._lock:
            super().close()

    def handle(self, exchange: Exchange) -> None:
        fault = self._take(exchange)
        self.log(exchange, fault.kind if fault else None)
        if fault is None:
            exchange.forward()
        elif fault.kind == "status":
            _answer_status(exchange, fault)
        elif fault.kind == "reset_before":
            exchange.client.reset()
        elif fault.kind == "reset_after":
            exchange.ask_server()
            exchange.client.reset()
        elif fault.kind == "reset_upload":
            _reset_upload(exchange)
        elif fault.kind in ("truncate", "reset_during"):
            _truncate(exchange, reset=fault.kind == "reset_during")
        elif fault.kind == "corrupt":
            _corrupt(exchange)
        elif fault.kind == "corrupt_upload":
            exchange.forward(_flipped(exchange.read_body()))
        elif fault.kind == "drip":
            self._drip(exchange, fault.seconds)
        elif fault.kind == "stall":
            self._stall(exchange.client)
        elif fault.kind == "latency":
            time.sleep(fault.seconds)
            exchange.forward()

    def _take(self, exchange: Exchange) -> Fault | None:
        with self._lock:
            for armed in self._armed:
                fault = armed.fault
                if armed.left == 0 or fault.method not in (None, exchange.method):
                    continue
                if re.search(fault.match, exchange.path):
                    if armed.skip:
                        armed.skip -= 1
                        continue
                    if armed.left is not None:
                        armed.left -= 1
                    return fault
        return None

    def _stall(self, client: Wire) -> None:
        while not self.stopped.is_set() and not client.wait_for_close(_POLL_SECONDS):
            pass
        client.close()

    def _drip(self, exchange: Exchange, seconds: float) -> None:
        reply, body = _read_reply(exchange)
        exchange.client.send_head(reply)
        for n in range(len(body)):
            if self.stopped.wait(seconds):
                break
            exchange.client.send(b"1\r\n%b\r\n" % body[n : n + 1] if reply.is_chunked else body[n : n + 1])
        exchange.client.close()

    def _end_refusal(self) -> None:
        with self._lock:
            if not self._is_open and not self.stopped.is_set():
                self._open_door()


PASSING_FAULTS = (
    Fault("status", status=500),
    Fault("status", status=503, retry_after=1),
    Fault("status", status=429),
    Fault("reset_before"),
    Fault("reset_upload"),
    Fault("reset_after"),
    Fault("reset_during"),
    Fault("truncate"),
    Fault("latency", seconds=0.2),
)


class Flaky(FaultProxy):
    """Spoils a share of the requests, each in one of some ways, and counts: `met` by kind, "" for none.

    Faults that are armed meet the requests that it leaves alone.
    """

    def __init__(self, upstream_url: str, share: float, seed: int, faults: Sequence[Fault] = PASSING_FAULTS) -> None:
        self.share = share
        self.met: Counter[str] = Counter()
        self._faults, self._rng = faults, random.Random(seed)
        super().__init__(upstream_url)

    def _take(self, exchange: Exchange) -> Fault | None:
        with self._lock:
            fault = self._rng.choice(self._faults) if self._rng.random() < self.share else None
        fault = fault or super()._take(exchange)
        with self._lock:
            self.met[
                "" if fault is None else f"{fault.kind} {fault.status}" if fault.kind == "status" else fault.kind
            ] += 1
        return fault

    def log(self, exchange: Exchange, fault: str | None = None) -> None:
        """Counted above; a list of all would only grow."""


def _answer_status(exchange: Exchange, fault: Fault) -> None:
    exchange.read_body()
    headers = {"Content-Type": "application/xml"}
    if fault.retry_after is not None:
        headers["Retry-After"] = str(fault.retry_after)
    body = f"<Error><Code>{fault.code}</Code><Message>injected by FaultProxy</Message></Error>".encode()
    exchange.reply(fault.status, headers, body)


def _read_reply(exchange: Exchange) -> tuple[Head, bytes]:
    reply, server = exchange.ask_server()
    return reply, b"".join(server.read_body(reply, to=exchange.method))


def _truncate(exchange: Exchange, *, reset: bool) -> None:
    reply, body = _read_reply(exchange)
    exchange.client.send_head(reply)
    if not body:
        return
    half = body[: len(body) // 2]
    exchange.client.send(b"%x\r\n%b" % (len(body), half) if reply.is_chunked else half)
    if reset:
        exchange.client.reset()
    else:
        exchange.client.close()


def _corrupt(exchange: Exchange) -> None:
    reply, body = _read_reply(exchange)
    exchange.client.send_head(reply)
    exchange.client.send_body(reply, [_flipped(body)] if body else [])


def _reset_upload(exchange: Exchange) -> None:
    body = exchange.read_body()
    if body and not exchange.head.is_chunked:
        exchange.send_part_to_server(body[: len(body) // 2])
    exchange.client.reset()


def _flipped(body: bytes) -> bytes:
    middle = len(body) // 2
    return body[:middle] + bytes(byte ^ 0xFF for byte in body[middle : middle + 1]) + body[middle + 1 :]
