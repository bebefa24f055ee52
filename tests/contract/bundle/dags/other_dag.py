"""A Dag of another file, which pulls what `own_classes` pushed."""

from __future__ import annotations

from datetime import datetime
from typing import Any

try:
    from airflow.sdk import dag, task
except ImportError:
    from airflow.decorators import dag, task


@dag(schedule=None, start_date=datetime(2024, 1, 1), catchup=False)
def other() -> None:
    @task
    def take(value: Any) -> None:
        assert [type(one).__name__ for one in value] == [
            "Order",
            "Line",
            "Pair",
            "Colour",
            "Parcel",
            "Invoice",
            "Address",
        ]

    take([])


other()
