"""What a deletion leaves behind and a sweep collects, on this Airflow's own tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from xcargo.airflow.operators import XCargoGCOperator

from .conftest import HERE, file_of, objects_of, rows_of, run
from .generation import AIRFLOW_2
from .settle import Place

DAG_ID = "contract_delete"


@pytest.fixture(scope="module")
def deleted(place: Place, database: Path) -> Path:
    """The Dag has run."""
    report = place.home / "deleted.json"
    done = run(str(HERE / "run_dags.py"), str(report), DAG_ID)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(report.read_text())[DAG_ID]["state"] == "success", done.stdout + done.stderr
    return database


def referenced(database: Path) -> set[Path]:
    return {file_of(row.value) for row in rows_of(database, DAG_ID) if isinstance(row.value, dict)}


def test_deleting_an_xcom_purges_its_object(deleted: Path, place: Place) -> None:
    """An overwritten value stays as an orphan, since somebody may be reading it."""
    keys = [row.key for row in rows_of(deleted, DAG_ID) if isinstance(row.value, dict)]
    assert sorted(keys) == (["gone", "kept"] if AIRFLOW_2 else ["kept"])
    assert referenced(deleted) < objects_of(place, DAG_ID)
    assert len(objects_of(place, DAG_ID)) == len(keys) + 1


def test_the_operator_shows_and_takes_the_orphan(deleted: Path, place: Place) -> None:
    """By the rows of this Airflow; live values of all attempts stay."""
    options: dict[str, Any] = {"prefixes": [DAG_ID], "via": "database", "grace": "0s", "max_share": None}
    (dry,) = XCargoGCOperator(task_id="dry", **options).execute({})
    assert dry["objects"]["orphan"]["objects"] == 1
    assert dry["objects"]["live"]["objects"] == len(referenced(deleted))
    (done,) = XCargoGCOperator(task_id="sweep", apply=True, **options).execute({})
    assert done["outcomes"]["deleted"]["objects"] == 1
    assert objects_of(place, DAG_ID) == referenced(deleted)
