"""Once a week: what no XCom refers to any more goes, swept by Airflow's own workers side by side.

The folders of the bucket are split into parts. Each part is planned, all plans are judged together, and only if they
may, each part is swept. Nothing is deleted until ``APPLY`` is True.

On Airflow 3 tasks have no access to the metadata database, so live references are read through the REST API: make a
connection ``airflow_api`` with the API's URL as host, and login and password of a user who may read all XComs.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task

from xcargo.airflow.operators import XCargoGCOperator

APPLY = False
PARTS = 16
MAX_SHARE = 0.5
OPTIONS: dict[str, Any] = {
    "grace": "24h",
    "api_conn_id": "airflow_api",
    "all_dags": False,  # True if the user of that connection may read every Dag: then objects of deleted Dags go too
}


@dag(
    schedule="@weekly",
    start_date=datetime(2024, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},
    tags=["xcargo", "gc"],
)
def xcargo_gc() -> None:
    @task
    def split() -> list[list[str]]:
        """Folders at the top of the bucket, in parts."""
        from xcargo.airflow.operators import prefixes

        return prefixes(PARTS)

    @task(multiple_outputs=False)
    def judge(reports: Any) -> dict[str, dict[str, int]]:
        """Refuse if all parts together would take too much."""
        from xcargo.airflow.operators import approve

        return approve(reports, MAX_SHARE)

    parts = split()
    plans = XCargoGCOperator.partial(task_id="plan", max_share=None, **OPTIONS).expand(prefixes=parts)
    judged = judge(plans.output)
    if APPLY:
        sweep = XCargoGCOperator.partial(task_id="sweep", apply=True, max_share=None, **OPTIONS).expand(prefixes=parts)
        judged >> sweep


xcargo_gc()
