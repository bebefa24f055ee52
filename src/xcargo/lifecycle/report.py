"""What a sweep found and did, to print and to keep."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any

from xcargo.lifecycle.plan import Count, Verdict, count_of

__all__ = ["Outcome", "Report"]


class Outcome(str, Enum):
    """What became of an object that was to be taken. Append-only: reports hold these words."""

    DELETED = "deleted"
    QUARANTINED = "quarantined"
    EXPIRED = "expired"
    """Its place holds a note now that says so."""
    GONE = "gone"
    """It was not there any more."""
    CHANGED = "changed"
    """Left: it is not the object that was judged."""
    REFERENCED = "referenced"
    """Left: a row refers to it now."""
    FAILED = "failed"
    """Left: the store could not do it."""

    @property
    def took(self) -> bool:
        """Whether its bytes are free now, or lie in quarantine."""
        return self in (Outcome.DELETED, Outcome.QUARANTINED, Outcome.EXPIRED)

    def __str__(self) -> str:
        return self.value


@dataclass
class Report:
    """One sweep of one root. Counts are of objects and their bytes."""

    root: str
    prefixes: tuple[str, ...]
    started_at: datetime
    """By the store's clock."""
    grace_seconds: float
    references: int = 0
    """Live references in the whole deployment (below the prefixes' Dags, if there are prefixes)."""
    missing: int | None = None
    """Live references below the root whose object was not in the listing; None if only a part was listed."""
    total: dict[Verdict, Count] = field(default_factory=dict)
    dags: dict[str, dict[Verdict, Count]] = field(default_factory=dict)
    refusals: list[str] = field(default_factory=list)
    applied: bool = False
    outcomes: dict[Outcome, Count] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    """The first few of them."""

    def count(self, outcome: Outcome, size_bytes: int) -> None:
        """Count what became of an object."""
        self.outcomes.setdefault(outcome, Count()).add(size_bytes)

    @property
    def taken(self) -> Count:
        """What goes if the plan is applied."""
        return count_of(count for verdict, count in self.total.items() if verdict.takes)

    @property
    def failed(self) -> bool:
        """Whether something that was to be taken could not be."""
        return Outcome.FAILED in self.outcomes

    def to_json(self) -> dict[str, Any]:
        """As JSON; every verdict and outcome that there is has an entry."""
        return {
            "root": self.root,
            "prefixes": list(self.prefixes),
            "started_at": self.started_at.isoformat(timespec="seconds"),
            "grace_seconds": self.grace_seconds,
            "references": self.references,
            "missing": self.missing,
            "refusals": self.refusals,
            "applied": self.applied,
            "objects": _counts(Verdict, self.total),
            "dags": {dag: _counts(Verdict, counts) for dag, counts in sorted(self.dags.items())},
            "outcomes": _counts(Outcome, self.outcomes),
            "errors": self.errors,
        }


def _counts(kind: type[Verdict | Outcome], counts: Any) -> dict[str, dict[str, int]]:
    return {str(one): asdict(counts.get(one, Count())) for one in kind}
