"""A deployment in miniature: rows and runs in dictionaries, real pushes, a real store whose clock the test sets."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any, ClassVar

from tests.unit.conftest import make_pipeline
from xcargo.lifecycle.bookkeeping import NOTE
from xcargo.lifecycle.entries import is_entry
from xcargo.lifecycle.plan import SweepOptions
from xcargo.lifecycle.references import EVERYTHING, Reference, Run, XComFilter, XComRow, reference_in
from xcargo.lifecycle.report import Report
from xcargo.lifecycle.sweep import Sweep
from xcargo.model.coordinate import Coordinate
from xcargo.model.root import Root
from xcargo.pipeline.memo import Entries, Entry, Fingerprint
from xcargo.stores.base import ObjectInfo, PutMode, Store, Upload, copy_object
from xcargo.stores.local import MemoryStore
from xcargo.types import Buffer

BEGINNING = datetime(2026, 1, 1, tzinfo=timezone.utc)
HOUR = 3600.0
DAY = 24 * HOUR


class ClockedStore:
    """A store whose objects are as old as the test says. ``before`` is called with each verb and key."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.now = BEGINNING
        self.written: dict[str, datetime | None] = {}
        self.tells_time = True
        self.before: Callable[[str, str], None] = lambda verb, key: None
        self.unfinished: dict[str, Upload] = {}

    def uploads(self) -> ClockedUploads:
        return ClockedUploads(self)

    def put(
        self, key: str, parts: Iterable[Buffer], *, mode: PutMode = "overwrite", expected_bytes: int | None = None
    ) -> None:
        self.before("put", key)
        self.store.put(key, parts, mode=mode, expected_bytes=expected_bytes)
        self.written[key] = self.now

    def copy(self, source: str, target: str) -> None:
        self.before("copy", target)
        copy_object(self.store, source, target)
        self.written[target] = self.now

    def get(self, key: str, *, start: int = 0, end: int | None = None) -> Buffer:
        self.before("get", key)
        return self.store.get(key, start=start, end=end)

    def head(self, key: str) -> ObjectInfo:
        self.before("head", key)
        return self._dated(self.store.head(key))

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.before("delete", key)
            self.store.delete([key])

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        self.before("list", prefix)
        for info in self.store.list(prefix):
            yield self._dated(info)

    def _dated(self, info: ObjectInfo) -> ObjectInfo:
        return dataclasses.replace(info, last_modified=self.written.get(info.key) if self.tells_time else None)


@dataclasses.dataclass
class ClockedUploads:
    """The uploads that the test says were begun, by their ids."""

    store: ClockedStore

    def list(self, prefix: str = "") -> Iterator[Upload]:
        self.store.before("uploads", prefix)
        for upload in tuple(self.store.unfinished.values()):
            if not prefix or upload.key.startswith(f"{prefix}/"):
                yield upload

    def abort(self, upload: Upload) -> None:
        self.store.before("abort", upload.key)
        self.store.unfinished.pop(upload.upload_id, None)

    def rule_days(self) -> int | None:
        return None


