"""What a deletion leaves behind and a sweep collects, on this Airflow's own tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from xcargo.airflow import runtime
from xcargo.airflow.operators import XCargoGCOperator
from xcargo.airflow.references import DatabaseReferences
from xcargo.errors import ObjectExpiredError
from xcargo.lifecycle.plan import Policy
from xcargo.lifecycle.references import Where
from xcargo.lifecycle.report import Outcome
from xcargo.lifecycle.retention import parse_rules
from xcargo.lifecycle.sweep import Sweep
from xcargo.root import Root
from xcargo.stores.localfiles import LocalStore

from .conftest import Run, file_of, objects_of, rows_of
from .generation import AIRFLOW_2
from .settle import Place
from .test_dags import PER_ATTEMPT

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


@pytest.mark.skipif(not PER_ATTEMPT, reason="this Airflow keeps the rows of one attempt only")
def test_values_of_earlier_attempts_go_by_a_rule(dag_runs: dict[str, Run], place: Place) -> None:
    """By 'keep attempts 1' the first attempt's value expires, and its row says so; the second one's stays."""
    before = {path: path.read_bytes() for path in objects_of(place, "contract_retry")}
    root = Root.parse(place.root.as_uri())
    source, store = DatabaseReferences(), LocalStore(root)
    try:
        rows = list(source.rows(Where(dag_id="contract_retry"), only_envelopes=True))
        assert len(rows) == 2  # and orphans that other tests left
        rules = parse_rules("dag=contract_retry: keep attempts 1")
        with Sweep(store, root, source, Policy(0, None), rules, ["contract_retry"]) as sweep:
            report = sweep.apply(sweep.plan())
        assert report.outcomes[Outcome.EXPIRED].objects == 1
        deleted = report.outcomes[Outcome.DELETED].objects if Outcome.DELETED in report.outcomes else 0
        assert deleted == len(before) - 2
        told = {}
        for row in rows:
            try:
                value = runtime.run(lambda pipeline, row=row: pipeline.pull(row.value))
            except ObjectExpiredError as error:
                told[row.coordinate.attempt] = str(error)
            else:
                told[row.coordinate.attempt] = value["number"]
        expired, number = sorted(told.values(), key=str, reverse=True)
        assert number == 2
        assert "keep attempts 1" in expired
    finally:
        for path, data in before.items():  # other tests read them
            path.write_bytes(data)
