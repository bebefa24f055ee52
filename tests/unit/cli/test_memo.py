"""`xcargo memo ls`, `why` and `clear`, and what other commands say of reused results, over real entries in a folder."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.metadata import Metadata
from tests.unit.cli.kit import Call
from tests.unit.conftest import make_pipeline
from xcargo.model.coordinate import Coordinate
from xcargo.pipeline.memo import Entry, Fingerprint, entries_for, reuse

VALUE = "x" * 1000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "objects"


@pytest.fixture
def call(sqlite_metadata: Metadata, root: Path, here: Callable[..., Call]) -> Call:
    return here(sqlite_metadata, AIRFLOW__XCARGO__PATH=root.as_uri())


@pytest.fixture
def compute(root: Path) -> Callable[..., Path]:
    """A result and its entry, of which it gives the path."""
    pipeline = make_pipeline(root.as_uri(), threshold_bytes=100)

    def store(
        task: str = "train", *, dag: str = "sales", minute: int = 0, scope: Any = "task", index: int = -1, **parts: str
    ) -> Path:
        at = Coordinate(dag, f"run {minute}", task, "return_value")
        fingerprint = Fingerprint(scope, dag, task, {"source": "5" * 32} | parts)
        entry = Entry(
            key=fingerprint.key,
            dag_id=dag,
            run_id=at.run_id,
            task_id=task,
            map_index=index,
            rows={"return_value": pipeline.push(VALUE, at)},
            digests=fingerprint.digests,
            seconds=93.1,
            created_at=f"2026-01-01T00:{minute:02}:00+00:00",
        )
        entries_for(pipeline, at).put(entry)
        return root / entry.key

    return store


def lines(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def test_entries_are_listed_by_dag_and_task(call: Call, compute: Callable[..., Path]) -> None:
    """Of every scope; rows are not printed, and one that cannot be read is named with the reason."""
    compute("train"), compute("train", scope="global", rounds="1", minute=1), compute("clean"), compute(dag="other")
    damaged = compute("train", rounds="2")
    damaged.write_bytes(b"{}")
    listed = lines(call("memo", "ls", "--dag", "sales", "--task", "train", "--json").out)
    assert sorted(entry.get("run_id", "?") for entry in listed) == ["?", "run 0", "run 1"]
    (unreadable,) = [entry for entry in listed if "error" in entry]
    assert unreadable["uri"] == damaged.as_uri()
    assert not any("rows" in entry for entry in listed)
    assert len(lines(call("memo", "ls", "--json").out)) == 5
    assert [entry["task_id"] for entry in lines(call("memo", "ls", "--run", "run 1", "--json").out)] == ["train"]
    shown = call("memo", "ls", "--dag", "s*")
    assert [line.split()[:5] for line in shown.out.splitlines()[1:]] == [
        ["sales", "clean", "run", "0", "2026-01-01T00:00:00+00:00"],
        ["sales", "train", "run", "1", "2026-01-01T00:01:00+00:00"],
        ["sales", "train", "run", "0", "2026-01-01T00:00:00+00:00"],
    ]
    assert "1 more cannot be read" in shown.err


def test_rows_are_summed_without_a_store_for_the_entries(call: Call, compute: Callable[..., Path]) -> None:
    """Where the connection is not defined, as in a shell beside a database; and entries are none of an asset's."""
    compute()
    assert call("du", "--json").json["memo"]["objects"] == 1
    assert call("du", "--asset", "orders", "--json").json["memo"] is None
    done = call("du", "--json", AIRFLOW__XCARGO__PATH="s3://nowhere_defined@my-bucket/xcom")
    assert (done.code, done.json["memo"]) == (0, None)
    assert "could not be counted" in done.err


