"""``xcargo gc``, ``restore`` and ``lifecycle`` on a real metadata database and a real folder."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.metadata import Metadata
from tests.servers import Server
from tests.servers.postgres import Postgres
from tests.unit.cli.kit import Call, Done
from tests.unit.conftest import make_pipeline
from tests.unit.lifecycle.inventories import Entry, write_s3
from xcargo.airflow.operators import XCargoGCOperator
from xcargo.airflow.references.database import DatabaseReferences
from xcargo.cli.deployment import read_settings
from xcargo.errors import ReferencesUnavailableError
from xcargo.lifecycle.bookkeeping import SweepLock
from xcargo.lifecycle.plan import SweepOptions
from xcargo.lifecycle.sweep import Sweep
from xcargo.model.coordinate import Coordinate
from xcargo.model.root import Root
from xcargo.stores.local import LocalStore

OLD = 3 * 86400


@dataclasses.dataclass
class Sandbox:
    """A folder of objects, and the database that refers to them."""

    folder: Path
    metadata: Metadata
    call: Call | None = None

    def __post_init__(self) -> None:
        self.pipeline = make_pipeline(self.folder.as_uri(), threshold_bytes=0, compression="none")

    def push(self, dag: str, *, row: bool = True, age: float = OLD, value: Any = "value", **more: Any) -> Path:
        """An object, so many seconds old, with or without its row."""
        at = Coordinate(dag, "a_run", "a_task", "return_value")
        envelope: Any = self.pipeline.push(value, at)
        path = Path(envelope["uri"].removeprefix("file://"))
        os.utime(path, (time.time() - age, time.time() - age))
        if row:
            at_time = datetime.fromtimestamp(time.time() - age, timezone.utc).isoformat()
            self.metadata.push(envelope | {"created_at": at_time}, dag_id=dag, **more)
        return path

    def gc(self, *args: str, **env: str) -> Done:
        return self.run("gc", *args, **env)

    def run(self, *args: str, **env: str) -> Done:
        assert self.call is not None
        return self.call(*args, **env)


@pytest.fixture
def sandbox(tmp_path: Path, sqlite_metadata: Metadata, here: Callable[..., Call]) -> Sandbox:
    folder = tmp_path / "xcom"
    return Sandbox(folder, sqlite_metadata, here(sqlite_metadata, AIRFLOW__XCARGO__PATH=folder.as_uri()))


def test_a_dry_run_shows_and_applying_deletes(sandbox: Sandbox, tmp_path: Path) -> None:
    """The table names Dags and why; the file holds all of it; without a yes nothing goes."""
    kept, gone, young = sandbox.push("kept"), sandbox.push("gone", row=False), sandbox.push("young", row=False, age=60)
    dry = sandbox.gc("--json")
    assert dry.code == 0, dry.err
    (report,) = dry.json
    assert report["objects"]["orphan"] == {"objects": 1, "size_bytes": gone.stat().st_size}
    assert report["dags"]["young"]["too_young"]["objects"] == 1
    assert gone.exists()
    unasked = sandbox.gc("--apply")
    assert (unasked.code, gone.exists()) == (3, True)
    assert [line.split()[:5] for line in unasked.out.splitlines() if line.startswith("gone")] == [
        ["gone", "0", "0", "B", "1"]
    ]
    applied = sandbox.gc("--apply", "--yes", "--report", str(tmp_path / "gc.json"))
    assert applied.code == 0, applied.err
    assert "1 deleted" in applied.out
    assert [path.exists() for path in (kept, gone, young)] == [True, False, True]
    assert json.loads((tmp_path / "gc.json").read_text())[0]["outcomes"]["deleted"]["objects"] == 1


def test_a_report_that_cannot_be_written_is_an_error_before_anything_is_deleted(sandbox: Sandbox) -> None:
    """What was deleted would be on record nowhere."""
    sandbox.push("kept")
    gone = sandbox.push("gone", row=False)
    done = sandbox.gc("--apply", "--yes", "--report", "/no/such/folder/gc.json")
    assert (done.code, gone.exists()) == (4, True)
    assert "/no/such/folder/gc.json" in done.err


def test_a_grace_of_zero_needs_no_unit(sandbox: Sandbox) -> None:
    """Whatever no row refers to is old enough; a note says what that may cost."""
    sandbox.push("kept")
    sandbox.push("gone", row=False, age=2)
    done = sandbox.gc("--grace", "0", "--json")
    assert (done.code, done.json[0]["objects"]["orphan"]["objects"]) == (0, 1), done.err
    assert "may go before its row is there" in done.err


def test_quarantine_and_back(sandbox: Sandbox) -> None:
    """What was moved aside is listed, and put back where it was."""
    sandbox.push("kept")
    gone = sandbox.push("gone", row=False)
    data = gone.read_bytes()
    assert sandbox.gc("--apply", "--yes", "--quarantine", "7d").code == 0
    assert not gone.exists()
    listed = sandbox.run("restore", "--json").json
    assert [entry["uri"] for entry in listed["objects"]] == [gone.as_uri()]
    assert sandbox.run("restore", "--dag", "other", "--apply").code == 0
    assert not gone.exists()
    assert sandbox.run("restore", "--dag", "gone", "--apply").code == 0
    assert gone.read_bytes() == data
    assert [path.name for path in (sandbox.folder / "~xcargo").iterdir()] == ["owner.json"]


def test_retention_lets_a_value_go_and_its_reader_know(sandbox: Sandbox) -> None:
    """A rule of the setting; the row's object becomes a note."""
    expired = sandbox.push("reports", value="x" * 5000)
    kept = sandbox.push("other")
    done = sandbox.gc(
        "--apply", "--yes", "--max-share", "1", AIRFLOW__XCARGO__RETENTION="dag=rep*: keep 1d even latest"
    )
    assert done.code == 0, done.err
    assert b"keep 1d even latest" in expired.read_bytes()
    assert kept.read_bytes() != expired.read_bytes()
    misread = sandbox.gc(AIRFLOW__XCARGO__RETENTION="keep a while")
    assert misread.code == 4
    assert "'a while' is none of" in misread.err


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["--path", "s3://somebody-elses/xcom"], 3, "none of this deployment"),
        (["--apply", "--yes", "--max-share", "0.1"], 3, "--max-share 0.5"),
        (["--grace", "a day"], 4, "not a time"),
        (["--via", "rest", "--api-url", "http://127.0.0.1:9"], 3, "does not answer"),
        (["--max-share", "2"], 2, "max-share"),
    ],
)
def test_what_it_refuses(sandbox: Sandbox, args: list[str], code: int, says: str) -> None:
    """With an exit code that tells, and nothing deleted."""
    sandbox.push("kept")
    gone = sandbox.push("gone", row=False)
    done = sandbox.gc(*args)
    assert done.code == code, done.err
    assert says in done.err
    assert gone.exists()


