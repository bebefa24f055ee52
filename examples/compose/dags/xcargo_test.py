"""Shows that XComs travel through xcargo: a small value, a large one and a table's worth of types, there and back."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task

VALUES = {
    "small": {"a": 23},
    "large": {f"key{i}": "x" * 100 for i in range(1000)},
    "types": [(1, 2), {3, 4}, b"bytes", datetime(2024, 1, 1, tzinfo=timezone.utc)],
}


@dag(schedule=None, start_date=datetime(2024, 1, 1, tzinfo=timezone.utc), catchup=False, tags=["xcargo"])
def xcargo_test() -> None:
    @task
    def push() -> dict[str, Any]:
        return VALUES

    @task
    def pull(values: dict[str, Any]) -> None:
        if values != VALUES:
            raise ValueError("What was pulled is not what was pushed")
        print("What was pulled is what was pushed")

    pull(push())


xcargo_test()
