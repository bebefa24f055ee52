"""A Dag that pushes a value of each kind that the explorer shows."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow.plugins_manager import AirflowPlugin

try:
    from airflow.sdk import dag, get_current_context, task
except ImportError:
    from airflow.decorators import dag, task
    from airflow.operators.python import get_current_context


@dag(schedule=None, start_date=datetime(2024, 1, 1), catchup=False)
def contract_explorer() -> None:
    """Two map indexes, each with the same keys."""

    @task
    def values(number: int) -> None:
        import numpy as np
        import pyarrow as pa

        pushed: dict[str, Any] = {
            "table": pa.table({"id": range(1000), "name": [f"name {n % 50}" for n in range(1000)]}),
            "tree": {f"key {n}": [n, "text ö", None] for n in range(3000)},
            "array": np.arange(600.0).reshape(20, 30),
            "bytes": bytes(range(256)) * 20,
            "text": "text ö " * 100,
            "picture": b"\x89PNG\r\n\x1a\n" + bytes(200),
            "plain": {"plain": number},
            "gone": b"gone " * 100,
            "altered": b"altered " * 100,
        }
        for key, value in pushed.items():
            get_current_context()["ti"].xcom_push(key=key, value=value)

    values.expand(number=[1, 2])


DAGS = [contract_explorer()] if hasattr(AirflowPlugin, "external_views") else []
