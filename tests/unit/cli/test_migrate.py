"""`xcargo migrate` over real metadata databases and real objects: there, elsewhere, back, and killed on the way."""

from __future__ import annotations

import base64
import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa

from tests.metadata import Metadata
from tests.servers import Server
from tests.unit.cli.kit import Call
from tests.unit.conftest import in_fork, make_pipeline
from xcargo.airflow import rows
from xcargo.airflow.migration import ToStock, ToStore
from xcargo.airflow.references.database import DatabaseReferences, DatabaseRowWriter
from xcargo.errors import ConfigurationError, ReferencesUnavailableError
from xcargo.lifecycle.moves import Journal
from xcargo.lifecycle.references import XComFilter
from xcargo.model.coordinate import Coordinate, State
from xcargo.stores.local import LocalStore

RUN = "manual__2026-01-01T00:00:00+00:00"
BIG = [{"id": n, "name": f"row {n}", "price": n / 4} for n in range(200)]
TASKS = [f"task_{n}" for n in range(4)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "objects"


@pytest.fixture
def call(metadata: Metadata, root: Path, tmp_path: Path, here: Callable[..., Call]) -> Call:
    return here(metadata, AIRFLOW__XCARGO__PATH=root.as_uri())


@pytest.fixture
def migrate(call: Call, tmp_path: Path) -> Call:
    return lambda *args, **env: call("migrate", "--json", "--journal", str(tmp_path / "journal"), *args, **env)


def stored(metadata: Metadata, value: Any, task_id: str, url: str, *, dag_id: str = "sales", **settings: Any) -> Any:
    """Pushes a value to a store, and gives its row."""
    pipeline = make_pipeline(url, threshold_bytes=100, **settings)
    row: Any = pipeline.push(value, Coordinate(dag_id, RUN, task_id, "return_value"))
    metadata.push(row, dag_id=dag_id, run_id=RUN, task_id=task_id)
    return row


def row_of(metadata: Metadata, task_id: str, key: str = "return_value") -> Any:
    (value,) = [v for (_, _, task, _, k), v in metadata.values().items() if (task, k) == (task_id, key)]
    return value


def files(folder: Path) -> list[Path]:
    """Every object; what a killed put had begun is none."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".xcargo-part"))


def counts(done: Any) -> dict[str, int]:
    return {f"{entry['from']} {entry['status']}": entry["rows"] for entry in done.json["counts"]}


def value_of(row: Any, url: str, **settings: Any) -> Any:
    return make_pipeline(url, **settings).pull(row)


def test_large_rows_go_to_the_store_and_come_back_as_they_were(metadata: Metadata, migrate: Call, root: Path) -> None:
    """A dry run changes nothing; then plain values, and those of Airflow's serializers, lie in the store.

    What is small, and what Airflow itself reads, stays in the row.
    """
    from airflow.sdk.serde import serialize

    frame = pd.DataFrame({"a": range(100), "b": [f"text {n}" for n in range(100)]})
    metadata.push(BIG, task_id="plain")
    metadata.push(serialize(frame), task_id="frame")
    metadata.push({"a": 1}, task_id="small")
    metadata.push({"followed": ["x" * 2000]}, task_id="branch", key="skipmixin_key")
    metadata.push(serialize([{n} for n in range(20)]), task_id="fits")
    before = metadata.values()
    done = migrate()
    assert (done.code, counts(done)) == (0, {"database planned": 3})
    assert metadata.values() == before
    assert not root.exists()

    done = migrate("--apply")
    assert (done.code, counts(done)) == (0, {"database fits": 1, "database moved": 2}), done.out
    assert len(files(root)) == 2
    assert value_of(row_of(metadata, "plain"), root.as_uri()) == BIG
    assert row_of(metadata, "plain")["type"] == "list"
    pd.testing.assert_frame_equal(value_of(row_of(metadata, "frame"), root.as_uri()), frame)
    assert row_of(metadata, "small") == {"a": 1}
    assert row_of(metadata, "branch", "skipmixin_key") == {"followed": ["x" * 2000]}
    assert row_of(metadata, "fits") == before["a_dag", "a_run", "fits", -1, "return_value"]
    assert counts(migrate("--apply")) == {"database fits": 1}


def stored_state(value: Any, root: Path) -> Any:
    """The row of a value of an asset's state, which is in an object."""
    coordinate = Coordinate("", "", "", "asset's", state=State(asset="orders"))
    return make_pipeline(root.as_uri(), threshold_bytes=0).push(value, coordinate)


@pytest.mark.parametrize("metadata", ["sqlite"], indirect=True)
def test_state_moves_with_xcoms(metadata: Metadata, migrate: Call, tmp_path: Path, root: Path) -> None:
    """Out of Common IO's objects, if xcargo's backend reads the rows, and back into rows that need no backend."""
    old = tmp_path / "state"
    old.mkdir()
    (old / "big").write_text(json.dumps(BIG))
    (old / "small").write_text("1")
    metadata.state(f"{old.as_uri()}/big", key="big")
    metadata.state(json.dumps(f"{old.as_uri()}/big"), key="text")
    metadata.state(f"{old.as_uri()}/small", asset="orders", key="small")
    env = {"AIRFLOW__XCARGO__LEGACY_REFERENCES": old.as_uri()}
    assert counts(migrate(**env)) == {}
    env["AIRFLOW__WORKERS__STATE_STORE_BACKEND"] = "xcargo.StateStoreBackend"
    done = migrate("--apply", **env)
    assert (done.code, counts(done)) == (0, {"legacy moved": 2}), done.out
    (object_path,) = files(root)
    assert "/~state/a_task/-1/big/~" in object_path.as_posix()
    source = DatabaseReferences(metadata.engine)
    values = {row.coordinate.key: row.value for row in source.rows(XComFilter(state=True))}
    assert value_of(values["big"], root.as_uri()) == BIG
    assert (values["text"], values["small"]) == (f"{old.as_uri()}/big", 1)
    metadata.state(json.dumps(stored_state(BIG, root)), asset="orders", key="asset's")
    done = migrate("--apply", "--recode", **env)
    assert (done.code, counts(done)) == (0, {"store moved": 2}), done.out
    done = migrate("--to", "stock", "--apply", **env)
    assert (done.code, counts(done)) == (0, {"stock moved": 2}), done.out
    with metadata.engine.connect() as connection:
        query = sa.text("SELECT value FROM task_state_store WHERE key = 'big'")
        assert json.loads(connection.execute(query).scalar_one()) == BIG


def test_objects_move_to_another_place_and_the_old_ones_go_last(
    metadata: Metadata, migrate: Call, tmp_path: Path, root: Path
) -> None:
    """Below the new path, in today's compression; what was left goes only when asked, after a grace, and no other."""
    old = tmp_path / "old"
    kept = stored(metadata, BIG, "kept", root.as_uri())
    row = stored(metadata, BIG, "moved", old.as_uri())
    metadata.push(row, dag_id="sales", run_id=RUN, task_id="second row")  # as a copy by hand
    other = stored(metadata, "x" * 5000, "other", (tmp_path / "elsewhere").as_uri())
    paths = {"AIRFLOW__XCARGO__READ_PATHS": old.as_uri(), "AIRFLOW__XCARGO__COMPRESSION": "gzip"}
    done = migrate("--apply", "--task", "moved", **paths)
    assert (done.code, counts(done)) == (0, {"store moved": 1}), done.out
    new = row_of(metadata, "moved")
    assert (new["compression"], new["codec"], new["created_at"]) == ("gzip", "msgpack", row["created_at"])
    assert new["uri"].startswith(root.as_uri())
    assert new["uri"].endswith(".msgpack.gz")
    assert value_of(new, root.as_uri()) == BIG
    assert row_of(metadata, "kept") == kept

    assert migrate("--delete-source", "--apply", "--grace", "0", **paths).json["deleted"] == 0, "a row refers to it"
    metadata.push(1, dag_id="sales", run_id=RUN, task_id="second row")
    assert "'soon' is not a time" in migrate("--delete-source", "--grace", "soon", **paths).err
    young = migrate("--delete-source", "--apply", **paths)
    assert (young.json["deleted"], len(files(old))) == (0, 1), "it was left just now"
    damaged = Path(new["uri"].removeprefix("file://"))
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-1] + b"x")
    assert migrate("--delete-source", "--apply", "--grace", "0", **paths).json["deleted"] == 0, "damaged"
    damaged.write_bytes(whole)
    assert migrate("--delete-source", "--grace", "0", **paths).json["deleted"] == 1
    assert len(files(old)) == 1, "a dry run"
    assert migrate("--delete-source", "--apply", "--grace", "0", **paths).json["deleted"] == 1
    assert files(old) == []
    assert value_of(row_of(metadata, "moved"), root.as_uri()) == BIG
    assert Path(other["uri"].removeprefix("file://")).exists()


