"""The state store of tasks and assets, on an Airflow that has one: 3.3 and later."""

from __future__ import annotations

import json
import os
import sqlite3
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from xcargo.airflow.references.database import DatabaseReferences
from xcargo.lifecycle.plan import SweepOptions, Verdict
from xcargo.lifecycle.sweep import Sweep
from xcargo.model.root import Root
from xcargo.stores.local import LocalStore

from .conftest import HERE, run

pytestmark = pytest.mark.skipif(find_spec("airflow.state") is None, reason="this Airflow has no state store")

DAGS = HERE / "dags_state"
COMMON_IO = "airflow.providers.common.io.state_store.backend.StateStoreObjectStorageBackend"


@dataclass(frozen=True)
class State:
    """What the Dag left: the rows of its tasks and of the asset, and all objects."""

    root: Path
    run_id: str
    tasks: dict[tuple[str, int, str], Any]
    assets: dict[str, Any]


@pytest.fixture(scope="module")
def state(database: Path, tmp_path_factory: pytest.TempPathFactory) -> State:
    """Common IO's backend at first, then ours by one setting more: the options of Common IO stay as they are."""
    root = tmp_path_factory.mktemp("state")
    env = {
        "AIRFLOW__COMMON_IO__STATE_STORE_OBJECTSTORAGE_PATH": root.as_uri(),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__XCARGO__PATH": "",
        "PYTHONPATH": f"{DAGS}:{os.environ['PYTHONPATH']}",
    }
    for backend, name in ((COMMON_IO, "old"), ("xcargo.StateStoreBackend", "new")):
        done = run(str(HERE / "run_state.py"), name, env=env | {"AIRFLOW__WORKERS__STATE_STORE_BACKEND": backend})
        assert done.returncode == 0, (done.stdout + done.stderr)[-20_000:]
    run_id = done.stdout.rpartition("RUN ")[2].strip()
    with sqlite3.connect(database) as rows:
        index = "region_index" if "region_index" in columns(rows, "task_state_store") else "map_index"
        tasks = rows.execute(f"SELECT task_id, {index}, key, value FROM task_state_store").fetchall()
        assets = rows.execute("SELECT key, value FROM asset_state_store").fetchall()
    return State(root, run_id, {row[:3]: ref_of(row[3]) for row in tasks}, {k: ref_of(v) for k, v in assets})


def columns(database: sqlite3.Connection, table: str) -> set[str]:
    return {row[1] for row in database.execute(f"PRAGMA table_info({table})")}


def ref_of(value: str) -> Any:
    """What the backend gave for a value: JSON of ours, or a URL of Common IO's."""
    (ref,) = json.loads(value).values()
    try:
        return json.loads(ref)
    except ValueError:
        return ref


def objects(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def test_values_come_back_in_a_real_dag(state: State) -> None:
    """Small ones stay in their rows as they are; of large and typed ones the row has an envelope. The Dag compared."""
    assert state.tasks["keep", -1, "small"] == {"b": 1, "a": "é"}
    assert state.tasks["keep", -1, "large"]["__id__"] == "xcargo/1"
    assert set(state.tasks) == {
        *(("keep", -1, key) for key in ("small", "large", "typed")),
        *(("cleared", 1, key) for key in ("one", "two")),
    }
    assert set(state.assets) == {"cursor", "old", "old small"}
    assert isinstance(state.assets["old"], str)


def test_every_row_refers_to_an_object_that_is_there(state: State) -> None:
    """Below the path that Common IO's options name, in folders of the key; what was deleted and cleared is gone."""
    rows = [*state.tasks.values(), *state.assets.values()]
    uris = [row["uri"] for row in rows if isinstance(row, dict) and "uri" in row]
    named = {uri.removeprefix(f"{state.root.as_uri()}/") for uri in uris}
    left = objects(state.root)
    assert named <= left
    old = {key for key in left if "~" not in key}
    assert len(old) == 2
    (overwritten,) = left - named - old
    assert "/~state/keep/-1/large/~" in overwritten
    assert not any("gone" in key or "/cleared/0/" in key for key in left)


def test_a_sweep_keeps_what_rows_refer_to_and_takes_what_they_left(state: State) -> None:
    """With rows of XComs and of the state store in one database; Common IO's objects are not touched."""
    root = Root.parse(state.root.as_uri())
    options = SweepOptions(grace_seconds=-1, max_share=None)
    before = objects(state.root)
    with Sweep(LocalStore(root), DatabaseReferences(), root=root, options=options) as sweep:
        report = sweep.plan()
    assert {verdict: count.objects for verdict, count in report.total.items()} == {
        Verdict.LIVE: 4,
        Verdict.ORPHAN: 1,
        Verdict.FOREIGN: 2,
    }
    assert objects(state.root) == before
