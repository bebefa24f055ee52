"""A sweep: live references and a listing are judged first, all of it; then what may go is deleted.

The order makes it safe. The clock is read first, then the rows, then the listing. The row of an object that is older
than the grace by that clock was written long before the rows were read, if it ever was; the object is deleted only if
no row refers to it, and is checked once more right before. So pushes go on meanwhile, and the next sweep after one that
was killed finishes its work.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from functools import cache, partial
from itertools import chain, islice, product
from tempfile import TemporaryFile
from typing import NamedTuple

from xcargo.errors import AccessDeniedError, ObjectNotFoundError, StoreUnavailableError, SweepRefusedError, XCargoError
from xcargo.lifecycle.bookkeeping import (
    BOOKKEEPING,
    QUARANTINE,
    Owner,
    SweepLock,
    claim,
    move_to_quarantine,
    read_owner,
    refusal,
    store_clock,
)
from xcargo.lifecycle.columnar import judge_inventory, options_as_of
from xcargo.lifecycle.entries import entry_folders, is_entry, judged_entries
from xcargo.lifecycle.inventory import Inventory
from xcargo.lifecycle.key_sets import KeysOnDisk
from xcargo.lifecycle.plan import Count, Judgement, LiveObjects, SweepOptions, SweepPlan, Verdict, is_same, is_scratch
from xcargo.lifecycle.references import EVERYTHING, ReferenceSource, XComFilter
from xcargo.lifecycle.report import Outcome, Report
from xcargo.lifecycle.retention import FINISHED, Expiry
from xcargo.lifecycle.uploads import UploadSweep, upload_folders
from xcargo.model.coordinate import spellings, text_of
from xcargo.model.envelope import tombstone
from xcargo.model.root import Root
from xcargo.stores.base import ObjectInfo, Store, is_part, list_all

__all__ = ["Sweep", "folders", "shards"]

_BATCH = 500
_LOOK_AGAIN_SECONDS = 60
"""After so long it is asked again which runs are not finished."""


class _Candidate(NamedTuple):
    """An object that is to be deleted; a line of JSON in a temporary file until all were judged."""

    info: ObjectInfo
    verdict: Verdict
    rule: str | None

    def to_line(self) -> str:
        info = self.info
        modified = info.last_modified.isoformat() if info.last_modified else None
        return json.dumps((info.key, info.size_bytes, modified, info.e_tag, self.verdict.value, self.rule)) + "\n"

    @classmethod
    def from_line(cls, line: str) -> _Candidate:
        key, size_bytes, modified, e_tag, verdict, rule = json.loads(line)
        at = datetime.fromisoformat(modified) if modified else None
        return cls(ObjectInfo(key, size_bytes, at, e_tag), Verdict(verdict), rule)


class Sweep(AbstractContextManager["Sweep"]):
    """A sweep of one root: `plan`, then `apply`. A context manager, since temporary files are open meanwhile.

    Memory: 8 bytes a live reference (`LiveObjects`).

    Args:
        store: The store of the root.
        source: Where the rows of this deployment are read.
        root: Where the objects are.
        options: What may be deleted.
        inventory: Read instead of a listing. Then memory does not grow with the references.
    """

    def __init__(
        self,
        store: Store,
        source: ReferenceSource,
        *,
        root: Root,
        options: SweepOptions,
        inventory: Inventory | None = None,
    ) -> None:
        self._store = store
        self._source = source
        self._root = root
        self._options = options
        self._inventory = inventory
        self._candidates = TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - closed with the sweep
        self._live: LiveObjects | None = None
        self._has_references = False
        self._dags = {EVERYTHING}
        self._unfinished: tuple[float, set[str]] = (0.0, set())
        self._keys_on_disk = None if inventory is None else KeysOnDisk()
        self._owner: Owner | None = None
        self._uploads = UploadSweep(store)

    def __exit__(self, *_: object) -> None:
        self._candidates.close()
        if self._keys_on_disk is not None:
            self._keys_on_disk.close()

    def plan(self, on_progress: Callable[[], object] = lambda: None) -> Report:
        """Judge every object, once. Deletes nothing; writes one marker, to read the store's clock.

        A root that belongs to another deployment is a refusal in the report.

        Args:
            on_progress: Called for each reference and each object.

        Raises:
            ReferencesUnavailableError: The references cannot be read to their end.
            StoreError: The store cannot be listed.
        """
        self._owner = Owner(shared=True) if self._options.claim == "shared" else None
        if self._options.claim is None:
            self._owner = read_owner(self._store)
        not_ours = refusal(self._owner, self._me(), self._options.prefixes)
        now = store_clock(self._store)
        options = self._options if self._inventory is None else options_as_of(self._inventory, now, self._options)
        self._live = live = LiveObjects(self._root, self._keys_on_disk)
        self._read_references(live, now, on_progress)
        # With prefixes the Dags of other objects count, too.
        self._has_references = bool(live.references) or (
            bool(self._options.prefixes) and next(iter(self._source.iterate()), None) is not None
        )
        plan = SweepPlan(live, now, options)
        entries: dict[Verdict, Count] = {}
        for info, judgement in chain(self._judged(plan), self._judged_entries(live, now)):
            if is_entry(info.key):
                entries.setdefault(judgement.verdict, Count()).add(info.size_bytes)
            if judgement.verdict.deletes:
                self._candidates.write(_Candidate(info, judgement.verdict, judgement.rule).to_line())
            on_progress()
        present = Count.sum(plan.total.get(v, Count()) for v in (Verdict.LIVE, Verdict.RETAINED, Verdict.EXPIRED))
        uploads = self._uploads.plan(self._options.prefixes, now - timedelta(seconds=self._options.grace_seconds))
        return Report(
            root=str(self._root),
            prefixes=self._options.prefixes,
            started_at=now,
            grace_seconds=self._options.grace_seconds,
            inventory_taken_at=self._inventory.taken_at if self._inventory else None,
            references=live.references,
            missing=None if self._options.prefixes or self._inventory else max(0, len(live) - present.objects),
            total=plan.total,
            dags=plan.dags,
            entries=entries,
            uploads=uploads,
            refusals=[
                *([not_ours] if not_ours else []),
                *plan.refusals(
                    has_references=self._has_references, unfinished_uploads=uploads.unfinished if uploads else 0
                ),
            ],
        )

    def apply(self, report: Report, on_progress: Callable[[], object] = lambda: None) -> Report:
        """Delete what was planned, and add to the report what became of it. One or two requests an object.

        Args:
            report: Of `plan`.
            on_progress: Called for each object.

        Raises:
            SweepRefusedError: The plan was refused, another sweep is under way, or may be since the lock was lost.
            StoreError: The store refuses or stays away. The report has what was done until then.
        """
        if report.refusals:
            raise SweepRefusedError(report.refusals[0], where=self._root)
        options = self._options
        with (
            SweepLock(self._store, options.prefixes, expires_seconds=options.lock_seconds) as lock,
            ThreadPoolExecutor(options.workers, "xcargo-sweep") as pool,
        ):
            report.applied = True
            if self._has_references or options.claim is not None:  # else nothing tells that the root is ours
                claim(self._store, self._owner, self._me(), options.prefixes, replace_note=options.claim is not None)
            for batch in self._batches():
                remove = partial(self._remove, lock, report.started_at, self._needed_now(batch))
                self._count_outcomes(report, batch, pool.map(remove, batch), on_progress)
            self._empty_quarantine(report, lock)
            for error in self._uploads.abort(report.uploads, lock, pool):
                report.add_error(error)
        return report

    def _me(self) -> Owner:
        """This deployment; for a root that is to be shared, nobody alone."""
        if self._options.claim == "shared":
            return Owner(shared=True)
        origin = self._source.origin
        return Owner(self._options.deployment, origin.get("database"), origin.get("api"))

    # --- planning ----------------------------------------------------------------------------------------------------

    def _read_references(self, live: LiveObjects, now: datetime, on_progress: Callable[[], object]) -> None:
        """Add what the live references say, of the Dags that the prefixes may belong to."""
        source = self._source
        filters = set(map(_filter_of, self._options.prefixes)) or {EVERYTHING}
        if EVERYTHING in filters:
            filters = {EVERYTHING}
        self._dags = dags = {XComFilter(dag_id=where.dag_id) for where in filters}
        if source.hides_attempts or source.hides_dags or source.hides_state:
            live.add_runs(
                (run for where in dags for run in source.runs(where)),
                attempts_hidden=source.hides_attempts,
                dags_hidden=source.hides_dags,
                state_hidden=source.hides_state,
            )
        rules = [rule for rule in self._options.rules if not rule.memo]
        expiry = Expiry(rules, now)
        if rules:
            expiry.learn_runs(run for where in dags for run in source.runs(where))
            expiry.learn(reference for where in dags for reference in source.iterate(where))
        for where in filters:
            for reference in source.iterate(where):
                rule = expiry.rule_for(reference)
                expires = rule is not None and expiry.expires(reference, rule)
                live.add(reference.uri, reference.stored_bytes, rule=rule, expires=expires)
                on_progress()

    def _judged(self, plan: SweepPlan) -> Iterator[tuple[ObjectInfo, Judgement]]:
        if self._inventory is not None and self._keys_on_disk is not None:
            yield from judge_inventory(self._inventory, plan, self._keys_on_disk)
            return
        for prefix in self._options.prefixes or ("",):
            for info in list_all(self._store, prefix):
                if not info.key.startswith(BOOKKEEPING):
                    yield info, plan.judge(info)

    def _judged_entries(self, live: LiveObjects, now: datetime) -> Iterator[tuple[ObjectInfo, Judgement]]:
        dags_with_runs = cache(lambda: {run.dag_id for run in self._source.runs()})
        with ThreadPoolExecutor(self._options.workers, "xcargo-sweep") as pool:
            yield from judged_entries(
                self._store,
                SweepPlan(live, now, self._options),  # they are listed, not taken from an inventory
                pool,
                has_references=self._has_references,
                has_runs=lambda dag_id: self._source.hides_dags or dag_id in dags_with_runs(),
            )

    # --- deleting ----------------------------------------------------------------------------------------------------

    def _batches(self) -> Iterator[list[_Candidate]]:
        self._candidates.seek(0)
        lines = iter(self._candidates)
        while batch := list(islice(lines, _BATCH)):
            yield [_Candidate.from_line(line) for line in batch]

    def _needed_now(self, batch: Iterable[_Candidate]) -> set[str]:
        """Keys of the batch that stay: a row refers to the object by now, or the run of an expired one was cleared."""
        referenced, unfinished = self._referenced_now(batch), self._unfinished_now(batch)
        return {
            info.key
            for info, verdict, _ in batch
            if (verdict is Verdict.ORPHAN and self._root.uri(info.key) in referenced)
            or (verdict is Verdict.EXPIRED and "/".join(info.key.split("/", 2)[:2]) in unfinished)
        }

    def _referenced_now(self, batch: Iterable[_Candidate]) -> set[str]:
        """What rows of the batch's runs refer to at this moment, where that takes few look-ups."""
        orphans = [candidate.info.key for candidate in batch if candidate.verdict is Verdict.ORPHAN]
        filters = {_filter_of(key) for key in orphans if not is_scratch(key) and not is_entry(key)}
        if len(filters) > self._options.rechecked_runs or any(where.run_id is None for where in filters):
            return set()
        return {reference.uri for where in filters for reference in self._source.iterate(where)}

    def _unfinished_now(self, batch: Iterable[_Candidate]) -> set[str]:
        """Folders of the runs that are not finished, if a value of the batch expires: some may have been cleared."""
        if not any(candidate.verdict is Verdict.EXPIRED and not is_entry(candidate.info.key) for candidate in batch):
            return set()
        until, unfinished = self._unfinished
        if time.monotonic() >= until:
            runs = (run for where in self._dags for run in self._source.runs(where) if run.state not in FINISHED)
            unfinished = {
                "/".join(ids) for run in runs for ids in product(spellings(run.dag_id), spellings(run.run_id))
            }
            self._unfinished = time.monotonic() + _LOOK_AGAIN_SECONDS, unfinished
        return unfinished

    def _remove(self, lock: SweepLock, now: datetime, needed: set[str], candidate: _Candidate) -> Outcome | XCargoError:
        info = candidate.info
        if info.key in needed:
            return Outcome.REFERENCED
        try:
            lock.check()
            try:
                now_stored = self._store.head(info.key)
            except ObjectNotFoundError:
                return Outcome.GONE
            if not is_same(now_stored, info):
                return Outcome.CHANGED
            if is_entry(info.key):
                self._store.delete([info.key])
                return Outcome.DELETED
            if candidate.verdict is Verdict.EXPIRED:
                self._store.put(info.key, [tombstone(candidate.rule or "", now, info.size_bytes)])
                return Outcome.EXPIRED
            if self._options.quarantine_seconds is not None and not is_part(info.key) and not is_scratch(info.key):
                move_to_quarantine(self._store, info)
                return Outcome.QUARANTINED
            self._store.delete([info.key])
            return Outcome.DELETED
        except XCargoError as error:
            return error

    def _count_outcomes(
        self,
        report: Report,
        batch: Sequence[_Candidate],
        outcomes: Iterable[Outcome | XCargoError],
        on_progress: Callable[[], object],
    ) -> None:
        """Count a batch's outcomes. Raises an error after which the next batch would do no better."""
        lasting: XCargoError | None = None
        for candidate, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Outcome):
                report.count(outcome, candidate.info)
            elif isinstance(outcome, SweepRefusedError):  # nothing was tried
                lasting = outcome
            else:
                report.count(Outcome.FAILED, candidate.info)
                report.add_error(outcome)
                if isinstance(outcome, (AccessDeniedError, StoreUnavailableError)):
                    lasting = outcome
            on_progress()
        if lasting is not None:
            raise lasting

    def _empty_quarantine(self, report: Report, lock: SweepLock) -> None:
        """Delete what has been in quarantine for long enough."""
        if self._options.quarantine_seconds is None or not self._has_references:
            return
        newest = report.started_at - timedelta(seconds=self._options.quarantine_seconds)
        for prefix in self._options.prefixes or ("",):
            for info in list_all(self._store, f"{QUARANTINE}/{prefix}".rstrip("/")):
                if info.last_modified is None or info.last_modified >= newest:
                    continue
                key = info.key.removeprefix(f"{QUARANTINE}/")
                if self._live is None or key in self._live or self._live.is_hidden(key):
                    report.count(Outcome.REFERENCED, info)  # somebody should restore it
                    continue
                lock.check()
                self._store.delete([info.key])
                report.count(Outcome.DELETED, info)


def _filter_of(key: str) -> XComFilter:
    """The rows that may refer to objects below a key or prefix; more than that where a segment was cut."""
    ids = [text_of(segment) for segment in key.strip("/").split("/")[:2]]
    if not all(ids):
        return EVERYTHING
    return XComFilter(ids[0], ids[1] if len(ids) > 1 else None)


def folders(store: Store) -> list[str]:
    """The folders at the top of a root, which are its Dags, in order; not that of the sweeps' own notes.

    Those that only have entries of ``memoize`` are among them. One request for a thousand folders and for a thousand
    entries on S3, GCS and Azure; other stores list everything.
    """
    directly = getattr(store, "folders", None)
    names: Iterable[str] = directly() if directly else (info.key.partition("/")[0] for info in store.list())
    return sorted({*names, *upload_folders(store), *entry_folders(store)} - {BOOKKEEPING.rstrip("/")})


def shards(store: Store, number: int) -> list[list[str]]:
    """The folders at the top of a root in at most ``number`` parts of about as many folders."""
    names = folders(store)
    return [names[n::number] for n in range(min(number, len(names)))]
