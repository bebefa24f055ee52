"""The cells of the matrix, and what each has to come to. Pure."""

from __future__ import annotations

import errno
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tests.servers import Fault

__all__ = ["BOUND_SECONDS", "FAULTS_OF", "KINDS", "OPERATIONS", "PARTS_BOUND_SECONDS", "Cell", "Result", "cells"]

BOUND_SECONDS = 4.0
"""timeout_seconds and purge_timeout_seconds of a cell."""

PARTS_BOUND_SECONDS = 12.0
"""The same of those that move megabytes: many cells at once do so, through a proxy in Python."""

KINDS = ("s3", "gcs", "azure")
OPERATIONS = ("push", "pull", "pull many", "purge", "push in parts", "read a part")
_READS = ("pull", "pull many", "read a part")
_WRITES = ("push", "push in parts")

VALUE, UNAVAILABLE, DENIED, FULL = "value", "StoreUnavailableError", "AccessDeniedError", "StorageFullError"
INTEGRITY, REFUSED, LEFT = "IntegrityError", "ConfigurationError", "left, logged"


@dataclass(frozen=True)
class FaultCase:
    """A fault of the matrix, and what may come of it."""

    name: str
    outcomes: tuple[str, ...]
    fault: Fault | None = None
    """What the proxy does."""
    orphan: bool = False
    """Whether the store may have done what nobody could learn of."""
    only: tuple[str, ...] = OPERATIONS
    endpoint: str = ""
    """Instead of the proxy's."""
    clock: str = ""
    """By how much the clock of the process is wrong."""
    call: tuple[str, int, int] | None = None
    """The system call that fails, with which error, and how often."""


def _call(call: str, error: str, outcome: str, only: tuple[str, ...] = ("push",), *, times: int = 1 << 30) -> FaultCase:
    name = f"{call}: {error}, once" if times == 1 else f"{call}: {error}"
    return FaultCase(name, (outcome,), only=only, call=(call, getattr(errno, error), times))


def _once_and_lasting(
    name: str,
    fault: Fault,
    *,
    once: tuple[str, ...] = (VALUE,),
    lasting: tuple[str, ...] = (UNAVAILABLE, LEFT),
    orphan: bool = False,
    only: tuple[str, ...] = OPERATIONS,
) -> list[FaultCase]:
    """The fault met by one request, and by all of them."""
    always = replace(fault, seconds=0.0) if fault.kind == "refuse" else replace(fault, times=None)
    return [
        FaultCase(f"{name}, once", once, fault, orphan, only),
        FaultCase(f"{name}, lasting", lasting, always, orphan, only),
    ]


FAULTS: tuple[FaultCase, ...] = (
    *_once_and_lasting("answer 0.3 s late", Fault("latency", seconds=0.3), lasting=(VALUE,)),
    *_once_and_lasting("500", Fault("status", status=500)),
    *_once_and_lasting("503", Fault("status", status=503)),
    *_once_and_lasting("503 with Retry-After: 1", Fault("status", status=503, retry_after=1)),
    *_once_and_lasting("429", Fault("status", status=429)),
    *_once_and_lasting("429 with Retry-After: 1", Fault("status", status=429, retry_after=1)),
    *_once_and_lasting("connection refused", Fault("refuse", seconds=0.4)),
    *_once_and_lasting("reset before the request", Fault("reset_before")),
    *_once_and_lasting("reset in the request's body", Fault("reset_upload")),
    *_once_and_lasting("reset after the request", Fault("reset_after"), orphan=True),
    *_once_and_lasting(
        "reset in the answer's body",
        Fault("reset_during"),
        lasting=(VALUE, UNAVAILABLE, LEFT, "StoreError"),
        only=_READS,
    ),
    *_once_and_lasting("answer cut short", Fault("truncate"), lasting=(VALUE, UNAVAILABLE, LEFT), only=_READS),
    *_once_and_lasting("answer altered", Fault("corrupt"), once=(INTEGRITY,), lasting=(INTEGRITY,), only=_READS),
    *_once_and_lasting(
        "upload altered",
        Fault("corrupt_upload", method="PUT"),
        once=(INTEGRITY, "StoreError", VALUE),
        lasting=(INTEGRITY, "StoreError"),
        only=_WRITES,
    ),
    *_once_and_lasting(
        "answer to a PUT lost", Fault("reset_after", method="PUT"), lasting=(VALUE, UNAVAILABLE), only=_WRITES
    ),
    *_once_and_lasting("no answer", Fault("stall")),
    *_once_and_lasting(
        "answer of a byte a second", Fault("drip", seconds=1), lasting=(VALUE, UNAVAILABLE, LEFT), only=_READS
    ),
    *_once_and_lasting(
        "credentials expire",
        Fault("status", status=403, code="ExpiredToken"),
        once=(VALUE, LEFT),
        lasting=(DENIED, LEFT),
    ),
    *_once_and_lasting(
        "credentials expire halfway",
        Fault("status", status=403, code="ExpiredToken", skip=2),
        lasting=(DENIED,),
        orphan=True,
        only=("pull many", "push in parts"),
    ),
    FaultCase("no such host", (UNAVAILABLE, LEFT), endpoint="http://no-such-host.invalid:9"),
    FaultCase("clock 20 minutes behind", (VALUE, DENIED, LEFT), clock="-20m"),
    FaultCase("clock 20 minutes ahead", (VALUE, DENIED, LEFT), clock="+20m"),
)

