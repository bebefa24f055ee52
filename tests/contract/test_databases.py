"""Rows that operators get from real databases."""

from __future__ import annotations

import json

import pytest
from contract_sql_dags import TASKS, check

from .conftest import Run
from .generation import AIRFLOW_2, HOOKS
from .test_dags import is_offloaded


@pytest.mark.parametrize(("dag_id", "task_id"), [(dag_id, task_id) for dag_id in TASKS for task_id in TASKS[dag_id]])
def test_rows_come_back_in_another_process(dag_runs: dict[str, Run], dag_id: str, task_id: str) -> None:
    """Of the same kind, with their columns, and values of the same types; as they did in a task of the Dag."""
    if dag_id not in dag_runs:
        pytest.skip("There is no PostgreSQL")
    assert dag_runs[dag_id].state == "success", dag_runs[dag_id].log[-20_000:]
    row = dag_runs[dag_id].row(task_id)
    assert is_offloaded(row)
    as_stored = json.dumps(row, separators=(",", ":"), ensure_ascii=False).encode() if AIRFLOW_2 else row
    check(dag_id, task_id, HOOKS[-1].pull(as_stored))