@dataclasses.dataclass
class Deployment:
    """Rows and runs. A row goes by plain deletion, as in Airflow; nothing here knows of sweeps."""

    url: str = "memory://bucket/xcom"
    table: dict[Coordinate, Any] = dataclasses.field(default_factory=dict)
    archive: list[tuple[Coordinate, Any]] = dataclasses.field(default_factory=list)
    known_runs: dict[tuple[str, str], Run] = dataclasses.field(default_factory=dict)
    origin: dict[str, str] = dataclasses.field(default_factory=lambda: {"database": "here"})
    hides_attempts: bool = False
    hides_dags: bool = False
    hides_state: bool = False

    def __post_init__(self) -> None:
        self.root = Root.parse(self.url)
        self.store = ClockedStore(MemoryStore(self.root))
        self.pipeline = make_pipeline(self.url, wrap=lambda _: self.store, threshold_bytes=0, compression="none")
        self.before_row: Callable[[], None] = lambda: None

    # --- what tasks and users do ---

    def run(self, dag: str, run: str, *, state: str | None = "success", day: float = 0, hours: float = 1) -> Run:
        """A run that began on a day and took some hours."""
        date = BEGINNING + timedelta(days=day)
        ended = date + timedelta(hours=hours) if state in ("success", "failed") else None
        return self.known_runs.setdefault((dag, run), Run(dag, run, state, ended, date))

    def push(self, dag: str, run: str, task: str = "t", key: str = "k", *, value: Any = "value", **more: Any) -> str:
        """Push as a task does: the object, then the row. Returns the object key."""
        at = Coordinate(dag, run, task, key, **more)
        self.run(dag, run)
        row = self.pipeline.push(value, at)
        self.table[at] = row
        return self.key_of(row)

    def note(self, fingerprint: Fingerprint, row: Any, at: Coordinate, *, expires: timedelta | None = None) -> str:
        """Store the entry of a result, as a task does. Returns its key."""
        now = datetime.now(timezone.utc)  # the worker's clock, which is months off the store's
        entry = Entry(
            key=fingerprint.key,
            dag_id=at.dag_id,
            run_id=at.run_id,
            task_id=at.task_id,
            map_index=at.map_index,
            rows={"return_value": row},
            digests=fingerprint.digests,
            seconds=1.0,
            created_at=now.isoformat(),
            expires_at=None if expires is None else (now + expires).isoformat(),
        )
        self.entries.put(entry)
        return entry.key

    @property
    def entries(self) -> Entries:
        """Of memoize, below the root."""
        return Entries(self.store, self.pipeline.signer)

    def key_of(self, row: Any) -> str:
        """Object key of a row."""
        key: str = row["uri"].removeprefix(f"{self.root.uri()}/")
        return key

    def pass_time(self, seconds: float) -> None:
        """The store's clock goes on."""
        self.store.now += timedelta(seconds=seconds)

    # --- as a source of references ---

    def iterate(self, where: XComFilter = EVERYTHING) -> Iterator[Reference]:
        """What the rows refer to."""
        return (found for row in self.rows(where) if (found := reference_in(row)) is not None)

    def rows(self, where: XComFilter = EVERYTHING, *, only_envelopes: bool = False) -> Iterator[XComRow]:
        """As the database gives them: what is there from beginning to end, archives last."""
        for at in list(self.table):
            self.before_row()
            if at in self.table and where.matches(at):
                yield self._row(at, self.table[at], "xcom")
        for at, row in list(self.archive):
            if where.matches(at):
                yield self._row(at, row, "_airflow_deleted__xcom__1")

    def current(self, row: XComRow) -> Any:
        """The value of a row now."""
        return self.table.get(row.coordinate)

    def runs(self, where: XComFilter = EVERYTHING) -> Iterator[Run]:
        """Every run."""
        for run in list(self.known_runs.values()):
            if XComFilter(where.dag_id, where.run_id).matches(Coordinate(run.dag_id, run.run_id, "", "")):
                yield run

    def _row(self, at: Coordinate, value: Any, source: str) -> XComRow:
        return XComRow(at, value, source, self.known_runs.get((at.dag_id, at.run_id)))

    # --- sweeping ---

    def new_sweep(self, **options: Any) -> Sweep:
        """One that takes any share of the objects, in an order that does not change."""
        options = {"grace_seconds": DAY, "max_share": None, "workers": 1} | options
        return Sweep(self.store, self, root=self.root, options=SweepOptions(**options))

    def entry_keys(self) -> set[str]:
        """All entries of memoize, past the store under test."""
        return {key for key in self.keys() if is_entry(key)}

    def sweep(self, *, apply: bool = True, **options: Any) -> Report:
        """A whole sweep, or its dry run."""
        with self.new_sweep(**options) as sweep:
            report = sweep.plan()
            return sweep.apply(report) if apply and not report.refusals else report

    def keys(self) -> set[str]:
        """All there is, past the store under test."""
        return {info.key for info in self.store.store.list()}

    def objects(self) -> set[str]:
        """All object keys but those of sweeps' own notes."""
        return {key for key in self.keys() if not key.startswith("~xcargo/")}

    def notes(self) -> set[str]:
        """What sweeps left of themselves, but for whose the root is."""
        return self.keys() - self.objects() - self.entry_keys() - {NOTE}

    def referenced(self) -> set[str]:
        """Object keys that rows name, straight from the rows."""
        return {self.key_of(row) for row in [*self.table.values(), *(row for _, row in self.archive)]}


class Rows:
    """References to these URIs."""

    hides_attempts = hides_dags = hides_state = False
    origin: ClassVar = {"database": "a list"}

    def __init__(self, uris: set[str]) -> None:
        self._uris = uris

    def iterate(self, where: XComFilter = EVERYTHING) -> Iterator[Reference]:
        for uri in sorted(self._uris):
            yield Reference(Coordinate("d", "r", "t", "k"), uri, 1, 1, None, "xcom")

    def runs(self, where: XComFilter = EVERYTHING) -> Iterator[Run]:
        yield from ()
