"""All that can happen to an XCom, in any order, against a model that knows only rows and objects.

Whatever happens: no object that a row refers to is deleted, no upload aborted that a task is at work on, and no entry
deleted of memoize whose result is there. After a sweep past the grace: no other object is left, no upload, no entry.
The clock of tasks and sweeps is months off that of the store all the time.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.unit.lifecycle.kit import DAY, Deployment
from xcargo.errors import StoreUnavailableError, SweepRefusedError, XCargoError
from xcargo.lifecycle.bookkeeping import QUARANTINE, restore
from xcargo.lifecycle.report import Report
from xcargo.lifecycle.sweep import Sweep
from xcargo.model.coordinate import Coordinate, State, segment
from xcargo.model.envelope import is_envelope
from xcargo.pipeline.memo import FOLDER, Entry, Fingerprint, reuse
from xcargo.stores.base import Upload

GRACE = DAY
MARGIN = 600.0
"""A task writes its row within this time after its object."""

dags = st.sampled_from(["a", "b", "a b"])
runs = st.sampled_from(["r1", "r2", "r%"])
tasks = st.sampled_from(["t", "t.u"])
keys = st.sampled_from(["return_value", "k"])
maps = st.sampled_from([-1, 0, 11])
_numbers = count()
ACTS = ("push", "retry", "row", "run", "clean", "time", "migrate", "compute", "reuse")
"""What tasks and users do while a sweep is at work."""
states = st.none() | st.builds(State, st.none() | st.uuids().map(str))
coordinates = st.builds(Coordinate, dags, runs, tasks, keys, maps, state=states)
results = st.builds(Coordinate, dags, runs, tasks, st.just("return_value"), maps)
scopes = st.sampled_from(["task", "dag", "global"])
LIFETIME = 2.5 * GRACE
FORGED = f"{FOLDER}/a/t/{'0' * 32}.json"
pauses = st.sampled_from([1.0, MARGIN / 2, GRACE / 2, GRACE, 2 * GRACE])


class Killed(BaseException):
    """kill -9, as far as a test in one process can have it: no handler of ours may catch it to clean up."""


class Life(RuleBasedStateMachine):
    """Objects and rows of one deployment."""

    steps = 0

    @initialize(looks_again=st.booleans())
    def begin(self, looks_again: bool) -> None:
        """``looks_again``: whether a sweep looks runs up again right before; it must be right without that, too."""
        self.rechecked_runs = 10 if looks_again else 0
        self.here = Deployment(url=f"memory://machine-{next(_numbers)}/xcom")
        self.here.store.put("somebody/elses.txt", [b"precious"])
        self.attempts = 0
        self.flying: list[tuple[Coordinate, Any, float]] = []
        self.uploading: dict[str, tuple[Coordinate, float]] = {}
        self._begin_upload("somebody/elses.txt")
        self.seconds = 0.0
        self.stale: list[tuple[Sweep, Report]] = []
        self.noted: dict[str, Noted] = {}
        """Entries that a task may use, by their keys."""
        self.call = ("", "")

    # --- tasks ---

    @rule(at=coordinates)
    def push(self, at: Coordinate) -> None:
        """Also overwrites: the first object stays, as an orphan."""
        self._push(at)

    @rule(at=coordinates)
    def begin_push(self, at: Coordinate) -> None:
        """The object is there, the row is not yet."""
        self.here.run(at.dag_id, at.run_id)
        self.flying.append((at, self.here.pipeline.push("v", at), self.seconds))

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def end_push(self, data: st.DataObject) -> None:
        at, row, _ = self.flying.pop(data.draw(st.integers(0, len(self.flying) - 1)))
        if (at.dag_id, at.run_id) in self.here.known_runs:  # else the foreign key refuses the row
            self.here.table[at] = row

    @precondition(lambda self: self.flying)
    @rule()
    def crash_before_the_row(self) -> None:
        self.flying.pop()

    @rule(at=coordinates, crashes=st.booleans())
    def migrate(self, at: Coordinate, crashes: bool) -> None:
        """A value is stored, and then the row; killed in between, it is done again."""
        self.here.run(at.dag_id, at.run_id)
        row = self.here.pipeline.push("v", at)
        if not crashes:
            self.here.table[at] = row

    @rule(at=coordinates)
    def begin_upload(self, at: Coordinate) -> None:
        """A push in parts: there is no object until its end."""
        self.uploading[self._begin_upload(at.object_key())] = (at, self.seconds)

    @precondition(lambda self: self.uploading)
    @rule(data=st.data(), crashes=st.booleans())
    def end_upload(self, data: st.DataObject, crashes: bool) -> None:
        """It is completed and its row written; a task that was killed meanwhile does neither."""
        upload_id = data.draw(st.sampled_from(list(self.uploading)))
        at, _ = self.uploading.pop(upload_id)
        if not crashes:
            del self.here.store.unfinished[upload_id]
            self._push(at)

    @rule(at=results, scope=scopes, inline=st.booleans(), expires=st.booleans(), slow=st.booleans())
    def compute(self, at: Coordinate, scope: Any, inline: bool, expires: bool, slow: bool) -> None:
        """The result of a memoized task: object, entry, row. A small one is in the entry itself."""
        self.here.run(at.dag_id, at.run_id)
        row: Any = 3 if inline else self.here.pipeline.push("v", at)
        lifetime = timedelta(seconds=LIFETIME) if expires else None
        key = self.here.note(self._fingerprint(at, scope), row, at, expires=lifetime)
        self.noted[key] = Noted(at.dag_id, None if inline else row["uri"], self.here.store.now, lifetime)
        if self.call == ("delete", key):  # in the instant between the look and the deletion: it is computed again
            del self.noted[key]
        if slow and not inline:
            self.flying.append((at, row, self.seconds))
            self.time_passes(1.0)
        elif not inline:
            self.here.table[at] = row

    @rule(at=results, scope=scopes, crashes=st.booleans())
    def reuse(self, at: Coordinate, scope: Any, crashes: bool) -> None:
        """A hit, if there is an entry that leads to an object: a copy by the store, and the row."""
        self.here.run(at.dag_id, at.run_id)
        try:
            entry = self.here.entries.get(self._fingerprint(at, scope).key)
            row: Any = (
                entry
                and not entry.is_expired()
                and reuse(
                    self.here.pipeline,
                    entry.rows["return_value"],
                    at,
                    dag_id=entry.dag_id,
                    origin={"run": entry.run_id},
                )
            )
        except XCargoError:  # the object is gone
            return
        if is_envelope(row) and not crashes:
            self.here.table[at] = row

    @precondition(lambda self: self.here.table)
    @rule(data=st.data(), at=coordinates, crashes=st.booleans())
    def hand_on(self, data: st.DataObject, at: Coordinate, crashes: bool) -> None:
        """A task returns a handle that it got: a copy by the store, and the row."""
        self.here.run(at.dag_id, at.run_id)
        given = self._some_row(data)
        row = self.here.pipeline.push(self.here.pipeline.handle(self.here.table[given], given.dag_id), at)
        if not crashes:
            self.here.table[at] = row

    @rule(damage=st.sampled_from([b"", b"{}", b'{"__id__": "xcargo-memo/2"}']), data=st.data())
    def forge(self, damage: bytes, data: st.DataObject) -> None:
        """Somebody puts what is no entry in the place of one."""
        key = data.draw(st.sampled_from([FORGED, *self.noted]))
        self.here.store.put(key, [damage])
        self.noted.pop(key, None)

    @precondition(lambda self: self.here.table)
    @rule(data=st.data(), fails=st.booleans())
    def retry(self, data: st.DataObject, fails: bool) -> None:
        """Airflow 2.9 to 3.3: purge, delete the row, run again. A purge that fails leaves an orphan."""
        at = self._some_row(data)
        self._purge(self.here.table[at], fails)
        del self.here.table[at]
        self._push(at)

    @rule(at=coordinates)
    def attempt(self, at: Coordinate) -> None:
        """Airflow 3.4: a row of its own for each attempt, those before stay."""
        self.attempts += 1
        self._push(Coordinate(at.dag_id, at.run_id, at.task_id, at.key, at.map_index, f"{self.attempts:08x}-1b"))

    @precondition(lambda self: self.here.table)
    @rule(data=st.data(), row_first=st.booleans(), crashes=st.booleans())
    def xcom_delete(self, data: st.DataObject, row_first: bool, crashes: bool) -> None:
        """Purge, then the row; from 3.4 on the row, then purge. A crash before the row goes leaves it for a retry."""
        at = self._some_row(data)
        if row_first:
            row = self.here.table.pop(at)
            if not crashes:
                self._purge(row, fails=False)
        else:
            self._purge(self.here.table[at], fails=crashes)
            del self.here.table[at]

    # --- users, who tell us nothing ---

    @precondition(lambda self: self.here.table)
    @rule(data=st.data())
    def delete_row(self, data: st.DataObject) -> None:
        del self.here.table[self._some_row(data)]

    @rule(dag=dags, run=st.none() | runs)
    def delete_runs(self, dag: str, run: str | None) -> None:
        """A run, or with its Dag all of them; rows go with them."""
        for key in [k for k in self.here.known_runs if k[0] == dag and run in (None, k[1])]:
            del self.here.known_runs[key]
        self._forget_what_is_gone()
        for at in [at for at in self.here.table if (at.dag_id, at.run_id) not in self.here.known_runs]:
            del self.here.table[at]

    @rule(dag=dags)
    def db_clean(self, dag: str) -> None:
        for at in [at for at in self.here.table if at.dag_id == dag]:
            self.here.archive.append((at, self.here.table.pop(at)))

    @rule()
    def drop_archive(self) -> None:
        self.here.archive.clear()

    @rule(seconds=pauses)
    def time_passes(self, seconds: float) -> None:
        """A task that was killed never writes its row; one that lives does so in time."""
        self.seconds += seconds
        self.here.pass_time(seconds)
        for at, row, since in [f for f in self.flying if self.seconds - f[2] > MARGIN]:
            self.flying.remove((at, row, since))
        self.uploading = {u: f for u, f in self.uploading.items() if self.seconds - f[1] <= MARGIN}

    # --- sweeps ---

    @rule(data=st.data(), quarantine=st.sampled_from([None, 0.0, 3 * DAY]))
    def sweep(self, data: st.DataObject, quarantine: float | None) -> None:
        """With tasks and users at work, between any two of its calls."""
        busy = data.draw(
            st.lists(
                st.tuples(st.sampled_from(ACTS), coordinates),
                max_size=3,
            )
        )
        calls = [data.draw(st.integers(0, 12)) for _ in busy]
        seen = 0

        def meanwhile(verb: str = "", key: str = "") -> None:
            nonlocal seen
            seen += 1
            self.call = (verb, key)
            for (what, at), call in zip(busy, calls, strict=True):
                if call == seen:
                    self.here.store.before, before = lambda verb, key: None, self.here.store.before
                    self._do(what, at)
                    self.here.store.before = before

        self.here.store.before = meanwhile
        self.here.before_row = meanwhile
        try:
            self._sweep(quarantine_seconds=quarantine)
        finally:
            self.call = ("", "")
            self.here.store.before = lambda verb, key: None
            self.here.before_row = lambda: None

    @rule(call=st.integers(1, 30), quarantine=st.sampled_from([None, DAY]))
    def killed_sweep(self, call: int, quarantine: float | None) -> None:
        seen = 0

        def kill(verb: str, key: str) -> None:
            nonlocal seen
            seen += 1
            if seen >= call:
                raise Killed

        self.here.store.before = kill
        try:
            self._sweep(quarantine_seconds=quarantine)
        except Killed:
            pass
        finally:
            self.here.store.before = lambda verb, key: None

    @rule()
    def plan(self) -> None:
        """A sweep that will go on later, at whatever it finds then."""
        sweep = self.here.new_sweep(rechecked_runs=self.rechecked_runs)
        with ExitStack() as closing:
            closing.enter_context(sweep)
            self.stale.append((sweep, sweep.plan()))
            closing.pop_all()

    @precondition(lambda self: self.stale)
    @rule()
    def apply_an_old_plan(self) -> None:
        sweep, report = self.stale.pop()
        with sweep:
            try:
                sweep.apply(report)
            except SweepRefusedError:
                pass

    @rule(dag=dags)
    def sweep_a_dag(self, dag: str) -> None:
        self._sweep(prefixes=(segment(dag),))

    @rule()
    def restore(self) -> None:
        for info in list(self.here.store.list(QUARANTINE)):
            restore(self.here.store, info)

    @precondition(lambda self: self.here.table or self.here.archive)
    @rule()
    def sweep_past_the_grace(self) -> None:
        """Nothing is left that no row refers to."""
        self.flying.clear()
        self.uploading.clear()
        self.here.pass_time(GRACE + 1)
        report = self.here.sweep()
        assert not report.refusals
        assert [upload.key for upload in self.here.store.unfinished.values()] == ["somebody/elses.txt"]
        ours = {key for key in self.here.objects() if key != "somebody/elses.txt"}
        assert ours == self.here.referenced(), "an orphan is left"
        for key in self.here.entry_keys():
            entry, at = read_entry(self.here, key), self.here.store.written[key]
            assert entry is None or (at and self._leads_somewhere(Noted.of(entry, at))), "a stale entry"
        assert {key for key in self.here.notes() if not key.startswith((QUARANTINE, "~xcargo/clock"))} == set()

    # --- always ---

    @invariant()
    def every_row_has_its_object(self) -> None:
        type(self).steps += 1
        if not hasattr(self, "here"):
            return
        store = self.here.store.store
        sizes = {info.key: info.size_bytes for info in store.list()}
        for row in [*self.here.table.values(), *(row for _, row in self.here.archive), *(f[1] for f in self.flying)]:
            key = self.here.key_of(row)
            assert key in sizes, f"{key} is gone and a row refers to it"
            assert sizes[key] == row["stored_bytes"]
        self._forget_what_is_gone()
        assert self.noted.keys() <= sizes.keys(), "an entry that leads somewhere is gone"
        assert store.get("somebody/elses.txt") == b"precious"
        assert self.uploading.keys() <= self.here.store.unfinished.keys(), "an upload under way was aborted"

    def teardown(self) -> None:
        for sweep, _ in getattr(self, "stale", []):
            with sweep:
                pass

    # --- parts of the above ---

    def _begin_upload(self, key: str) -> str:
        upload_id = str(next(_numbers))
        self.here.store.unfinished[upload_id] = Upload(key, upload_id, self.here.store.now)
        return upload_id

    def _push(self, at: Coordinate) -> None:
        self.here.run(at.dag_id, at.run_id)
        self.here.table[at] = self.here.pipeline.push("v", at)

    def _fingerprint(self, at: Coordinate, scope: Any) -> Fingerprint:
        return Fingerprint(scope, at.dag_id, at.task_id, {"argument": "x"})

    def _forget_what_is_gone(self) -> None:
        self.noted = {key: noted for key, noted in self.noted.items() if self._leads_somewhere(noted)}

    def _leads_somewhere(self, noted: Noted) -> bool:
        """Whether an entry may be used: a row refers to its object, or its Dag has runs; its time is not over."""
        if noted.lifetime is not None and self.here.store.now - noted.at > noted.lifetime:
            return False
        if noted.uri is None:
            return any(dag == noted.dag_id for dag, _ in self.here.known_runs)
        rows = [*self.here.table.values(), *(row for _, row in self.here.archive), *(f[1] for f in self.flying)]
        return any(row["uri"] == noted.uri for row in rows)

    def _purge(self, row: Any, fails: bool) -> None:
        def fail(verb: str, key: str) -> None:
            raise StoreUnavailableError("busy")

        before = self.here.store.before
        self.here.store.before = fail if fails else lambda verb, key: None
        self.here.pipeline.purge(row)
        self.here.store.before = before

    def _some_row(self, data: st.DataObject) -> Coordinate:
        return data.draw(st.sampled_from(list(self.here.table)))

    def _do(self, what: str, at: Coordinate) -> None:
        if what == "push":
            self._push(at)
        elif what == "retry" and at in self.here.table:
            self._purge(self.here.table.pop(at), fails=False)
            self._push(at)
        elif what == "migrate":
            self.migrate(at, crashes=False)
        elif what == "compute":
            self.compute(replace(at, state=None), "global", inline=False, expires=False, slow=False)
        elif what == "reuse":
            self.reuse(replace(at, state=None), "global", crashes=False)
        elif what == "row":
            self.here.table.pop(at, None)
        elif what == "run":
            self.delete_runs(at.dag_id, at.run_id)
        elif what == "clean":
            self.db_clean(at.dag_id)
        elif what == "time":
            self.time_passes(2 * GRACE)

    def _sweep(self, **options: Any) -> None:
        try:
            self.here.sweep(rechecked_runs=self.rechecked_runs, **options)
        except SweepRefusedError:
            pass  # the lock of one that was killed a moment ago


@dataclass(frozen=True)
class Noted:
    """What the model knows of an entry."""

    dag_id: str
    uri: str | None
    at: datetime
    """By the store's clock."""
    lifetime: timedelta | None

    @classmethod
    def of(cls, entry: Entry, at: datetime) -> Noted:
        return cls(entry.dag_id, next(iter(entry.objects), None), at, entry.lifetime)


def read_entry(here: Deployment, key: str) -> Entry | None:
    try:
        return here.entries.get(key)
    except XCargoError:
        return None


STEPS = int(os.environ.get("XCARGO_MACHINE_STEPS", "600"))
"""Steps that the machine makes. ``make test`` makes few; 10,000 take a minute or two."""

LifeTest = Life.TestCase
LifeTest.settings = settings(max_examples=max(1, STEPS // 30), stateful_step_count=30, deadline=None)
