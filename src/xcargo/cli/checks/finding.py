"""Finding: what one check found, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from xcargo.errors import XCargoError

__all__ = ["Finding", "Status", "failure", "worst"]


class Status(str, Enum):
    """How a check ended, from best to worst."""

    OK = "ok"
    SKIPPED = "skipped"
    """Not looked at, because something before it failed or it does not apply."""
    WARNING = "warning"
    """Works, but not as one would want it."""
    FAILED = "failed"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Finding:
    """The result of a check. ``what`` and ``fix`` are sentences; neither holds a secret."""

    name: str
    """Stable, for scripts: ``group.check``."""
    status: Status
    what: str
    fix: str = ""
    milliseconds: float | None = None
    """How long the request took, where one was made."""


def failure(name: str, error: XCargoError, *, status: Status = Status.FAILED) -> Finding:
    """The finding for an error of ours: what and where, and its hint as the fix."""
    where = f" [{error.where}]" if error.where is not None else ""
    return Finding(name, status, f"{error.what.rstrip('.')}{where}", error.hint or "")


def worst(findings: Iterable[Finding]) -> Status:
    """The worst status among them; one that was skipped counts as nothing."""
    order = (Status.OK, Status.SKIPPED, Status.WARNING, Status.FAILED)
    return max((f.status for f in findings if f.status != Status.SKIPPED), key=order.index, default=Status.OK)