@pytest.mark.parametrize("metadata", ["sqlite"], indirect=True)
def test_objects_move_between_clouds_and_get_encrypted(
    metadata: Metadata, here: Callable[..., Call], s3_server: Server, tmp_path: Path
) -> None:
    """From a folder to an S3 server, under a key; the next key takes over what the former one sealed."""
    frame = pd.DataFrame({"n": range(50_000)})
    stored(metadata, frame, "frame", (tmp_path / "old").as_uri())
    url = s3_server.root.replace("/demo", "/migrated")
    one, two = (base64.b64encode(os.urandom(32)).decode() for _ in range(2))
    call = here(metadata, AIRFLOW__XCARGO__PATH=url, **s3_server.env())
    always = ("migrate", "--apply", "--json", "--journal", str(tmp_path / "journal"))
    read = {"AIRFLOW__XCARGO__READ_PATHS": (tmp_path / "old").as_uri()}
    done = call(*always, AIRFLOW__XCARGO__ENCRYPTION_KEYS=f"one={one}", **read)
    assert counts(done) == {"store moved": 1}, done.out + done.err
    first = row_of(metadata, "frame")
    assert first["encryption"]["key"] == "one"
    assert counts(call(*always, AIRFLOW__XCARGO__ENCRYPTION_KEYS=f"one={one}", **read)) == {}
    done = call(*always, AIRFLOW__XCARGO__ENCRYPTION_KEYS=f"two={two},one={one}")
    assert counts(done) == {"store moved": 1}, done.out + done.err
    assert row_of(metadata, "frame")["encryption"]["key"] == "two"
    done = call("verify", AIRFLOW__XCARGO__ENCRYPTION_KEYS=f"two={two}")
    assert done.code == 0, done.out + done.err


