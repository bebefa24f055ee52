"""A Dag that looks for orphans every time it runs, and deletes nothing."""

from __future__ import annotations

from datetime import datetime, timezone

from airflow.sdk import dag

from xcargo.airflow.operators import XCargoGCOperator


@dag(schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc), tags=["xcargo", "gc"])
def sweeping() -> None:
    XCargoGCOperator(task_id="sweep", grace="1s", max_share=None, api_conn_id="airflow_api", all_dags=True)


sweeping()
