"""A proxy that stops a request at a door until the test says what becomes of it."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field

from tests.servers.faults import PASSING_FAULTS, Fault, Flaky
from tests.servers.relay import Exchange

_SECONDS = 120.0


@dataclass
class Held:
    """The first request that fits; it waits from its arrival to `release` or `drop`."""

    method: str
    match: str
    skip: int
    answered: bool
    _arrived: threading.Event = field(default_factory=threading.Event)
    _decided: threading.Event = field(default_factory=threading.Event)
    _dropped: bool = False

    def wait(self, seconds: float = _SECONDS) -> None:
        """Wait for the request. Raises TimeoutError."""
        if not self._arrived.wait(seconds):
            raise TimeoutError(f"no {self.method} {self.match} came within {seconds:.0f} s")

    def release(self) -> None:
        """Let the request through, or the answer to it."""
        self._decided.set()

    def drop(self) -> None:
        """Hang up on the client."""
        self._dropped = True
        self._decided.set()

    def pass_through(self) -> None:
        """Called by the request's thread: returns when it may go on. Raises ConnectionError when it may not."""
        self._arrived.set()
        self._decided.wait(_SECONDS)
        if self._dropped:
            raise ConnectionError("dropped at the gate")


FAULTS = (
    *PASSING_FAULTS,
    Fault("status", status=429, retry_after=1),
    Fault("status", status=403, code="ExpiredToken"),
    Fault("corrupt"),
    Fault("drip", seconds=1),
    Fault("stall"),
)
"""All that a task gets over by itself or by its next try. An upload that is altered on the way only its own next try
would mend: those that pull it report the damage."""


class Gate(Flaky):
    """A proxy that holds requests, and lets a `share` of the others meet a fault: none until one is set."""

    def __init__(self, upstream_url: str) -> None:
        self._held: list[Held] = []
        self._holding = threading.Lock()
        super().__init__(upstream_url, share=0.0, seed=0, faults=FAULTS)

    def hold(self, method: str, match: str, *, skip: int = 0, answered: bool = False) -> Held:
        """Hold the next request with this method whose path the regular expression is found in.

        `skip` so many pass first. `answered` holds the answer: the server has done what was asked.
        """
        held = Held(method, match, skip, answered)
        with self._holding:
            self._held.append(held)
        return held

    def handle(self, exchange: Exchange) -> None:
        held = self._next(exchange)
        if held is None:
            super().handle(exchange)
            return
        if not held.answered:
            held.pass_through()
        reply, server = exchange.ask_server()
        body = list(server.read_body(reply, to=exchange.method))
        if held.answered:
            held.pass_through()
        exchange.client.send_head(reply)
        exchange.client.send_body(reply, body)

    def _next(self, exchange: Exchange) -> Held | None:
        with self._holding:
            for held in self._held:
                if held.method == exchange.method and re.search(held.match, exchange.path):
                    if held.skip:
                        held.skip -= 1
                        return None
                    self._held.remove(held)
                    return held
        return None
