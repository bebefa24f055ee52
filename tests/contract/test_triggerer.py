"""The state of assets in a real triggerer, which uses the asynchronous methods (Airflow 3.3 and later)."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.servers.processes import running

from .conftest import HERE, run

pytestmark = pytest.mark.skipif(find_spec("airflow.state") is None, reason="this Airflow has no state store")

DAGS = HERE / "dags_watch"


def test_a_watcher_keeps_state_in_a_triggerer(database: Path, tmp_path: Path) -> None:
    """Small, large and typed values come back; what was deleted, cleared and overwritten leaves no row or object."""
    shutil.copy(database, tmp_path / "airflow.db")
    root = tmp_path / "objects"
    env = {
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",  # the watchers of a paused Dag do nothing
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/airflow.db",
        "AIRFLOW__WORKERS__STATE_STORE_BACKEND": "xcargo.StateStoreBackend",
        "AIRFLOW__XCARGO__PATH": root.as_uri(),
        "PYTHONPATH": f"{DAGS}:{os.environ['PYTHONPATH']}",
    }
    done = run("-m", "airflow", "dags", "reserialize", env=env)
    assert done.returncode == 0, (done.stdout + done.stderr)[-10_000:]

    def is_done() -> bool:
        return sum(key == "found" for _, key in rows_of(tmp_path / "airflow.db")) == 2

    with running([sys.executable, "-m", "airflow", "triggerer", "--skip-serve-logs"], is_ready=is_done, env=env):
        pass
    rows = rows_of(tmp_path / "airflow.db")
    assert rows["contract_watched", "found"] == {"large": True, "typed": True, "gone": "nothing"}
    assert rows["contract_cleared", "found"] == [None, None]
    assert set(rows) == {
        *(("contract_watched", key) for key in ("large", "typed", "found")),
        ("contract_cleared", "found"),
    }
    objects = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
    folders = {path.rpartition("/")[0] for path in objects}
    assert rows["contract_watched", "large"]["uri"].removeprefix(f"{root.as_uri()}/") in objects
    assert {folder for folder in folders if not folder.endswith(("/found", "/typed"))} == {
        "~asset-names/contract_watched/large"
    }


def rows_of(database: Path) -> dict[tuple[str, str], Any]:
    """What the backend gave for each key of each asset."""
    with sqlite3.connect(database) as connection:
        query = "SELECT a.name, s.key, s.value FROM asset_state_store s JOIN asset a ON a.id = s.asset_id"
        query += " WHERE a.name IN ('contract_watched', 'contract_cleared')"
        rows = connection.execute(query)
        return {(name, key): json.loads(*json.loads(value).values()) for name, key, value in rows}