DISK_FAULTS: tuple[FaultCase, ...] = (
    FaultCase("disk full", (VALUE,), only=(*_READS, "purge")),
    FaultCase("disk full", (FULL,), only=_WRITES),
    FaultCase("disk read-only", (VALUE,), only=_READS),
    FaultCase("disk read-only", (DENIED, LEFT), only=(*_WRITES, "purge")),
    FaultCase("object cut short", (INTEGRITY,), only=_READS),
    FaultCase("object altered", (INTEGRITY,), only=_READS),
    FaultCase("object gone", ("ObjectNotFoundError",), only=_READS),
    FaultCase("object gone", (VALUE,), only=("purge",)),
    _call("open", "EACCES", DENIED, ("push", "pull")),
    _call("open", "EROFS", DENIED),
    _call("open", "ENAMETOOLONG", REFUSED),
    _call("open", "EMFILE", UNAVAILABLE, ("push", "pull")),
    _call("open", "ENOTCONN", UNAVAILABLE, ("push", "pull")),
    _call("open", "ESTALE", UNAVAILABLE, ("push", "pull", "read a part")),
    _call("open", "ESTALE", VALUE, ("push", "pull", "read a part"), times=1),
    _call("open", "EINTR", VALUE, ("push", "pull"), times=1),
    _call("read", "ESTALE", UNAVAILABLE, ("pull", "read a part")),
    _call("read", "ESTALE", VALUE, ("pull", "read a part"), times=1),
    _call("read", "EIO", UNAVAILABLE, ("pull", "read a part")),
    _call("mkdir", "EEXIST", REFUSED),
    _call("mkdir", "EMLINK", FULL),
    _call("mkdir", "ENOSYS", REFUSED),
    _call("write", "EDQUOT", FULL, _WRITES),
    _call("write", "EFBIG", FULL, _WRITES),
    _call("write", "EIO", UNAVAILABLE, _WRITES),
    _call("close", "EDQUOT", FULL),
    _call("fsync", "EIO", UNAVAILABLE, _WRITES),
    _call("fsync", "EINVAL", VALUE, _WRITES),
    _call("rename", "ENOSYS", REFUSED),
    _call("rename", "EPERM", REFUSED),
    _call("rename", "EOPNOTSUPP", REFUSED),
    _call("rename", "EINTR", UNAVAILABLE),
    _call("rename", "ENOENT", UNAVAILABLE),
    _call("unlink", "EBUSY", LEFT, ("purge",)),
)

FAULTS_OF = {**dict.fromkeys(KINDS, FAULTS), "file": DISK_FAULTS}


@dataclass(frozen=True)
class Cell:
    """One operation on one kind of store, under one fault."""

    kind: str
    case: FaultCase
    operation: str

    @property
    def name(self) -> str:
        return f"{self.kind} / {self.case.name} / {self.operation}"

    @property
    def seed(self) -> int:
        """From which the cell's data follow."""
        return zlib.crc32(self.name.encode())

    @property
    def bound_seconds(self) -> float:
        """``timeout_seconds`` of the cell."""
        return PARTS_BOUND_SECONDS if self.operation in ("push in parts", "read a part") else BOUND_SECONDS

    @property
    def most_seconds(self) -> float:
        """A push in parts is several requests one after another: to begin, the parts, to complete or to abort."""
        rounds = {"push in parts": 3, "pull many": 2}.get(self.operation, 1)
        return self.bound_seconds * rounds + 1.5


@dataclass(frozen=True)
class Result:
    """What a cell came to. ``leftovers`` names what it left behind."""

    cell: Cell
    outcome: str
    seconds: float
    leftovers: str

    @property
    def wrong(self) -> str:
        """Empty if all is as it must be, else what is not."""
        case = self.cell.case
        if self.outcome not in case.outcomes:
            return f"{self.outcome}, which must be one of {', '.join(case.outcomes)}"
        if self.leftovers and not case.orphan:
            return f"left behind: {self.leftovers}"
        if self.seconds > self.cell.most_seconds:
            return f"took {self.seconds:.1f} s, which must be within {self.cell.most_seconds:.1f} s"
        return ""

    @property
    def late(self) -> bool:
        """Whether the cell is red for want of time, and for nothing else."""
        out_of_time = self.outcome == UNAVAILABLE or self.seconds > self.cell.most_seconds
        return bool(self.wrong) and out_of_time and not self.leftovers


def cells(words: Sequence[str] = ()) -> list[Cell]:
    """All cells, or those whose name holds each of the words."""
    every = [
        Cell(kind, case, operation)
        for kind, cases in FAULTS_OF.items()
        for case in cases
        for operation in OPERATIONS
        if operation in case.only
    ]
    return [cell for cell in every if all(word in cell.name for word in words)]