def test_why_names_what_changed_between_the_newest_two(call: Call, compute: Callable[..., Path]) -> None:
    """With digests of both; exit code 1 where there is nothing."""
    compute(minute=1, **{"argument rounds": "1" * 32})
    compute(minute=3, **{"argument rounds": "3" * 32})
    compute(minute=2, **{"argument rounds": "2" * 32})
    compute("other", minute=4)
    done = call("memo", "why", "sales", "train", "--json")
    assert (done.code, done.json["changed"]) == (0, ["argument rounds"])
    assert [entry["run_id"] for entry in done.json["entries"]] == ["run 3", "run 2", "run 1"]
    shown = call("memo", "why", "sales", "train", "--limit", "2").out.splitlines()
    assert [line.split() for line in shown[-2:]] == [
        ["argument", "rounds", "3" * 12, "2" * 12, "changed"],
        ["source", "5" * 12, "5" * 12],
    ]
    alone = call("memo", "why", "sales", "other", "--json")
    assert (alone.code, alone.json["changed"]) == (0, None)
    assert call("memo", "why", "sales", "other").code == 0
    assert call("memo", "why", "sales", "nobody").code == 1


def test_why_compares_results_of_one_map_index(call: Call, compute: Callable[..., Path]) -> None:
    """Not two instances of a mapped task, which always differ."""
    for minute, index, rounds, n in ((1, 0, "1", "0"), (2, 1, "1", "1"), (3, 0, "2", "0"), (4, 1, "2", "1")):
        compute(minute=minute, index=index, **{"argument rounds": rounds, "argument n": n})
    for more in ((), ("--map-index", "0"), ("--limit", "1")):
        assert call("memo", "why", "sales", "train", "--json", *more).json["changed"] == ["argument rounds"]


def test_clear_deletes_what_it_showed(call: Call, compute: Callable[..., Path], root: Path) -> None:
    """Nothing without --apply and a yes; no object, and no entry of another task. Unreadable ones go too."""
    gone, damaged, kept = compute("train"), compute("train", rounds="2"), compute("clean")
    damaged.write_bytes(b"{}")
    objects = {path for path in (root / "sales").rglob("*") if path.is_file()}
    where = ("--dag", "sales", "--task", "train")
    dry = call("memo", "clear", *where)
    assert (dry.code, "Give --apply" in dry.err) == (0, True)
    assert call("memo", "clear", *where, "--apply").code == 3
    assert gone.exists()
    done = call("memo", "clear", *where, "--apply", "--yes", "--json")
    assert (done.code, done.json["deleted"], len(done.json["entries"])) == (0, 2, 2), done.err
    assert [path.exists() for path in (gone, damaged, kept)] == [False, False, True]
    assert {path for path in (root / "sales").rglob("*") if path.is_file()} == objects


def test_an_entry_that_is_not_signed_is_not_believed(call: Call, compute: Callable[..., Path]) -> None:
    """Where there is a key."""
    compute()
    key = base64.b64encode(os.urandom(32)).decode()
    (entry,) = lines(call("memo", "ls", "--json", AIRFLOW__XCARGO__SIGNING_KEY=key).out)
    assert "not signed" in entry["error"]


def test_sums_and_rows_tell_of_reused_results(
    call: Call, compute: Callable[..., Path], root: Path, sqlite_metadata: Metadata
) -> None:
    """`du` counts entries apart, and `show` says where a value is from."""
    entry, other = compute(), compute(dag="other")
    sizes = [path.stat().st_size for path in (entry, other)]
    assert call("du", "--json").json["memo"] == {"objects": 2, "stored_bytes": sum(sizes)}
    assert call("du", "--dag", "sales", "--json").json["memo"] == {"objects": 1, "stored_bytes": sizes[0]}
    assert call("du", "--run", "run 0", "--json").json["memo"] is None
    assert "Entries of memoize: 2" in call("du").out
    assert "Entries of memoize: 2 too young" in call("gc").out
    pipeline = make_pipeline(root.as_uri(), threshold_bytes=100)
    row = json.loads(entry.read_bytes())["rows"]["return_value"]
    origin = {"dag": "sales", "run": "run 0", "task": "train", "at": "2026-01-01T00:00:00+00:00"}
    at = Coordinate("sales", "run 9", "train", "return_value")
    sqlite_metadata.push(
        reuse(pipeline, row, at, dag_id="sales", origin=origin), dag_id="sales", run_id="run 9", task_id="train"
    )
    (shown,) = [line for line in call("show", "sales", "run 9", "train").out.splitlines() if line.startswith("reused")]
    assert shown.split(maxsplit=1)[1] == "dag sales, run run 0, task train, at 2026-01-01T00:00:00+00:00"
    assert call("show", "sales", "run 9", "train", "--json").json[0]["envelope"]["reused"] == origin
