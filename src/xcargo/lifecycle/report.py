"""What a sweep found and did, for people and programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any

from xcargo.errors import XCargoError
from xcargo.lifecycle.entries import is_entry
from xcargo.lifecycle.plan import Count, Verdict
from xcargo.lifecycle.uploads import UploadCounts
from xcargo.stores.base import ObjectInfo

__all__ = ["Outcome", "Report"]

_MAX_ERRORS = 20


class Outcome(str, Enum):
    """What became of an object that was to be deleted. Append-only: reports hold these words."""

    DELETED = "deleted"
    QUARANTINED = "quarantined"
    EXPIRED = "expired"
    """A note took its place that says so."""
    GONE = "gone"
    """It was not there any more."""
    CHANGED = "changed"
    """Kept: it is not the object that was judged."""
    REFERENCED = "referenced"
    """Kept: a row refers to it now."""
    FAILED = "failed"
    """Kept: the store could not do it."""

    def __str__(self) -> str:
        return self.value


@dataclass
class Report:
    """What a sweep of one root found and did. Counts are of objects and their bytes."""

    root: str
    prefixes: tuple[str, ...]
    started_at: datetime
    """By the store's clock."""
    grace_seconds: float
    inventory_taken_at: datetime | None = None
    """If an inventory was read instead of a listing: when it was begun."""
    references: int = 0
    """Live references in the whole deployment (below the prefixes' Dags, if there are prefixes)."""
    missing: int | None = None
    """Live references below the root whose object was not in the listing; None without a listing of the whole root."""
    total: dict[Verdict, Count] = field(default_factory=dict)
    dags: dict[str, dict[Verdict, Count]] = field(default_factory=dict)
    entries: dict[Verdict, Count] = field(default_factory=dict)
    """Entries of ``memoize``, which no other count has."""
    refusals: list[str] = field(default_factory=list)
    applied: bool = False
    """Whether the sweep began to delete."""
    outcomes: dict[Outcome, Count] = field(default_factory=dict)
    entry_outcomes: dict[Outcome, Count] = field(default_factory=dict)
    uploads: UploadCounts | None = None
    """Unfinished uploads; None if the store has no such thing."""
    errors: list[str] = field(default_factory=list)
    """The first few of them."""

    def add_error(self, error: XCargoError) -> None:
        """Keep an error, if it is one of the first."""
        if len(self.errors) < _MAX_ERRORS:
            self.errors.append(str(error))

    def count(self, outcome: Outcome, info: ObjectInfo) -> None:
        """Count what became of an object, or of an entry."""
        outcomes = self.entry_outcomes if is_entry(info.key) else self.outcomes
        outcomes.setdefault(outcome, Count()).add(info.size_bytes)

    @property
    def deletable(self) -> Count:
        """The objects that go if the plan is applied."""
        return Count.sum(count for verdict, count in self.total.items() if verdict.deletes)

    @property
    def deletable_entries(self) -> Count:
        """The entries that do."""
        return Count.sum(count for verdict, count in self.entries.items() if verdict.deletes)

    @property
    def failed(self) -> bool:
        """Whether something could not be deleted."""
        return Outcome.FAILED in {*self.outcomes, *self.entry_outcomes} or bool(self.uploads and self.uploads.failed)

    def to_json(self) -> dict[str, Any]:
        """As JSON; every verdict and outcome that there is has an entry."""
        return {
            "root": self.root,
            "prefixes": list(self.prefixes),
            "started_at": self.started_at.isoformat(timespec="seconds"),
            "grace_seconds": self.grace_seconds,
            "inventory_taken_at": self.inventory_taken_at.isoformat(timespec="seconds")
            if self.inventory_taken_at
            else None,
            "references": self.references,
            "missing": self.missing,
            "refusals": self.refusals,
            "applied": self.applied,
            "objects": _counts(Verdict, self.total),
            "dags": {dag: _counts(Verdict, counts) for dag, counts in sorted(self.dags.items())},
            "outcomes": _counts(Outcome, self.outcomes),
            "entries": _counts(Verdict, self.entries),
            "entry_outcomes": _counts(Outcome, self.entry_outcomes),
            "uploads": asdict(self.uploads) if self.uploads else None,
            "errors": self.errors,
        }


def _counts(kind: type[Verdict | Outcome], counts: Any) -> dict[str, dict[str, int]]:
    return {str(one): asdict(counts.get(one, Count())) for one in kind}
