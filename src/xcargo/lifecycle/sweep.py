"""A sweep: from live references and a listing to fewer objects. Judges first, all of it; takes then, if it may.

The order is what makes it safe. The clock is read first, then the rows, then the listing. An object that is older than
the grace by that clock had its row long before the rows were read, if it ever had one; it is taken only if none of them
refers to it. What is taken is looked at once more. So pushes go on meanwhile, and a sweep that is killed has done
nothing by halves: the next one finds what is left.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, TYPE_CHECKING, Literal, NamedTuple

from xcargo.errors import AccessDeniedError, ObjectNotFoundError, StoreUnavailableError, SweepRefusedError, XCargoError
from xcargo.lifecycle.lock import SweepLock, store_clock
from xcargo.lifecycle.owner import Owner, claim, read_owner, refusal
from xcargo.lifecycle.plan import BOOKKEEPING, Count, LiveObjects, Policy, SweepPlan, Verdict, count_of
from xcargo.lifecycle.quarantine import QUARANTINE, move_there
from xcargo.lifecycle.references import ReferenceSource, XComFilter
from xcargo.lifecycle.retention import Expiry, Rule
from xcargo.model.coordinate import text_of
from xcargo.model.root import Root
from xcargo.model.tombstone import tombstone
from xcargo.stores.base import ObjectInfo, Store, is_part, list_all

if TYPE_CHECKING:
    from typing_extensions import Self

from dataclasses import asdict
from enum import Enum
from typing import Any

__all__ = ["Outcome", "Report", "Sweep", "folders", "shards"]

log = logging.getLogger(__name__)

_BATCH = 500
_MAX_ERRORS = 20
_CHECKED_RUNS = 10
"""So many runs of a batch are looked up again before it is taken."""

Advance = Callable[..., object]


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
    def deletable(self) -> Count:
        """What goes if the plan is applied."""
        return count_of(count for verdict, count in self.total.items() if verdict.deletes)

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


class _Candidate(NamedTuple):
    info: ObjectInfo
    verdict: Verdict
    rule: str | None


@dataclass
class Sweep:
    """Sweeps one root, or some prefixes of it (whole segments of object keys). A context manager: it holds a file.

    ``quarantine_seconds`` moves orphans below ``~xcargo/quarantine/`` instead of deleting them, and deletes what has
    lain there for longer. Memory: 8 bytes a live reference (:class:`~xcargo.lifecycle.plan.LiveObjects`);
    what is to be taken is noted in a temporary file.
    """

    store: Store
    root: Root
    source: ReferenceSource
    policy: Policy
    rules: Sequence[Rule] = ()
    prefixes: Sequence[str] = ()
    quarantine_seconds: float | None = None
    deployment: str | None = None
    """The name of the deployment whose rows ``source`` reads, if it has one."""
    claims: Literal["me", "shared"] | None = None
    """Whose the root is from now on, whatever it says itself."""
    workers: int = 32
    advance: Advance = field(default=lambda *_: None)
    _taken: IO[str] = field(init=False, repr=False)
    _live_now: LiveObjects | None = field(init=False, repr=False, default=None)
    _owner: Owner | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        self._taken = TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - closed with the sweep

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._taken.close()

    def plan(self) -> Report:
        """Judge every object. Takes nothing; writes one marker, to read the store's clock.

        A root that says that it belongs to another deployment is a refusal of the plan.

        Raises ReferencesUnavailableError when the references cannot be read to their end, and the store's errors.
        """
        owner = {"me": None, "shared": Owner(shared=True)}[self.claims] if self.claims else read_owner(self.store)
        not_ours = refusal(owner, self._me(), self.prefixes)
        self._owner = owner
        now = store_clock(self.store)
        self._live_now = live = self._read_references(now)
        plan = SweepPlan(live, now, self.policy)
        self._taken.seek(0)
        self._taken.truncate()
        found = 0
        for info in self._listing():
            judgement = plan.judge(info)
            found += judgement.verdict in (Verdict.LIVE, Verdict.RETAINED, Verdict.EXPIRED)
            if judgement.verdict.deletes:
                self._note(_Candidate(info, judgement.verdict, judgement.rule))
            self.advance()
        return Report(
            root=str(self.root),
            prefixes=tuple(self.prefixes),
            started_at=now,
            grace_seconds=self.policy.grace_seconds,
            references=live.references,
            missing=None if self.prefixes else max(0, len(live) - found),
            total=plan.total,
            dags=plan.dags,
            refusals=[*([not_ours] if not_ours else []), *plan.refusals(any_reference=self._has_references(live))],
        )

    def apply(self, report: Report) -> Report:
        """Take what was planned. Adds to the report what became of it.

        Raises SweepRefusedError if the plan was refused or another sweep is under way, and the store's errors if it
        refuses or stays away: what was taken until then is in the report. One or two requests an object.
        """
        if report.refusals:
            raise SweepRefusedError(report.refusals[0], where=self.root)
        report.applied = True
        with SweepLock(self.store, self.prefixes) as lock, ThreadPoolExecutor(self.workers, "xcargo-sweep") as pool:
            claim(self.store, self._owner, self._me(), self.prefixes, anew=self.claims is not None)
            for batch in self._batches():
                lock.renew()
                referenced = self._referenced_now(batch)

                def take(candidate: _Candidate, referenced: set[str] = referenced) -> Outcome | XCargoError:
                    if candidate.verdict is Verdict.ORPHAN and self.root.uri(candidate.info.key) in referenced:
                        return Outcome.REFERENCED
                    try:
                        return self._take(candidate, report.started_at)
                    except XCargoError as error:
                        return error

                self._tell(report, batch, pool.map(take, batch))
            if self.quarantine_seconds is not None:
                self._empty_quarantine(report)
        return report

    # --- whose it is --------------------------------------------------------------------------------------------------

    def _me(self) -> Owner:
        """This deployment; for a root that is to be shared, nobody alone."""
        if self.claims == "shared":
            return Owner(shared=True)
        place = self.source.place
        return Owner(self.deployment, place.get("database"), place.get("api"))

    # --- planning ----------------------------------------------------------------------------------------------------

    def _read_references(self, now: datetime) -> LiveObjects:
        """What the live references say, of the Dags that the prefixes may belong to."""
        live = LiveObjects(self.root)
        wheres = set(map(_where, self.prefixes)) or {XComFilter()}
        if XComFilter() in wheres:
            wheres = {XComFilter()}
        dags = {XComFilter(dag_id=where.dag_id) for where in wheres}
        if self.source.hides_attempts or self.source.hides_dags:
            runs = (run for where in dags for run in self.source.runs(where))
            live.add_runs(runs, attempts_hidden=self.source.hides_attempts, dags_hidden=self.source.hides_dags)
        expiry = Expiry(self.rules, now)
        if self.rules:
            expiry.learn_runs(run for where in dags for run in self.source.runs(where))
            expiry.learn(reference for where in dags for reference in self.source.iterate(where))
        for where in wheres:
            for reference in self.source.iterate(where):
                rule = expiry.rule_for(reference)
                expires = rule is not None and expiry.expires(reference, rule)
                live.add(reference.uri, reference.stored_bytes, rule=rule, expires=expires)
                self.advance()
        return live

    def _has_references(self, live: LiveObjects) -> bool:
        """Whether there is any live reference, be it of a Dag that is not swept now."""
        return bool(live.references) or (bool(self.prefixes) and next(iter(self.source.iterate()), None) is not None)

    def _listing(self) -> Iterator[ObjectInfo]:
        for prefix in self.prefixes or ("",):
            for info in list_all(self.store, prefix):
                if not info.key.startswith(BOOKKEEPING):
                    yield info

    def _note(self, candidate: _Candidate) -> None:
        info = candidate.info
        modified = info.last_modified.isoformat() if info.last_modified else None
        fields = (info.key, info.size_bytes, modified, info.e_tag, candidate.verdict.value, candidate.rule)
        self._taken.write(json.dumps(fields) + "\n")

    def _batches(self) -> Iterator[list[_Candidate]]:
        self._taken.seek(0)
        lines = iter(self._taken)
        while batch := list(islice(lines, _BATCH)):
            yield [_candidate(line) for line in batch]

    # --- taking ------------------------------------------------------------------------------------------------------

    def _referenced_now(self, batch: Iterable[_Candidate]) -> set[str]:
        """What rows of the batch's runs refer to at this moment, where that takes few look-ups."""
        orphans = [candidate.info.key for candidate in batch if candidate.verdict is Verdict.ORPHAN]
        wheres = {_where("/".join(key.split("/", 2)[:2])) for key in orphans}
        if len(wheres) > _CHECKED_RUNS or any(where.run_id is None for where in wheres):
            return set()
        return {reference.uri for where in wheres for reference in self.source.iterate(where)}

    def _take(self, candidate: _Candidate, now: datetime) -> Outcome:
        info = candidate.info
        try:
            found = self.store.head(info.key)
        except ObjectNotFoundError:
            return Outcome.GONE
        if not _is_same(found, info):
            return Outcome.CHANGED
        if candidate.verdict is Verdict.EXPIRED:
            self.store.put(info.key, [tombstone(candidate.rule or "", now, info.size_bytes)])
            return Outcome.EXPIRED
        if self.quarantine_seconds is not None and not is_part(info.key):
            move_there(self.store, info)
            return Outcome.QUARANTINED
        self.store.delete([info.key])
        return Outcome.DELETED

    def _tell(self, report: Report, batch: Sequence[_Candidate], done: Iterable[Outcome | XCargoError]) -> None:
        """Count a batch's outcomes. Raises the error of a store that will not do better with the next batch."""
        hopeless: XCargoError | None = None
        for candidate, outcome in zip(batch, done, strict=True):
            if isinstance(outcome, XCargoError):
                report.count(Outcome.FAILED, candidate.info.size_bytes)
                if len(report.errors) < _MAX_ERRORS:
                    report.errors.append(str(outcome))
                if isinstance(outcome, (AccessDeniedError, StoreUnavailableError)):
                    hopeless = outcome
            else:
                report.count(outcome, candidate.info.size_bytes)
            self.advance()
        if hopeless is not None:
            raise hopeless

    def _empty_quarantine(self, report: Report) -> None:
        """Delete what has lain in quarantine for long enough."""
        oldest = report.started_at - timedelta(seconds=self.quarantine_seconds or 0)
        for prefix in self.prefixes or ("",):
            for info in list_all(self.store, f"{QUARANTINE}/{prefix}".rstrip("/")):
                if info.last_modified is None or info.last_modified >= oldest:
                    continue
                if self._live_now is None or info.key.removeprefix(f"{QUARANTINE}/") in self._live_now:
                    report.count(Outcome.REFERENCED, info.size_bytes)  # somebody should restore it
                    continue
                self.store.delete([info.key])
                report.count(Outcome.DELETED, info.size_bytes)