@pytest.mark.parametrize("metadata", ["sqlite"], indirect=True)
def test_references_of_other_backends_become_ours(
    metadata: Metadata, migrate: Call, tmp_path: Path, root: Path
) -> None:
    """Common IO's paths and a tutorial's prefix; a small value comes into the row; a plain text stays one."""
    common, tutorial = tmp_path / "common", tmp_path / "tutorial"
    for folder, name, value in ((common, "d/r/t/1.json", BIG), (common, "d/r/t/2", 7), (tutorial, "x/3.json", BIG)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(value))
    metadata.push(f"{common.as_uri()}/d/r/t/1.json", task_id="large")
    metadata.push(f"{common.as_uri()}/d/r/t/2", task_id="small")
    metadata.push("xcom_mine://x/3.json", task_id="tutorial")
    metadata.push(f"see {common.as_uri()}/d/r/t/1.json", task_id="text")
    metadata.push(f"{common.as_uri()}/d/r/gone", task_id="gone")
    legacy = {"AIRFLOW__XCARGO__LEGACY_REFERENCES": f"{common.as_uri()},xcom_mine={tutorial.as_uri()}"}
    done = migrate("--apply", **legacy)
    assert (done.code, counts(done)) == (1, {"legacy failed": 1, "legacy moved": 3}), done.out
    assert value_of(row_of(metadata, "large"), root.as_uri()) == BIG
    assert value_of(row_of(metadata, "tutorial"), root.as_uri()) == BIG
    assert row_of(metadata, "small") == 7
    assert row_of(metadata, "text").startswith("see ")
    assert row_of(metadata, "gone").endswith("gone")
    assert len(files(common)) + len(files(tutorial)) == 3
    assert migrate("--delete-source", "--apply", "--grace", "0", **legacy).json["deleted"] == 3
    assert len(files(common)) + len(files(tutorial)) == 0


