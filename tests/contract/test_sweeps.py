"""What a deletion leaves behind and a sweep collects, on this Airflow's own tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xcargo.airflow.operators import XCargoGCOperator

from .conftest import Run, file_of, objects_of, rows_of
from .generation import AIRFLOW_2
from .settle import Place

DAG_ID = "contract_delete"


def referenced(database: Path) -> set[Path]:
    return {file_of(row.value) for row in rows_of(database, DAG_ID) if isinstance(row.value, dict)}


def test_deleting_an_xcom_purges_its_object(dag_runs: dict[str, Run]) -> None:
    """An overwritten value stays as an orphan, since somebody may be reading it."""
    run = dag_runs[DAG_ID]
    live = {row.key: file_of(row.value) for row in run.rows if isinstance(row.value, dict)}
    assert sorted(live) == (["gone", "kept"] if AIRFLOW_2 else ["kept"])
    assert set(live.values()) < run.objects
    assert len(run.objects) == len(live) + 1


def test_the_operator_shows_and_takes_the_orphans(dag_runs: dict[str, Run], place: Place, database: Path) -> None:
    """By the rows of this Airflow; live values of all attempts stay."""
    orphans = objects_of(place, DAG_ID) - referenced(database)
    assert orphans
    options: dict[str, Any] = {"prefixes": [DAG_ID], "via": "database", "grace": "0s", "max_share": None}
    (dry,) = XCargoGCOperator(task_id="dry", **options).execute({})
    assert dry["objects"]["orphan"]["objects"] == len(orphans)
    assert dry["objects"].get("live", {"objects": 0})["objects"] == len(referenced(database))
    (done,) = XCargoGCOperator(task_id="sweep", apply=True, **options).execute({})
    assert done["outcomes"]["deleted"]["objects"] == len(orphans)
    assert objects_of(place, DAG_ID) == referenced(database)
