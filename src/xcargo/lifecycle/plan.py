"""Which objects of a root go and which stay: live references, a listing and a clock in, a verdict an object out. Pure.

An object is taken only if no live reference names it, and its key is one that we would have given, and the store itself
says that it is older than ``grace_seconds``; or if a retention rule lets its value expire. Everything else stays.
A :class:`SweepPlan` counts as it judges and holds nothing else, so that it serves a listing of any length.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from hashlib import blake2b

from xcargo.lifecycle.references import Run
from xcargo.lifecycle.retention import Rule
from xcargo.model.coordinate import dag_of, has_attempt, spellings
from xcargo.model.root import Root
from xcargo.stores.base import ObjectInfo, is_part

__all__ = [
    "BOOKKEEPING",
    "Count",
    "ExactKeySet",
    "Judgement",
    "KeySet",
    "LiveObjects",
    "Policy",
    "SweepPlan",
    "Verdict",
    "count_of",
    "too_much",
]

BOOKKEEPING = "~xcargo/"
"""Folder below a root for what sweeps note themselves. No coordinate has a segment of this name."""


class Verdict(str, Enum):
    """What becomes of an object, and why. Append-only: reports hold these words."""

    LIVE = "live"
    """A row refers to it."""
    RETAINED = "retained"
    """A row refers to it, and a retention rule that holds for the row keeps it."""
    YOUNG = "too_young"
    """Nothing refers to it, but a push may be about to."""
    UNKNOWN_AGE = "unknown_age"
    """Nothing refers to it, but the store does not tell when it was written."""
    UNSEEN = "cannot_be_told"
    """The rows that may refer to it cannot be read: of a Dag or an attempt that the REST API hides."""
    FOREIGN = "not_ours"
    """We would not have written an object under such a key."""
    ORPHAN = "orphan"
    """Taken: nothing refers to it, and nothing will."""
    EXPIRED = "expired"
    """Taken: a row refers to it, but a retention rule lets its value go."""

    @property
    def deletes(self) -> bool:
        """Whether an object with this verdict is taken."""
        return self in (Verdict.ORPHAN, Verdict.EXPIRED)

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Policy:
    """Bounds of a sweep. ``max_share``: the sweep is refused if it would take more than this share of our objects, by
    number or by bytes; None for no bound."""

    grace_seconds: float = 86400.0
    max_share: float | None = 0.5


@dataclass
class Count:
    """So many objects, of so many bytes."""

    objects: int = 0
    size_bytes: int = 0

    def add(self, size_bytes: int, objects: int = 1) -> None:
        """Count objects."""
        self.objects += objects
        self.size_bytes += size_bytes


@dataclass(frozen=True)
class Judgement:
    """The verdict on one object. ``rule`` is the text of the retention rule, if one decided."""

    verdict: Verdict
    dag_id: str | None
    rule: str | None = None


class LiveObjects:
    """What the live references say of the objects below one root. 8 bytes a reference; 16 more for one that expires."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._keys = KeySet()
        self._retained = KeySet()
        self._expired: dict[Rule, ExactKeySet] = {}
        self._known: KeySet | None = None
        self._dags_hidden = self._attempts_hidden = False
        self.references = 0
        """How many references were added, below whatever root."""

    def add_runs(self, runs: Iterable[Run], *, attempts_hidden: bool, dags_hidden: bool) -> None:
        """Note the runs that there are, where not every row can be read: of earlier attempts, of some Dags."""
        self._attempts_hidden, self._dags_hidden = attempts_hidden, dags_hidden
        self._known = self._known or KeySet()
        for run in runs:
            for dag in spellings(run.dag_id):
                self._known.add(dag)
                for name in spellings(run.run_id):
                    self._known.add(f"{dag}/{name}")

    def is_hidden(self, key: str) -> bool:
        """Whether rows that may refer to this object cannot be read."""
        if self._known is None:
            return False
        dag, run, _ = key.split("/", 2)
        if self._dags_hidden and dag not in self._known:
            return True
        return self._attempts_hidden and f"{dag}/{run}" in self._known and has_attempt(key)

    def add(self, uri: str, stored_bytes: int = 0, *, rule: Rule | None = None, expires: bool = False) -> None:
        """Note a live reference; ``rule`` is the retention rule that holds for it, by which it ``expires`` or not."""
        self.references += 1
        if not self._root.contains(uri):
            return
        key = uri[len(self._root.uri().rstrip("/")) + 1 :]
        self._keys.add(key)
        if rule is None:
            return
        if not expires:
            self._retained.add(key)
        else:
            # With its size: an object of another length is the note that an expired one left, or damaged.
            self._expired.setdefault(rule, ExactKeySet()).add(f"{stored_bytes} {key}")

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    def __len__(self) -> int:
        """How many objects below the root are referred to."""
        return len(self._keys)

    def rule_against(self, key: str, size_bytes: int) -> Rule | None:
        """The retention rule that lets this object expire. One reference that keeps it is enough to keep it."""
        if not self._expired or key in self._retained:
            return None
        return next((rule for rule, keys in self._expired.items() if f"{size_bytes} {key}" in keys), None)

    def is_retained(self, key: str) -> bool:
        """Whether a retention rule keeps this object."""
        return key in self._retained