def test_the_way_back_leaves_what_stock_airflow_cannot_carry(metadata: Metadata, migrate: Call, root: Path) -> None:
    """Rows read as Airflow's own backend reads them; a value that it would change stays ours and is named."""
    from airflow.sdk.bases.xcom import BaseXCom

    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    for task_id, value in {"list": BIG, "frame": frame, "tuple": (1, "x" * 500), "bytes": b"x" * 500}.items():
        stored(metadata, value, task_id, root.as_uri())
    ordered = {"long name": 1, "b": 2, "__id__": "xcargo-order:1,0"}
    metadata.push(ordered, task_id="ordered")
    done = migrate("--to", "stock", "--apply")
    assert (done.code, counts(done)) == (1, {"stock left": 1, "stock moved": 4}), done.out
    assert [(row["task_id"], row["status"]) for row in done.json["unmoved"]] == [("bytes", "left")]

    def stock(task_id: str) -> Any:
        return BaseXCom.deserialize_value(rows.Row(row_of(metadata, task_id)))

    assert stock("list") == BIG
    assert stock("tuple") == (1, "x" * 500)
    pd.testing.assert_frame_equal(stock("frame"), frame)
    assert stock("ordered") == {"long name": 1, "b": 2}
    assert row_of(metadata, "bytes")["type"] == "bytes"
    too_large = migrate("--to", "stock", "--max-mib", "0")
    assert counts(too_large) == {"stock planned": 1}


STEPS: dict[str, tuple[tuple[type, str], ...]] = {
    "put": ((LocalStore, "put"),),
    "convert": ((ToStore, "convert"), (ToStock, "convert")),
    "journal": ((Journal, "note"),),
    "switch": ((DatabaseRowWriter, "switch"),),
}


def kill_before_or_after_second_call(owner: type, name: str, when: str) -> None:
    """Patches a method so that this process kills itself."""
    method, calls = getattr(owner, name), count(1)

    def deadly(*args: Any, **options: Any) -> Any:
        number = next(calls)
        if (when, number) == ("before", 2):
            os.kill(os.getpid(), signal.SIGKILL)
        result = method(*args, **options)
        if (when, number) == ("after", 2):
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, deadly)


def migrate_until_killed(migrate: Call, metadata: Metadata, step: str, *args: str, **env: str) -> None:
    """The command in a fork of this process, which dies by kill -9 at a step of the second row."""
    what, when = step.split()
    metadata.engine.dispose()

    def work() -> None:
        for owner, name in STEPS[what]:
            kill_before_or_after_second_call(owner, name, when)
        migrate("--apply", "--workers", "1", *args, **env)

    assert in_fork(work) == -signal.SIGKILL


@pytest.mark.parametrize(
    ("step", "metadata"),
    [
        *((step, "sqlite") for step in ("put before", "put after", "convert after", "journal after", "switch after")),
        *((step, "postgres") for step in ("journal after", "switch after")),
    ],
    indirect=["metadata"],
)
def test_a_migration_may_be_killed_at_any_step(
    step: str, metadata: Metadata, migrate: Call, tmp_path: Path, root: Path
) -> None:
    """After kill -9 each row has its old value or its new one. The next run stores what is left under new keys.

    Never under that of an object without a row, which a sweep may be about to delete.
    """
    old = tmp_path / "old"
    expected: dict[str, Any] = {}
    for n, task_id in enumerate(TASKS):
        expected[task_id] = [*BIG, n]
        if n % 2:
            metadata.push(expected[task_id], dag_id="sales", run_id=RUN, task_id=task_id)
        else:
            stored(metadata, expected[task_id], task_id, old.as_uri())
    left = files(old)
    env = {"AIRFLOW__XCARGO__READ_PATHS": old.as_uri()}
    migrate_until_killed(migrate, metadata, step, **env)

    def value(task_id: str) -> Any:
        row = row_of(metadata, task_id)
        return value_of(row, root.as_uri(), read_paths=(old.as_uri(),)) if isinstance(row, dict) else row

    def targets() -> set[Path]:
        rows = [row_of(metadata, task_id) for task_id in TASKS]
        return {Path(row["uri"].removeprefix("file://")) for row in rows if isinstance(row, dict)} & set(files(root))

    assert {task_id: value(task_id) for task_id in TASKS} == expected
    orphans = set(files(root)) - targets()
    # Of the other steps it depends on threads whether the second object has a row, or the third one is stored.
    assert orphans or step in ("put before", "switch after")
    assert migrate("--apply", **env).code == 0
    assert {task_id: value(task_id) for task_id in TASKS} == expected
    assert set(files(root)) - targets() == orphans
    assert len(targets()) == len(TASKS)
    assert files(old) == left
    assert migrate("--delete-source", "--apply", "--grace", "0", **env).json["deleted"] == len(left)
    assert files(old) == []


