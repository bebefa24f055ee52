"""Dags whose runs store twelve objects each, one of which a second push leaves behind at once."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from airflow.sdk import dag, task


def life(dag_id: str) -> Any:
    @dag(dag_id=dag_id, schedule=None, start_date=datetime(2024, 1, 1, tzinfo=timezone.utc), max_active_runs=50)
    def life() -> None:
        @task
        def parts() -> list[str]:
            return [f"{n} " * 1000 for n in range(3)]

        @task
        def work(part: str) -> dict[str, str]:
            return {"part": part, "more": part[::-1]}

        @task
        def twice(results: Any, ti: Any = None) -> int:
            ti.xcom_push(key="twice", value="first" * 500)
            ti.xcom_push(key="twice", value="second" * 500)
            return len(list(results))

        twice(work.expand(part=parts()))

    return life()


DAGS = life_a, life_b, life_c, life_d = [life(f"life_{name}") for name in "abcd"]