def test_two_at_once_are_refused(sandbox: Sandbox) -> None:
    """The second one ends with 3 and deletes nothing, as long as the first one lives."""
    sandbox.push("kept")
    gone = sandbox.push("gone", row=False)
    with SweepLock(LocalStore(Root.parse(sandbox.folder.as_uri())), []):
        done = sandbox.gc("--apply", "--yes")
        assert (done.code, gone.exists()) == (3, True)
        assert "Another sweep is under way" in done.err
        assert "nothing to do" not in done.out
    assert sandbox.gc("--apply", "--yes").code == 0
    assert not gone.exists()


def test_a_path_without_credentials_ends_it_before_anything_is_deleted(sandbox: Sandbox) -> None:
    """Neither there nor below another path."""
    sandbox.push("kept")
    gone = sandbox.push("gone", row=False)
    done = sandbox.gc("--apply", "--yes", AIRFLOW__XCARGO__READ_PATHS="s3://nobody@bucket/xcom")
    assert (done.code, gone.exists()) == (4, True)
    assert "'nobody' is not defined" in done.err


def test_a_database_that_goes_away_midway_is_refused(
    tmp_path: Path, postgres_metadata: Metadata, postgres: Postgres
) -> None:
    """Part of the rows were read: nothing is deleted, neither then nor by what was planned before."""
    sandbox = Sandbox(tmp_path / "xcom", postgres_metadata)
    for n in range(6):
        sandbox.push(f"kept{n}")
    gone = sandbox.push("gone", row=False)
    root = Root.parse(sandbox.folder.as_uri())
    source = DatabaseReferences(postgres_metadata.engine, page_rows=2)
    name = postgres_metadata.url.rpartition("/")[2]
    seen = 0

    def cut_off() -> None:
        nonlocal seen
        seen += 1
        if seen == 3:
            postgres.sql(
                f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false',
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",
            )

    options = SweepOptions(grace_seconds=3600, max_share=None)
    planned, cut = (Sweep(LocalStore(root), source, root=root, options=options) for _ in range(2))
    with planned, cut:
        report = planned.plan()
        assert report.deletable.objects == 1
        with pytest.raises(ReferencesUnavailableError, match="could not be read"):
            cut.plan(cut_off)
        with pytest.raises(ReferencesUnavailableError, match="could not be read"):
            planned.apply(report)
    postgres.sql(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    assert gone.exists()


@pytest.mark.parametrize(
    ("cloud", "path", "where"),
    [
        ("aws", "s3://bucket/xcom", ("Rules", 1, "Expiration", "Days")),
        ("minio", "s3://bucket/xcom", ("Rules", 1, "Filter", "Prefix")),
        ("gcs", "gs://bucket/xcom", ("rule", 0, "condition", "age")),
        ("azure", "az://bucket/xcom", ("rules", 0, "definition", "filters", "prefixMatch", 0)),
    ],
)
def test_the_buckets_own_rule(sandbox: Sandbox, cloud: str, path: str, where: tuple[Any, ...]) -> None:
    """The documents have the clouds' own shape, and end below the path."""
    done = sandbox.run("lifecycle", cloud, "--path", path, "--days", "180")
    assert done.code == 0, done.err
    found = done.json
    for part in where:
        found = found[part]
    assert found in (180, "xcom/", "bucket/xcom/")


def test_the_buckets_rule_follows_from_retention_where_every_value_has_an_end(sandbox: Sandbox) -> None:
    """Else it has to be told."""
    print_rule = ("lifecycle", "aws", "--path", "s3://bucket/xcom")
    done = sandbox.run(*print_rule, AIRFLOW__XCARGO__RETENTION="dag=a: keep 60d even latest; keep 30d even latest")
    assert done.json["Rules"][1]["Expiration"]["Days"] == 90
    assert sandbox.run(*print_rule, AIRFLOW__XCARGO__RETENTION="keep 30d").code == 4


@pytest.mark.parametrize("file_format", ["Parquet", "CSV"])
def test_an_inventory_instead_of_a_listing(
    s3_server: Server,
    sqlite_metadata: Metadata,
    here: Callable[..., Call],
    monkeypatch: pytest.MonkeyPatch,
    file_format: str,
) -> None:
    """The folder's newest is judged by gc, also as an operator that is mapped; du sums it up, rows or not."""
    root = Root.parse(f"{s3_server.root}/by-inventory-{file_format}")
    env = {"AIRFLOW__XCARGO__PATH": str(root), **s3_server.env()}
    call = here(sqlite_metadata, **env)
    pipeline = make_pipeline(str(root), connection=s3_server.connection, threshold_bytes=0, compression="none")
    rows: list[Any] = [
        pipeline.push("value", Coordinate(dag, "run 1", "t", "k", 3)) for dag in ("kept", "gone", "gone")
    ]
    sqlite_metadata.push(rows[0], dag_id="kept")
    keys = [row["uri"].partition(f"{s3_server.bucket}/")[2] for row in rows]
    taken = datetime.now(timezone.utc)
    entries = [Entry(key, 5, taken - timedelta(days=2)) for key in (*keys, f"{root.prefix}/of somebody else")]
    folder = f"inventories-{file_format}"
    write_s3(s3_server.raw_put, entries, bucket=s3_server.bucket, taken=taken, file_format=file_format, folder=folder)
    url = f"{s3_server.root.rpartition('/')[0]}/{folder}"
    time.sleep(1.1)
    dry = call("gc", "--inventory", url, "--json", "--max-share", "1")
    assert dry.code == 0, dry.err
    assert {word: count["objects"] for word, count in dry.json[0]["objects"].items() if count["objects"]} == {
        "live": 1,
        "orphan": 2,
        "not_ours": 1,
    }
    assert dry.json[0]["inventory_taken_at"] == taken.isoformat(timespec="seconds")
    shown = call("gc", "--inventory", url, "--max-share", "1")
    assert f"by the inventory of {taken:%Y-%m-%d %H:%M} UTC" in shown.out
    summed = call("du", "--inventory", url, "--by", "run", "--json")
    assert (summed.code, summed.json["entries"]) == (
        0,
        [
            {"dag_id": "gone", "run_id": "run 1", "objects": 2, "stored_bytes": 10},
            {"dag_id": "kept", "run_id": "run 1", "objects": 1, "stored_bytes": 5},
        ],
    )
    assert "1 other objects" in summed.err
    of_one = call("du", "--inventory", url, "--dag", "g*", "--map-index", "3", "--json")
    assert of_one.json["total"] == {"objects": 2, "stored_bytes": 10}
    assert call("du", "--path", str(root), "--json").json["total"]["objects"] == 1
    missing = call("gc", "--inventory", f"{url}/nothing")
    assert (missing.code, "no manifest" in missing.err) == (4, True)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("xcargo.airflow.operators.settings", read_settings)
    (part,) = XCargoGCOperator(
        task_id="plan", via="database", inventory=url, prefixes=["gone"], max_share=None
    ).execute({})
    assert {word: count["objects"] for word, count in part["objects"].items() if count["objects"]} == {"orphan": 2}