def test_a_line_of_the_journal_that_a_crash_cut_short_does_not_spoil_the_next(tmp_path: Path) -> None:
    """The next migration writes to the same file."""
    journal = Journal(tmp_path / "journal")
    journal.path.write_text('{"at": 1, "from": "file:///a", "to": "file:///b"}\n{"at": 2, "fr')
    with journal:
        journal.note(**{"from": "file:///c", "to": "file:///d"})
    assert set(journal.sources()) == {"file:///a", "file:///c"}


@pytest.mark.parametrize("content", [b"[1]\n", b"5\n", b'{"from": "file:///a"}\n', b"\xff\n"])
def test_a_file_that_is_no_journal_is_refused(tmp_path: Path, content: bytes) -> None:
    """Rather than read as one that has nothing to delete."""
    (tmp_path / "journal").write_bytes(content)
    with pytest.raises(ConfigurationError, match="no journal"):
        Journal(tmp_path / "journal").sources()


@pytest.mark.parametrize("metadata", ["sqlite"], indirect=True)
@pytest.mark.parametrize("step", ["convert after", "journal after", "switch after"])
def test_a_migration_from_and_to_other_backends_may_be_killed_too(
    step: str, metadata: Metadata, migrate: Call, tmp_path: Path, root: Path
) -> None:
    """References of Common IO to ours, and ours to stock rows: old or new until the next run, and then new."""
    common = tmp_path / "common"
    common.mkdir()
    expected = {task_id: [*BIG, n] for n, task_id in enumerate(TASKS)}
    for task_id, numbers in expected.items():
        (common / f"{task_id}.json").write_text(json.dumps(numbers))
        metadata.push(f"{common.as_uri()}/{task_id}.json", dag_id="sales", run_id=RUN, task_id=task_id)
    env = {"AIRFLOW__XCARGO__LEGACY_REFERENCES": common.as_uri()}

    def value(task_id: str) -> Any:
        row = row_of(metadata, task_id)
        if isinstance(row, str):
            return json.loads(Path(row.removeprefix("file://")).read_text())
        return row if isinstance(row, list) else value_of(row, root.as_uri())

    for way in ([], ["--to", "stock"]):
        migrate_until_killed(migrate, metadata, step, *way, **env)
        assert {task_id: value(task_id) for task_id in TASKS} == expected
        assert migrate("--apply", *way, **env).code == 0
        assert {task_id: value(task_id) for task_id in TASKS} == expected
        assert migrate("--delete-source", "--apply", "--grace", "0", **env).json["deleted"] == len(TASKS)
    assert {task_id: row_of(metadata, task_id) for task_id in TASKS} == expected
    assert len(files(root)) < len(TASKS)  # what those that were killed had stored
    assert files(common) == []