def _candidate(line: str) -> _Candidate:
    key, size_bytes, modified, e_tag, verdict, rule = json.loads(line)
    at = datetime.fromisoformat(modified) if modified else None
    return _Candidate(ObjectInfo(key, size_bytes, at, e_tag), Verdict(verdict), rule)


def _is_same(found: ObjectInfo, judged: ObjectInfo) -> bool:
    """Whether an object is still the one of the listing. Without ETags, times are compared to the second."""
    if found.size_bytes != judged.size_bytes:
        return False
    if found.e_tag and judged.e_tag:
        return found.e_tag == judged.e_tag
    times = [info.last_modified and info.last_modified.replace(microsecond=0) for info in (found, judged)]
    return times[0] == times[1]


def _where(prefix: str) -> XComFilter:
    """The rows that may refer to objects below a prefix; more than that where a segment was cut."""
    ids = [text_of(segment) for segment in prefix.strip("/").split("/")[:2]]
    if not all(ids):
        return XComFilter()
    return XComFilter(ids[0], ids[1] if len(ids) > 1 else None)


def folders(store: Store) -> list[str]:
    """The folders at the top of a root, which are its Dags, in order; not that of sweeps' own notes.

    One request for a thousand of them on S3, GCS and Azure; other stores list everything.
    """
    directly = getattr(store, "folders", None)
    found: Iterable[str] = directly() if directly else (info.key.partition("/")[0] for info in store.list())
    return sorted(set(found) - {BOOKKEEPING.rstrip("/")})


def shards(store: Store, number: int) -> list[list[str]]:
    """The folders at the top of a root in at most ``number`` parts of about as many folders."""
    found = folders(store)
    return [found[n::number] for n in range(min(number, len(found)))]
