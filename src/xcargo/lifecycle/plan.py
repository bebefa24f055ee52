"""Which objects below a root a sweep deletes: references, a listing and a clock in, a verdict an object out. Pure.

An object is deleted only if no row refers to it, xcargo itself wrote it, and it is older than the grace by the store's
own clock; or if a retention rule lets its value expire. Everything else stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Literal

from xcargo.lifecycle.key_sets import ExactKeySet, KeySet, KeysOnDisk
from xcargo.lifecycle.references import Run
from xcargo.lifecycle.retention import Rule
from xcargo.model.coordinate import Coordinate, dag_of, has_attempt, spellings, state_of
from xcargo.model.keys import Signer
from xcargo.model.root import Root
from xcargo.stores.base import ObjectInfo, is_part

__all__ = [
    "SCRATCH_DAG",
    "Count",
    "Judgement",
    "LiveObjects",
    "SweepOptions",
    "SweepPlan",
    "Verdict",
    "is_ours",
    "is_same",
    "is_scratch",
    "scratch_coordinate",
    "share_refusal",
]

SCRATCH_DAG = ".xcargo-scratch"
"""Dag of the objects, by their keys, that ``xcargo doctor`` and ``xcargo bench`` write and delete again."""


def scratch_coordinate(command: str, task_id: str = "store") -> Coordinate:
    """The coordinate for such objects of a command. What a killed run leaves is an orphan to a sweep."""
    return Coordinate(SCRATCH_DAG, command, task_id, "probe")


class Verdict(str, Enum):
    """What becomes of an object, and why. Append-only: reports hold these words."""

    LIVE = "live"
    """A row refers to it."""
    RETAINED = "retained"
    """A row refers to it, and a retention rule that holds for the row keeps it."""
    YOUNG = "too_young"
    """Nothing refers to it, but a push may be about to."""
    UNKNOWN_AGE = "unknown_age"
    """Nothing refers to it, but the store does not say when it was written."""
    UNSEEN = "cannot_be_told"
    """The rows that may refer to it cannot be read: of a Dag, an attempt or the state store, which REST hides.

    Of an entry of ``memoize``: it cannot be read itself, or there is no row by which to tell.
    """
    FOREIGN = "not_ours"
    """Nothing of xcargo writes an object under such a key, or it is below another root, inside this one."""
    ORPHAN = "orphan"
    """Deleted: nothing refers to it, and nothing will."""
    EXPIRED = "expired"
    """Replaced by a note: a row refers to it, but a retention rule lets its value go."""

    @property
    def deletes(self) -> bool:
        """Whether the sweep frees the bytes of an object with this verdict."""
        return self in (Verdict.ORPHAN, Verdict.EXPIRED)

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, kw_only=True)
class SweepOptions:
    """What a sweep may delete, and how it goes about it."""

    grace_seconds: float = 86400.0
    """Least age of what is deleted."""
    max_share: float | None = 0.5
    """The sweep is refused if it would delete a larger share of our objects, by number or bytes; None for no bound."""
    rules: tuple[Rule, ...] = ()
    """The retention rules of this root."""
    roots: tuple[Root, ...] = ()
    """All of the deployment: what is below one that is inside this one is not this one's."""
    signer: Signer = field(default=Signer(()), repr=False)
    """Verifies entries of ``memoize``."""
    prefixes: tuple[str, ...] = ()
    """Whole segments of object keys to sweep below; none for everything."""
    quarantine_seconds: float | None = None
    """Move orphans below ``~xcargo/quarantine/`` and delete what has been there for longer; None: delete at once."""
    deployment: str | None = None
    """The name of the deployment whose rows are read, if it has one."""
    claim: Literal["me", "shared"] | None = None
    """Whose the root is from now on, whatever its note says."""
    workers: int = 32
    lock_seconds: float = 180.0
    """A lock that was not renewed for so long is that of a killed sweep."""
    rechecked_runs: int = 10
    """The rows of a batch are looked up again right before the deletion if they belong to no more runs than this."""


@dataclass
class Count:
    """So many objects, of so many bytes."""

    objects: int = 0
    size_bytes: int = 0

    def add(self, size_bytes: int, objects: int = 1) -> None:
        """Count objects."""
        self.objects += objects
        self.size_bytes += size_bytes

    @classmethod
    def sum(cls, counts: Iterable[Count]) -> Count:
        """All of them together."""
        total = cls()
        for count in counts:
            total.add(count.size_bytes, count.objects)
        return total