@pytest.mark.parametrize("metadata", ["sqlite"], indirect=True)
def test_objects_are_decoded_and_encoded_again_on_request(metadata: Metadata, migrate: Call, root: Path) -> None:
    """The same value under a new key, as today's codecs write it; what cannot be decoded stays and is named."""
    frame = pd.DataFrame({"n": range(1000)})
    before = {name: stored(metadata, value, name, root.as_uri()) for name, value in {"f": frame, "l": BIG}.items()}
    lost = stored(metadata, BIG, "lost", root.as_uri())
    Path(lost["uri"].removeprefix("file://")).write_bytes(b"damaged")
    done = migrate("--recode", "--apply", AIRFLOW__XCARGO__COMPRESSION="none")
    assert (done.code, counts(done)) == (1, {"store failed": 1, "store moved": 2}), done.out
    pd.testing.assert_frame_equal(value_of(row_of(metadata, "f"), root.as_uri()), frame)
    assert value_of(row_of(metadata, "l"), root.as_uri()) == BIG
    for name, row in before.items():
        now = row_of(metadata, name)
        assert now["uri"] != row["uri"]
        assert now["codec"] == row["codec"]
        assert now["compression"] == "none"
    assert row_of(metadata, "lost") == lost
    assert migrate("--delete-source", "--apply", "--grace", "0").json["deleted"] == 2
    assert len(files(root)) == 3


def test_two_at_once_are_refused(metadata: Metadata, migrate: Call, root: Path) -> None:
    """The second one ends with 3 and has done nothing; after the first one's end it may."""
    metadata.push(BIG)
    with DatabaseReferences(metadata.engine).exclusive():
        done = migrate("--apply")
        assert (done.code, done.out) == (3, "")
        assert "Another migration" in done.err
        assert not root.exists()
    assert migrate("--apply").code == 0


def test_a_row_that_changes_meanwhile_is_left_alone(metadata: Metadata) -> None:
    """The switch compares and swaps: an overwritten row keeps its new value, a deleted one stays deleted."""
    metadata.push(BIG, task_id="overwritten")
    metadata.push(BIG, task_id="same")
    source = DatabaseReferences(metadata.engine)
    found = {row.coordinate.task_id: row for row in source.rows()}
    metadata.push([*BIG, 1], task_id="overwritten")
    with source.exclusive() as writer:
        assert not writer.switch(found["overwritten"], {"new": 1})
        assert writer.switch(found["same"], {"new": 1})
        assert not writer.switch(found["same"], {"newer": 1})
    assert row_of(metadata, "overwritten") == [*BIG, 1]
    assert row_of(metadata, "same") == {"new": 1}


def test_a_state_that_differs_in_case_alone_is_left_alone(metadata: Metadata) -> None:
    """MySQL takes such texts for equal."""
    metadata.state("s3://bucket/state/one", key="cursor")
    source = DatabaseReferences(metadata.engine)
    (row,) = source.rows(XComFilter(state=True))
    with source.exclusive() as writer:
        assert not writer.switch(replace(row, raw=row.raw.upper()), "new")
        assert writer.switch(row, "new")


def test_a_database_that_goes_away_ends_it(postgres_metadata: Metadata, postgres: Any) -> None:
    """A lost connection loses the right with it: nothing more is switched, and the command is told to refuse."""
    postgres_metadata.push(BIG)
    source = DatabaseReferences(postgres_metadata.engine)
    (row,) = source.rows()
    name = postgres_metadata.url.rpartition("/")[2]

    def cut_off() -> None:
        with source.exclusive() as writer:
            postgres.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
            writer.switch(row, {"new": 1})

    with pytest.raises(ReferencesUnavailableError, match="could not be read"):
        cut_off()
    assert row_of(postgres_metadata, "a_task") == BIG
    with source.exclusive() as writer:
        assert writer.switch(row, {"new": 1})


@pytest.mark.parametrize("metadata", ["sqlite"], indirect=True)
def test_a_place_without_credentials_is_an_error_and_nothing_changes(metadata: Metadata, migrate: Call) -> None:
    """Each row is told with the connection that is missing; all rows stay as they are."""
    uri = "s3://bucket/xcom/a_dag/x~0123456789abcdef.msgpack"
    row = {"__id__": "xcargo/1", "type": "list", "size_bytes": 5000, "stored_bytes": 300, "codec": "msgpack"}
    row |= {"uri": uri, "checksum": "blake3:00"}
    metadata.push(row)
    done = migrate("--apply", AIRFLOW__XCARGO__READ_PATHS="s3://nobody@bucket/xcom")
    assert (done.code, counts(done)) == (1, {"store failed": 1})
    assert "'nobody' is not defined" in done.json["unmoved"][0]["why"]
    assert row_of(metadata, "a_task") == row
