"""A task's process is killed at every step of a push and of a pull, and the task tried again.

A child process works through a proxy that kills it by SIGKILL before or after the server has seen its n-th request. So
every step that the store can tell apart is one of the tests; the steps in the process itself, between encoding and the
first request and between the last one and the row, are those before the first request and after the last.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.servers import Server
from tests.servers.relay import Exchange, Relay
from tests.unit.conftest import FORKS, HERE, make_pipeline
from xcargo.lifecycle.plan import LiveObjects, SweepOptions, SweepPlan, Verdict
from xcargo.model.root import Root
from xcargo.stores.base import ObjectInfo

pytestmark = pytest.mark.servers

ROOT = Path(__file__).parents[2]
SIZES = {"small": 30_000, "in parts": 21 * 1024 * 1024}


def task(job: dict[str, Any], go: Any) -> None:
    """What a task does: push a value and write its row, or read the row and pull."""
    pipeline = make_pipeline(job["root"], connection=job["connection"], compression="none", part_bytes=5 << 20)

    def die(step: str) -> None:
        if job["step"] == step:
            os.kill(os.getpid(), signal.SIGKILL)

    value = random.Random(job["size"]).randbytes(job["size"])
    go.recv()
    with sqlite3.connect(job["database"]) as database:
        if job["work"] == "push":
            die("before the push")
            row = pipeline.push(value, HERE)
            die("before the row")
            database.execute("insert or replace into xcom values (1, ?)", (json.dumps(row),))
            die("before the commit")
            database.commit()
            die("after the row")
        else:
            (text,) = database.execute("select value from xcom").fetchone()
            pulled = pipeline.pull(json.loads(text))
            die("after the pull")
            assert bytes(pulled) == value
    os._exit(0)  # as Airflow ends its task processes


class Killer(Relay):
    """Kills a process at its n-th request: before the server sees it, or after the server has done it."""

    def __init__(self, upstream_url: str) -> None:
        self.pid = 0
        self.at: tuple[int, str] | None = None
        self._count = 0
        self._counting = threading.Lock()
        super().__init__(upstream_url)

    def handle(self, exchange: Exchange) -> None:
        self.log(exchange)
        with self._counting:
            number, self._count = self._count, self._count + 1
        if self.at == (number, "before"):
            os.kill(self.pid, signal.SIGKILL)
            raise ConnectionError
        if self.at == (number, "after"):
            exchange.ask_server()
            os.kill(self.pid, signal.SIGKILL)
            raise ConnectionError
        exchange.forward()


def run_child(server: Server, database: Path, work: str, size: int, at: Any = None, step: str = "") -> tuple[int, int]:
    """Exit code of a child that does the work, and how many requests it made."""
    with Killer(server.endpoint) as killer:
        job = {
            "root": f"{server.root}/crash",
            "connection": server.via(killer.url).connection,
            "database": str(database),
            "work": work,
            "size": size,
            "step": step,
        }
        ours, theirs = FORKS.Pipe()
        child = FORKS.Process(target=task, args=(job, theirs))
        child.start()
        assert child.pid is not None
        killer.pid, killer.at = child.pid, at
        ours.send("go")
        child.join(60)
        assert child.exitcode is not None
        return child.exitcode, len(killer.requests)


@pytest.fixture
def database(tmp_path: Path, s3_server: Server) -> Iterator[Path]:
    with closing(sqlite3.connect(tmp_path / "xcom.db")) as created:
        created.execute("create table xcom (id integer primary key, value text)")
        created.commit()
    yield tmp_path / "xcom.db"
    for key in objects(s3_server):
        s3_server.raw_delete(key)


def rows(database: Path) -> list[Any]:
    with closing(sqlite3.connect(database)) as opened:
        return [json.loads(value) for (value,) in opened.execute("select value from xcom")]


def objects(server: Server) -> list[str]:
    return [key for key in server.list_keys() if "/crash/" in key]


def seen_by_a_sweep(server: Server, database: Path) -> list[Verdict]:
    """What a plan of two days later says of each object below the root."""
    root = Root.parse(f"{server.root}/crash")
    live = LiveObjects(root)
    for row in rows(database):
        live.add(row["uri"])
    now = datetime.now(timezone.utc)
    plan = SweepPlan(live, now + timedelta(days=2), SweepOptions())
    prefix = root.prefix + "/"
    return [plan.judge(ObjectInfo(key.removeprefix(prefix), 1, now)).verdict for key in objects(server)]


IN_PROCESS = ("before the push", "before the row", "before the commit", "after the row")


@pytest.mark.parametrize("size", SIZES)
def test_a_push_that_is_killed_at_any_step_and_tried_again_loses_nothing(
    s3_server: Server, database: Path, size: str
) -> None:
    """A row always names an object that is there; the second try gives the value; the rest is a sweep's."""
    code, requests = run_child(s3_server, database, "push", SIZES[size])
    assert code == 0
    assert requests == (1 if size == "small" else 7)  # begin, five parts, complete
    steps: list[dict[str, Any]] = [{"step": step} for step in IN_PROCESS]
    alike = (2, 3, 4) if size == "in parts" else ()  # the parts between the first and the last
    steps += [{"at": (n, when)} for n in range(requests) if n not in alike for when in ("before", "after")]
    direct = make_pipeline(f"{s3_server.root}/crash", connection=s3_server.connection, compression="none")
    value = random.Random(SIZES[size]).randbytes(SIZES[size])
    for step in steps:
        with closing(sqlite3.connect(database)) as opened:
            opened.execute("delete from xcom")
            opened.commit()
        for key in objects(s3_server):
            s3_server.raw_delete(key)
        code, _ = run_child(s3_server, database, "push", SIZES[size], **step)
        assert code == -signal.SIGKILL, step
        for row in rows(database):
            assert bytes(direct.pull(row)) == value, step
        assert run_child(s3_server, database, "push", SIZES[size])[0] == 0
        (row,) = rows(database)
        assert bytes(direct.pull(row)) == value, step
        verdicts = seen_by_a_sweep(s3_server, database)
        assert sorted(verdicts) in ([Verdict.LIVE], [Verdict.LIVE, Verdict.ORPHAN]), step