@dataclass
class SweepPlan:
    """Judges one object after another, and counts. ``now`` is the store's clock before the references were read."""

    live: LiveObjects
    now: datetime
    policy: Policy
    total: dict[Verdict, Count] = field(default_factory=dict)
    dags: dict[str, dict[Verdict, Count]] = field(default_factory=dict)

    def judge(self, info: ObjectInfo) -> Judgement:
        """The verdict on an object of the listing, which is counted."""
        judgement = self._judge(info)
        self._count(self.total, judgement.verdict, info)
        if judgement.dag_id is not None:
            self._count(self.dags.setdefault(judgement.dag_id, {}), judgement.verdict, info)
        return judgement

    def _judge(self, info: ObjectInfo) -> Judgement:
        dag = _dag_of(info.key)
        if info.key in self.live:
            rule = self.live.rule_against(info.key, info.size_bytes)
            if rule is not None and self._age_seconds(info) >= max(rule.keep_seconds or 0, self.policy.grace_seconds):
                return Judgement(Verdict.EXPIRED, dag, rule.text)
            return Judgement(Verdict.RETAINED if self.live.is_retained(info.key) else Verdict.LIVE, dag)
        if dag is None:
            return Judgement(Verdict.FOREIGN, None)
        if self.live.is_hidden(info.key):
            return Judgement(Verdict.UNSEEN, dag)
        if info.last_modified is None:
            return Judgement(Verdict.UNKNOWN_AGE, dag)
        if self._age_seconds(info) <= self.policy.grace_seconds:
            return Judgement(Verdict.YOUNG, dag)
        return Judgement(Verdict.ORPHAN, dag)

    def _age_seconds(self, info: ObjectInfo) -> float:
        return -1.0 if info.last_modified is None else (self.now - info.last_modified).total_seconds()

    @staticmethod
    def _count(counts: dict[Verdict, Count], verdict: Verdict, info: ObjectInfo) -> None:
        counts.setdefault(verdict, Count()).add(info.size_bytes)

    @property
    def deletable(self) -> Count:
        """What the sweep would take."""
        return count_of(count for verdict, count in self.total.items() if verdict.deletes)

    @property
    def ours(self) -> Count:
        """All objects but those that are not ours."""
        return count_of(count for verdict, count in self.total.items() if verdict is not Verdict.FOREIGN)

    def refusals(self, *, any_reference: bool) -> list[str]:
        """Why the sweep must not take anything; empty if it may. ``any_reference``: whether the deployment has one."""
        found = too_much(self.deletable, self.ours, self.policy.max_share)
        if not any_reference:
            found.insert(0, _NO_REFERENCE)
        return found


