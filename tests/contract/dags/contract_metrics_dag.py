"""A Dag whose metrics are counted: four values are offloaded and pulled."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from contract_values import large

try:
    from airflow.sdk import dag, task
except ImportError:
    from airflow.decorators import dag, task


@dag(dag_id="contract_metrics", schedule=None, start_date=datetime(2024, 1, 1), catchup=False)
def metrics() -> None:
    @task
    def give() -> Any:
        return large(1)

    @task
    def take(value: Any) -> int:
        assert value == large(1)
        return 7

    @task
    def one(n: int) -> Any:
        return large(n)

    @task
    def all_of_them(values: Any) -> int:
        return len(list(values))

    take(give())
    all_of_them(one.expand(n=[1, 2, 3]))


DAG = metrics()
