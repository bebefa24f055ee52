"""The cells of the matrix, and what each has to come to. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.servers import Fault

__all__ = ["BOUND_SECONDS", "FAULTS_OF", "KINDS", "OPERATIONS", "PARTS_BOUND_SECONDS", "Cell", "Named", "cells"]

BOUND_SECONDS = 4.0
"""timeout_seconds and purge_timeout_seconds of a cell."""

PARTS_BOUND_SECONDS = 12.0
"""The same of those that move megabytes: many cells at once do so, through a proxy in Python."""

KINDS = ("s3", "gcs", "azure")
OPERATIONS = ("push", "pull", "pull many", "purge", "push in parts", "read a part")
_READS = ("pull", "pull many", "read a part")
_WRITES = ("push", "push in parts")

VALUE, UNAVAILABLE, DENIED = "value", "StoreUnavailableError", "AccessDeniedError"
INTEGRITY, LEFT = "IntegrityError", "left, logged"


@dataclass(frozen=True)
class Named:
    """A fault of the matrix: met by one request, or by all of them."""

    name: str
    faults: tuple[Fault, ...]
    lasts: bool
    outcomes: tuple[str, ...]
    """What may come of it."""
    orphan: bool = False
    """Whether the store may have done what nobody could learn of."""
    only: tuple[str, ...] = OPERATIONS
    endpoint: str = ""
    """Instead of the proxy's."""
    clock: str = ""
    """By how much the clock of the process is wrong."""


def _pair(
    name: str,
    once: Fault,
    *,
    lasting: Sequence[str] = (UNAVAILABLE, LEFT),
    passing: Sequence[str] = (VALUE,),
    orphan: bool = False,
    only: tuple[str, ...] = OPERATIONS,
) -> list[Named]:
    always = Fault(**{**vars(once), "times": None if once.kind != "refuse" else 1, "seconds": _lasting_seconds(once)})
    return [
        Named(f"{name}, once", (once,), False, tuple(passing), orphan, only),
        Named(f"{name}, lasting", (always,), True, tuple(lasting), orphan, only),
    ]


def _lasting_seconds(fault: Fault) -> float:
    return 0.0 if fault.kind == "refuse" else fault.seconds


FAULTS: tuple[Named, ...] = (
    *_pair("answer 0.3 s late", Fault("latency", seconds=0.3), lasting=[VALUE]),
    *_pair("500", Fault("status", status=500)),
    *_pair("503", Fault("status", status=503)),
    *_pair("503 with Retry-After: 1", Fault("status", status=503, retry_after=1)),
    *_pair("429", Fault("status", status=429)),
    *_pair("429 with Retry-After: 1", Fault("status", status=429, retry_after=1)),
    *_pair("connection refused", Fault("refuse", seconds=0.4)),
    *_pair("reset before the request", Fault("reset_before")),
    *_pair("reset in the request's body", Fault("reset_upload")),
    *_pair("reset after the request", Fault("reset_after"), orphan=True),
    *_pair(
        "reset in the answer's body",
        Fault("reset_during"),
        lasting=[VALUE, UNAVAILABLE, LEFT, "StoreError"],
        only=_READS,
    ),
    *_pair("answer cut short", Fault("truncate"), lasting=[VALUE, UNAVAILABLE, LEFT], only=_READS),
    *_pair("answer altered", Fault("corrupt"), lasting=[INTEGRITY], passing=[INTEGRITY], only=_READS),
    *_pair(
        "upload altered",
        Fault("corrupt_upload", method="PUT"),
        lasting=[INTEGRITY, "StoreError"],
        passing=[INTEGRITY, "StoreError", VALUE],
        only=_WRITES,
    ),
    *_pair("answer to a PUT lost", Fault("reset_after", method="PUT"), lasting=[VALUE, UNAVAILABLE], only=_WRITES),
    *_pair("no answer", Fault("stall")),
    *_pair("answer of a byte a second", Fault("drip", seconds=1), lasting=[VALUE, UNAVAILABLE, LEFT], only=_READS),
    *_pair(
        "credentials expire",
        Fault("status", status=403, code="ExpiredToken"),
        passing=[VALUE, LEFT],
        lasting=[DENIED, LEFT],
    ),
    *_pair(
        "credentials expire halfway",
        Fault("status", status=403, code="ExpiredToken", skip=2),
        passing=[VALUE],
        lasting=[DENIED],
        orphan=True,
        only=("pull many", "push in parts"),
    ),
    Named("no such host", (), True, (UNAVAILABLE, LEFT), endpoint="http://no-such-host.invalid:9"),
    Named("clock 20 minutes behind", (), True, (VALUE, DENIED, LEFT), clock="-20m"),
    Named("clock 20 minutes ahead", (), True, (VALUE, DENIED, LEFT), clock="+20m"),
)

FULL = "StorageFullError"
DISK_FAULTS: tuple[Named, ...] = (
    Named("disk full", (), True, (VALUE,), only=(*_READS, "purge")),
    Named("disk full", (), True, (FULL,), only=_WRITES),
    Named("disk read-only", (), True, (VALUE,), only=_READS),
    Named("disk read-only", (), True, (DENIED, LEFT), only=(*_WRITES, "purge")),
    Named("object cut short", (), True, (INTEGRITY,), only=_READS),
    Named("object altered", (), True, (INTEGRITY,), only=_READS),
    Named("object gone", (), True, ("ObjectNotFoundError",), only=_READS),
    Named("object gone", (), True, (VALUE,), only=("purge",)),
)


FAULTS_OF = {**dict.fromkeys(KINDS, FAULTS), "file": DISK_FAULTS}


@dataclass(frozen=True)
class Cell:
    """One cell."""

    kind: str
    fault: Named
    operation: str

    @property
    def name(self) -> str:
        return f"{self.kind} / {self.fault.name} / {self.operation}"

    def verdict(self, outcome: str, seconds: float, leftovers: str) -> str:
        """Empty if all is as it must be, else what is not."""
        if outcome not in self.fault.outcomes:
            return f"{outcome}, which must be one of {', '.join(self.fault.outcomes)}"
        if leftovers and not self.fault.orphan:
            return f"left behind: {leftovers}"
        if seconds > self.most_seconds:
            return f"took {seconds:.1f} s, which must be within {self.most_seconds:.1f} s"
        return ""

    @property
    def bound_seconds(self) -> float:
        """``timeout_seconds`` of the cell."""
        return PARTS_BOUND_SECONDS if self.operation in ("push in parts", "read a part") else BOUND_SECONDS

    @property
    def most_seconds(self) -> float:
        """A push in parts is several requests one after another: to begin, the parts, to complete or to abort."""
        rounds = {"push in parts": 3, "pull many": 2}.get(self.operation, 1)
        return self.bound_seconds * rounds + 1.5


def cells(words: Sequence[str] = ()) -> list[Cell]:
    """All cells, or those whose name holds each of the words."""
    found = [
        Cell(kind, fault, operation)
        for kind, faults in FAULTS_OF.items()
        for fault in faults
        for operation in OPERATIONS
        if operation in fault.only
    ]
    return [cell for cell in found if all(word in cell.name for word in words)]