def _dag_of(key: str) -> str | None:
    """The Dag of an object, or of a file that never became one; None if we would not have written it."""
    if is_part(key):  # its folder is that of an object, and its own name says nothing
        folder = key.rpartition("/")[0]
        return dag_of(f"{folder}/part~{0:016x}")
    return dag_of(key)


_NO_REFERENCE = (
    "There is not one live reference. A metadata database that was just set up, or the wrong one, looks like that. If "
    "all XComs are really gone, delete the folder by the store's own means"
)


def too_much(taken: Count, ours: Count, max_share: float | None) -> list[str]:
    """The refusal of a sweep that would take more than its bound, by number or by bytes."""
    if max_share is None or not taken.objects:
        return []
    share = max(taken.objects / ours.objects, taken.size_bytes / ours.size_bytes if ours.size_bytes else 0.0)
    if share <= max_share:
        return []
    why = (
        f"It would take {taken.objects:,} of {ours.objects:,} objects and {taken.size_bytes:,} of {ours.size_bytes:,} "
        f"bytes, more than the share of {max_share:g} that is allowed. If that is right, allow it: "
        f"--max-share {_up(share)}"
    )
    return [why]


def _up(share: float) -> str:
    """A share, rounded up to two digits."""
    return f"{min(1.0, -(-share * 100 // 1) / 100):g}"


def count_of(counts: Iterable[Count]) -> Count:
    """All of them together."""
    total = Count()
    for count in counts:
        total.add(count.size_bytes, count.objects)
    return total


_BUCKETS = 4096
_SHIFT = 52
_MASK = 0xFFFF_FFFF_FFFF_FFFF


class KeySet:
    """What was added is always found; a key that was not is found by a chance of its size in 2 ** 64.

    8 bytes a key. So it serves where a mistake keeps something: of live keys, never of those to delete. The hash is
    Python's own, seeded anew in each process, so nobody can choose keys that collide.
    """

    def __init__(self) -> None:
        self._buckets = [array("Q") for _ in range(_BUCKETS)]
        self._unsorted: set[int] = set()

    def add(self, key: str) -> None:
        """Add a key; twice is as good as once."""
        self.add_hash(hash(key) & _MASK)

    def add_hash(self, value: int) -> None:
        """Add what a key is hashed to, 64 bits."""
        bucket = value >> _SHIFT
        self._buckets[bucket].append(value)
        self._unsorted.add(bucket)

    def __contains__(self, key: str) -> bool:
        return self.has_hash(hash(key) & _MASK)

    def has_hash(self, value: int) -> bool:
        """Whether a hash was added."""
        bucket = value >> _SHIFT
        if bucket in self._unsorted:
            self._sort(bucket)
        found = self._buckets[bucket]
        at = bisect_left(found, value)
        return at < len(found) and found[at] == value

    def __len__(self) -> int:
        for bucket in tuple(self._unsorted):
            self._sort(bucket)
        return sum(map(len, self._buckets))

    def _sort(self, bucket: int) -> None:
        self._buckets[bucket] = array("Q", sorted(set(self._buckets[bucket])))
        self._unsorted.discard(bucket)


class ExactKeySet:
    """The same where a mistake would delete: two independent hashes of 64 bits, 16 bytes a key."""

    def __init__(self) -> None:
        self._halves = KeySet(), KeySet()

    def add(self, key: str) -> None:
        """Add a key; twice is as good as once."""
        for half, value in zip(self._halves, _hashes(key), strict=True):
            half.add_hash(value)

    def __contains__(self, key: str) -> bool:
        return all(half.has_hash(value) for half, value in zip(self._halves, _hashes(key), strict=True))

    def __len__(self) -> int:
        return len(self._halves[0])


def _hashes(key: str) -> tuple[int, int]:
    digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big")
