"""The Dag of the tutorial: two dictionaries, a small one and a big one, pushed and pulled."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

try:
    from airflow.sdk import chain, dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task
    from airflow.models.baseoperator import chain

SMALL_OBJ = {"a": 23}
BIG_OBJ = {f"key{i}": "x" * 100 for i in range(100)}


@dag(
    schedule=None,
    # Airflow 2 does not run a Dag without one.
    start_date=datetime(2024, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    tags=["xcom", "demo"],
)
def custom_xcom_backend_test() -> None:
    @task
    def push_objects(**context: Any) -> None:
        """Push two objects: one stays in the metadata database, one goes to the store."""
        context["ti"].xcom_push(key="small_obj", value=SMALL_OBJ)
        context["ti"].xcom_push(key="big_obj", value=BIG_OBJ)

    @task
    def pull_objects(**context: Any) -> None:
        """Pull both and compare them with what was pushed."""
        for key, pushed in (("small_obj", SMALL_OBJ), ("big_obj", BIG_OBJ)):
            pulled = context["ti"].xcom_pull(task_ids="push_objects", key=key)
            if type(pulled) is not type(pushed) or pulled != pushed:
                raise ValueError(f"{key}: pulled {pulled!r}, pushed {pushed!r}")
            print(f"{key}: what was pulled is what was pushed")

    chain(push_objects(), pull_objects())


custom_xcom_backend_test()
