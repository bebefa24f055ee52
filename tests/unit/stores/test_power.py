"""Power is lost at every point of what is done to a folder of objects; what may then be on the disk is looked at.

A child process does the work and its calls are noted (tests/faults/calls.c). A model of a disk (tests/faults/power.py)
says what each point may leave: every such state is made in the very same folder, and read by a real pipeline.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.faults.calls import COMPILER, mark, preload
from tests.faults.power import Disk, Files
from tests.unit.conftest import HERE, make_pipeline
from xcargo.errors import IntegrityError, ObjectNotFoundError
from xcargo.lifecycle.bookkeeping import QUARANTINE, move_to_quarantine, restore
from xcargo.lifecycle.moves import Journal, Migration, Move
from xcargo.lifecycle.plan import LiveObjects, SweepOptions, SweepPlan, Verdict
from xcargo.lifecycle.references import XComRow
from xcargo.model.root import Root
from xcargo.stores.base import ObjectInfo, is_part, list_all
from xcargo.stores.local import LocalStore

CHECKOUT = Path(__file__).parents[3]
SETTINGS: dict[str, Any] = {"compression": "none", "threshold_bytes": 100}


def value(number: int) -> bytes:
    return random.Random(number).randbytes(1500 + number)


class Work:
    """What is done below a folder, with a mark wherever a row is written or deleted."""

    def __init__(self, top: Path, *, fsync: bool) -> None:
        top.mkdir()
        self.top = top
        self.root = Root.parse((top / "data/xcom").as_uri())
        self.store = LocalStore(self.root, fsync=fsync)
        self.pipeline = make_pipeline(str(self.root), fsync=fsync, **SETTINGS)
        self.rows: list[Any] = []

    def push(self) -> Any:
        number = len(self.rows)
        row = self.pipeline.push(value(number), HERE)
        self.rows.append(row)
        mark(f"row {json.dumps({'number': number, 'row': row})}")
        return row

    def purge(self, number: int) -> None:
        mark(f"norow {number}")
        assert self.pipeline.purge(self.rows[number])

    def without_fsync(self) -> None:
        """A first push."""
        self.push()

    def first_push(self) -> None:
        """Into a root that is not there yet."""
        self.push()

    def pushes_and_purges(self) -> None:
        """The last purge takes the folders along, and the next push makes them again."""
        self.push()
        self.push()
        self.purge(0)
        self.purge(1)
        self.push()

    def push_during_another(self) -> None:
        """Both are the first of their run; the second ends while the first is still writing."""

        def parts() -> Iterator[bytes]:
            yield b"a" * 500
            self.push()
            yield b"b" * 500

        self.store.put(HERE.object_key(), parts())

    def sweep(self) -> None:
        """What sweeps do: their notes, a quarantine, and an object brought back from there."""
        self.store.put("~xcargo/owner.json", [b'{"deployment": "a"}'], mode="create")
        self.store.put("~xcargo/owner.json", [b'{"deployment": "a", "api": "b"}'])
        row = self.push()
        key = self.root.object_key(row["uri"])
        mark("norow 0")
        mark(f"kept {key}")
        info = self.store.head(key)
        move_to_quarantine(self.store, info)
        restore(self.store, ObjectInfo(f"{QUARANTINE}/{key}", info.size_bytes, None))

    def migrate(self) -> None:
        """Two values moved to another root; a row is switched after the journal has a line of it."""
        self.push()
        self.push()
        target = make_pipeline((self.top / "new").as_uri(), **SETTINGS)
        switched: list[int] = []

        class Rows:
            def convert(self, move: Move) -> tuple[Any, str | None]:
                row: Any = target.push(value(move.size_bytes), HERE)
                return row, row["uri"]

            def switch(self, row: XComRow, value: Any) -> bool:
                number = len(switched)
                switched.append(number)
                mark(f"row {json.dumps({'number': number, 'row': value})}")
                mark(f"journal {row.value['uri']}")
                return True

        rows = Rows()
        moves = [Move(XComRow(HERE, row, "xcom"), "store", n, row["uri"]) for n, row in enumerate(self.rows)]
        for _ in range(2):  # the second one as after a crash
            with Journal(self.top / "state/journal.jsonl") as journal:
                list(Migration(rows, None, rows, journal).run(moves[len(switched) :][:1]))  # type: ignore[arg-type]


WORKS = ("first_push", "pushes_and_purges", "push_during_another", "sweep", "migrate")
needs_compiler = pytest.mark.skipif(COMPILER is None or sys.platform != "linux", reason="needs Linux and a C compiler")


Recording = tuple[Path, list[str]]
"""The folder of a work, and the calls that it made below."""


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recording]:
    """All works, done by one child."""
    base = tmp_path_factory.mktemp("power")
    environ = {**os.environ, **preload(base, below=base, log=base / "log")}
    subprocess.run([sys.executable, "-m", __name__, str(base)], cwd=CHECKOUT, env=environ, check=True)
    works = (base / "log").read_text().split("mark work ")[1:]
    return {name: (base / name, calls) for name, *calls in map(str.splitlines, works)}


class Crashes:
    """What each point of a recording may leave: marks until there, whole objects until there, files."""

    def __init__(self, top: Path, calls: list[str]) -> None:
        self.top = top
        self.disk = Disk(str(top))
        self.calls = calls
        self.marks: list[str] = []
        self.rows: dict[int, Any] = {}
        self.contents: dict[str, set[bytes]] = defaultdict(set)

    def __iter__(self) -> Iterator[Files]:
        """Each state once, written to the disk."""
        seen = set()
        for call in self.calls:
            self._follow(call)
            for files in self.disk.crashes():
                state = (len(self.marks), frozenset(files.items()))
                if state not in seen:
                    seen.add(state)
                    self._write(files)
                    yield files

    def _follow(self, call: str) -> None:
        verb, _, text = call.partition(" ")
        if verb != "mark":
            self.disk.do(call)
            if verb in ("rename", "link"):
                path = text.split(" ")[1]
                self.contents[path].add(self.disk.files()[path])
            return
        self.marks.append(text)
        verb, _, about = text.partition(" ")
        if verb == "row":
            line = json.loads(about)
            self.rows[line["number"]] = line["row"]
        elif verb == "norow":
            del self.rows[int(about)]

    def _write(self, files: Files) -> None:
        shutil.rmtree(self.top)
        self.top.mkdir()
        for name, data in files.items():
            path = Path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def kept(self, verb: str) -> list[str]:
        """What the marks of this verb name."""
        return [text.partition(" ")[2] for text in self.marks if text.startswith(f"{verb} ")]


@needs_compiler
@pytest.mark.parametrize("work", WORKS)
def test_power_is_lost_at_any_point(recordings: dict[str, Recording], work: str) -> None:
    """Each row gives its value, under no name is half an object, and a sweep takes what else was being written."""
    top, calls = recordings[work]
    real_files = {str(path): path.read_bytes() for path in top.rglob("*") if path.is_file()}
    roots = [Root.parse((top / name).as_uri()) for name in ("data/xcom", "new")]
    pipeline = make_pipeline(str(roots[0]), read_paths=(str(roots[1]),), **SETTINGS)
    crashes = Crashes(top, calls)
    for files in crashes:
        for number, row in crashes.rows.items():
            assert pipeline.pull(row) == value(number)
        for path, data in files.items():
            assert is_part(path) or path.endswith(".jsonl") or data in crashes.contents[path]
        for key in crashes.kept("kept"):
            assert {roots[0].uri(key), roots[0].uri(f"{QUARANTINE}/{key}")} & {f"file://{path}" for path in files}
        for uri in crashes.kept("journal"):
            assert uri in Journal(top / "state/journal.jsonl").sources()
        for root in roots:
            verdicts = swept(root, [row["uri"] for row in crashes.rows.values()])
            assert set(verdicts.values()) <= {Verdict.LIVE, Verdict.ORPHAN}
            assert Verdict.LIVE not in {verdict for key, verdict in verdicts.items() if is_part(key)}
    assert crashes.rows or crashes.kept("kept")
    assert crashes.disk.files() == real_files, "calls that were not noted"


def swept(root: Root, live: list[str]) -> dict[str, Verdict]:
    """What a sweep of two days later says of each file below a root that is not its own note."""
    objects = LiveObjects(root)
    for uri in live:
        if uri.startswith(str(root)):
            objects.add(uri)
    plan = SweepPlan(objects, datetime.now(timezone.utc) + timedelta(days=2), SweepOptions())
    listed = [info for info in list_all(LocalStore(root)) if not info.key.startswith("~xcargo/")]
    return {info.key: plan.judge(info).verdict for info in listed}


@needs_compiler
def test_without_fsync_objects_are_lost_and_never_wrong(recordings: dict[str, Recording]) -> None:
    """The model sees what is missing: of a row's object, nothing or half of it. The pull says so."""
    top, calls = recordings["without_fsync"]
    crashes = Crashes(top, calls)
    pipeline = make_pipeline((top / "data/xcom").as_uri(), **SETTINGS)
    outcomes = set()
    for _ in crashes:
        for number, row in crashes.rows.items():
            try:
                assert pipeline.pull(row) == value(number)
                outcomes.add("value")
            except (ObjectNotFoundError, IntegrityError) as error:
                outcomes.add(type(error).__name__)
    assert outcomes == {"IntegrityError", "ObjectNotFoundError", "value"}


if __name__ == "__main__":
    works = {name: Work(Path(sys.argv[1], name), fsync=name in WORKS) for name in (*WORKS, "without_fsync")}
    for name, work in works.items():
        mark(f"work {name}")
        getattr(work, name)()