@pytest.mark.parametrize("kind", ["gcs", "azure"])
def test_a_push_that_is_killed_between_its_parts_leaves_no_object_on_other_clouds(
    kind: str, database: Path, request: pytest.FixtureRequest
) -> None:
    """Nothing is to be seen before all parts are there; the second try is whole."""
    server: Server = request.getfixturevalue(f"{kind}_server")
    size = SIZES["in parts"]
    for n in (1, 3):
        assert run_child(server, database, "push", size, at=(n, "after"))[0] == -signal.SIGKILL
        assert objects(server) == rows(database) == []
    assert run_child(server, database, "push", size)[0] == 0
    direct = make_pipeline(f"{server.root}/crash", connection=server.connection)
    assert bytes(direct.pull(rows(database)[0])) == random.Random(size).randbytes(size)
    (key,) = objects(server)
    assert seen_by_a_sweep(server, database) == [Verdict.LIVE]
    server.raw_delete(key)


@pytest.mark.parametrize("size", SIZES)
def test_a_pull_that_is_killed_at_any_step_and_tried_again_gives_the_value(
    s3_server: Server, database: Path, size: str
) -> None:
    """And changes nothing in the store."""
    assert run_child(s3_server, database, "push", SIZES[size])[0] == 0
    before = objects(s3_server)
    code, requests = run_child(s3_server, database, "pull", SIZES[size])
    assert code == 0
    steps: list[dict[str, Any]] = [{"step": "after the pull"}]  # ranges between the first and the last are alike
    steps += [{"at": (n, when)} for n in {0, requests - 1} for when in ("before", "after")]
    for step in steps:
        assert run_child(s3_server, database, "pull", SIZES[size], **step)[0] == -signal.SIGKILL, step
        assert run_child(s3_server, database, "pull", SIZES[size])[0] == 0, step
    assert objects(s3_server) == before
    assert seen_by_a_sweep(s3_server, database) == [Verdict.LIVE]


def test_a_store_of_files_that_is_killed_while_it_writes_leaves_no_object(tmp_path: Path) -> None:
    """A part file stays, which no listing shows; the next push is whole."""
    code = f"""
import os, signal
from tests.unit.conftest import HERE, make_pipeline
def parts():
    for n in range(40):
        if n == 30:
            os.kill(os.getpid(), signal.SIGKILL)
        yield bytes(1_000_000)
make_pipeline({tmp_path.as_uri()!r}, compression="none").push(parts(), HERE)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    left = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert all(name.startswith(".xcargo-part-") for name in left)
    pipeline = make_pipeline(tmp_path.as_uri(), compression="none")
    row: Any = pipeline.push(b"x" * 30_000, HERE)
    from xcargo.stores.local import LocalStore

    keys = [info.key for info in LocalStore(Root.parse(tmp_path.as_uri())).list()]
    assert len(keys) == 1
    assert row["uri"].endswith(keys[0])
