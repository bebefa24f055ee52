"""The tutorial's Dag with a stop-watch around each push and pull."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import Any

from airflow.sdk import chain, dag, task

OBJECTS = {
    "small_obj": {"a": 23},
    "big_obj": {f"key{i}": "x" * 100 for i in range(100)},
}


@dag(schedule=None, start_date=datetime(2024, 1, 1, tzinfo=timezone.utc), catchup=False)
def push_objects_timed() -> None:
    @task
    def push_objects(**context: Any) -> None:
        """Push both objects, then the seconds that each took."""
        seconds = {}
        for key, value in OBJECTS.items():
            begin = time.perf_counter()
            context["ti"].xcom_push(key=key, value=value)
            seconds[key] = time.perf_counter() - begin
        context["ti"].xcom_push(key="seconds", value=seconds)

    @task
    def pull_objects(**context: Any) -> None:
        """Pull both objects and check them, then push the seconds that each took."""
        seconds = {}
        for key, value in OBJECTS.items():
            begin = time.perf_counter()
            pulled = context["ti"].xcom_pull(task_ids="push_objects", key=key)
            seconds[key] = time.perf_counter() - begin
            if pulled != value:
                raise ValueError(f"{key}: pulled {pulled!r}")
        context["ti"].xcom_push(key="seconds", value=seconds)

    chain(push_objects(), pull_objects())


push_objects_timed()