@dataclass(frozen=True)
class Judgement:
    """The verdict on one object. ``rule`` is the text of the retention rule, if one decided."""

    verdict: Verdict
    dag_id: str | None
    rule: str | None = None


class LiveObjects:
    """What the live references say of the objects below one root. 8 bytes a reference; 16 more for one that expires.

    Args:
        root: Where the objects are.
        keys: Where to keep the 8 bytes.
    """

    def __init__(self, root: Root, keys: KeySet | KeysOnDisk | None = None) -> None:
        self._root = root
        self._key_start = len(root.uri().rstrip("/")) + 1
        self._keys = KeySet() if keys is None else keys
        self._retained = KeySet()
        self._expired: dict[Rule, ExactKeySet] = {}
        self._has_rules = False
        self._known: KeySet | None = None
        self._dags_hidden = self._attempts_hidden = self._state_hidden = False
        self.references = 0
        """How many references were added, below whatever root."""

    def add_runs(
        self, runs: Iterable[Run], *, attempts_hidden: bool, dags_hidden: bool, state_hidden: bool = False
    ) -> None:
        """Note the runs that there are, where not every row can be read: of some Dags, earlier attempts, or state."""
        self._attempts_hidden, self._dags_hidden, self._state_hidden = attempts_hidden, dags_hidden, state_hidden
        self._known = self._known or KeySet()
        for run in runs:
            for dag in spellings(run.dag_id):
                self._known.add(dag)
                for name in spellings(run.run_id):
                    self._known.add(f"{dag}/{name}")

    def is_hidden(self, key: str) -> bool:
        """Whether rows that may refer to this object cannot be read."""
        if self._known is None or not is_ours(key):
            return False
        if state_of(key) is not None:
            return self._state_hidden
        dag, run, _ = key.split("/", 2)
        if self._dags_hidden and dag not in self._known:
            return True
        return self._attempts_hidden and f"{dag}/{run}" in self._known and has_attempt(key)

    def key_of(self, uri: str) -> str | None:
        """The key of an object below the root; None of any other."""
        return uri[self._key_start :] if self._root.contains(uri) else None

    def add(self, uri: str, stored_bytes: int = 0, *, rule: Rule | None = None, expires: bool = False) -> None:
        """Note a live reference; ``rule`` is the retention rule that holds for it, by which it ``expires`` or not."""
        self.references += 1
        key = self.key_of(uri)
        if key is None:
            return
        self._keys.add(key)
        if rule is None:
            return
        self._has_rules = True
        if not expires:
            self._retained.add(key)
        else:
            # With its size: an object of another length is the note that an expired one left, or damaged.
            self._expired.setdefault(rule, ExactKeySet()).add(f"{stored_bytes} {key}")

    @property
    def depends_on_key_alone(self) -> bool:
        """Whether what is referred to is live, whatever its size and age: no retention rule holds for any of it."""
        return not self._has_rules

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
    """Judges one object after another, and counts. Holds nothing else, so it serves a listing of any length.

    ``now`` is the store's clock before the references were read.
    """

    live: LiveObjects
    now: datetime
    options: SweepOptions
    total: dict[Verdict, Count] = field(default_factory=dict)
    dags: dict[str, dict[Verdict, Count]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        keys = (self.live.key_of(root.uri()) for root in self.options.roots)
        self._inner_roots = tuple(f"{key}/" for key in keys if key is not None)

    def judge(self, info: ObjectInfo, *, is_live: bool | None = None) -> Judgement:
        """The verdict on an object of the listing, which is counted; ``is_live`` if that was looked up already."""
        judgement = self._judge(info, info.key in self.live if is_live is None else is_live)
        self.count(judgement, info.size_bytes)
        return judgement

    def count(self, judgement: Judgement, size_bytes: int, objects: int = 1) -> None:
        """Count objects with the same verdict."""
        self.total.setdefault(judgement.verdict, Count()).add(size_bytes, objects)
        if judgement.dag_id is not None:
            counts = self.dags.setdefault(judgement.dag_id, {})
            counts.setdefault(judgement.verdict, Count()).add(size_bytes, objects)

    def age_seconds(self, info: ObjectInfo) -> float:
        """How old an object is; negative if that is not known, or if it was stored since the plan was begun."""
        return -1.0 if info.last_modified is None else (self.now - info.last_modified).total_seconds()

    def _judge(self, info: ObjectInfo, is_live: bool) -> Judgement:
        dag = _dag_of(info.key)
        age_seconds = self.age_seconds(info)
        if is_live:
            rule = self.live.rule_against(info.key, info.size_bytes)
            if rule is not None and age_seconds >= max(rule.keep_seconds or 0, self.options.grace_seconds):
                return Judgement(Verdict.EXPIRED, dag, rule.text)
            return Judgement(Verdict.RETAINED if self.live.is_retained(info.key) else Verdict.LIVE, dag)
        if dag != SCRATCH_DAG:
            if dag is None or info.key.startswith(self._inner_roots):
                return Judgement(Verdict.FOREIGN, None)
            if self.live.is_hidden(info.key):
                return Judgement(Verdict.UNSEEN, dag)
        if info.last_modified is None:
            return Judgement(Verdict.UNKNOWN_AGE, dag)
        return Judgement(Verdict.YOUNG if age_seconds <= self.options.grace_seconds else Verdict.ORPHAN, dag)

    def refusals(self, *, has_references: bool, unfinished_uploads: int) -> list[str]:
        """Why the sweep must not delete anything; empty if it may, or if there is nothing to delete.

        Args:
            has_references: Whether the deployment has any live reference at all.
            unfinished_uploads: How many it would abort.
        """
        deletes = unfinished_uploads or any(verdict.deletes for verdict in self.total)
        reasons = (
            _NO_REFERENCE if deletes and not has_references else None,
            share_refusal(self.total, self.options.max_share),
        )
        return [reason for reason in reasons if reason is not None]


def is_same(now: ObjectInfo, judged: ObjectInfo) -> bool:
    """Whether an object is still the one of the listing.

    Its ETag alone does not tell: the same bytes may have been stored again. Times are compared to the second, since
    listings of some servers round them.
    """
    if now.size_bytes != judged.size_bytes or now.last_modified is None or judged.last_modified is None:
        return False
    # Some servers list ETags without quotes.
    if now.e_tag and judged.e_tag and now.e_tag.strip('"') != judged.e_tag.strip('"'):
        return False
    return abs((now.last_modified - judged.last_modified).total_seconds()) < 1


def is_scratch(key: str) -> bool:
    """Whether an object is one that ``xcargo doctor`` or ``xcargo bench`` writes and deletes again, unless killed."""
    return _dag_of(key) == SCRATCH_DAG


def is_ours(key: str) -> bool:
    """Whether xcargo would write an object under this key."""
    return _dag_of(key) is not None


def share_refusal(total: Mapping[Verdict, Count], max_share: float | None) -> str | None:
    """Why a sweep that would delete more than its share, by number or by bytes, is refused; None if it is not."""
    deletable = Count.sum(count for verdict, count in total.items() if verdict.deletes)
    ours = Count.sum(count for verdict, count in total.items() if verdict is not Verdict.FOREIGN)
    if max_share is None or not deletable.objects:
        return None
    share = max(deletable.objects / ours.objects, deletable.size_bytes / ours.size_bytes if ours.size_bytes else 0.0)
    if share <= max_share:
        return None
    rounded_up = min(1.0, -(-share * 100 // 1) / 100)
    return (
        f"It would delete {deletable.objects:,} of {ours.objects:,} objects and {deletable.size_bytes:,} of "
        f"{ours.size_bytes:,} bytes, more than the share of {max_share:g} that is allowed. If that is right, allow it: "
        f"--max-share {rounded_up:g}"
    )


_NO_REFERENCE = (
    "There is not one live reference. A metadata database that was just set up, or the wrong one, looks like that. If "
    "all XComs are really gone, delete the folder by the store's own means"
)


def _dag_of(key: str) -> str | None:
    """The Dag of an object, or of a file that never became one; None if a push would not have written it."""
    if is_part(key):  # it is in the folder of the object that it was to become
        folder = key.rpartition("/")[0]
        return dag_of(f"{folder}/part~{0:016x}") or dag_of(f"{folder}/~{0:016x}")
    return dag_of(key)
