"""What a scenario asks for, and what a round of it gave."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

__all__ = ["Extent", "Plan", "Sample", "Trial"]


Extent = Literal["quick", "release", "full"]


@dataclass(frozen=True)
class Plan:
    """How much to measure: the quick part, what a release's tables and plots need, or everything; and which values."""

    extent: Extent = "quick"
    payloads: tuple[str, ...] = ()
    """Instead of the scenario's own choice."""
    latencies_ms: tuple[int, ...] = (0, 16)

    @property
    def quick(self) -> bool:
        """Only the quick part."""
        return self.extent == "quick"

    def choose(
        self, quick: tuple[str, ...], release: tuple[str, ...], full: tuple[str, ...] | None = None
    ) -> tuple[str, ...]:
        """The payloads of a scenario that has a choice for each extent."""
        return self.payloads or {"quick": quick, "release": release, "full": full or release}[self.extent]


@dataclass(frozen=True)
class Trial:
    """One measurement, taken once a round, in a process of its own.

    ``measure`` and ``prepare`` are names of functions, ``module:function``. ``prepare`` runs once before the rounds,
    without added latency; what it returns reaches every ``measure`` as ``carry``. ``measure`` returns metric -> number,
    or a list of one number an operation. Metrics carry their unit: ``_seconds``, ``_bytes``, or a plain count.
    """

    case: str
    subject: str
    measure: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    prepare: str | None = None
    latency_ms: int = 0
    bare: bool = False
    """In a new interpreter, not in a child forked from a process that has imported Airflow."""
    count: bool = False
    """Let the traffic pass a relay that counts: adds ``requests``, ``sent_bytes`` and ``received_bytes``."""
    rounds: int | None = None
    """At most so many, where one takes minutes."""
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Sample:
    """The metrics of one round of a trial, or a note why there are none."""

    scenario: str
    case: str
    subject: str
    latency_ms: int
    round: int
    metrics: Mapping[str, float | list[float]] = field(default_factory=dict)
    note: str = ""
    store: str = ""
    """Over which store, if the run had several."""

    def to_line(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))
