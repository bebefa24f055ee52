"""Dags of a cluster. Each task checks what it gets."""

from __future__ import annotations

import os
from typing import Any

from airflow.sdk import dag, task


def text(n: int, size: int = 20_000) -> str:
    return (f"{n} " * size)[:size]


@dag(schedule=None)
def everywhere() -> None:
    """From each worker to each other."""

    @task
    def push(name: str) -> Any:  # a dict would be stored by key, too
        return {"home": os.environ["AIRFLOW_HOME"].rpartition("/")[2], "text": text(len(name))}

    @task
    def pull(pushed: list[dict[str, Any]]) -> list[str]:
        assert [value["text"] for value in pushed] == [text(3), text(3), text(4)]
        return [value["home"] for value in pushed] + [os.environ["AIRFLOW_HOME"].rpartition("/")[2]]

    def on(worker: str) -> dict[str, Any]:
        return {"queue": worker, "executor": "EdgeExecutor" if worker == "edge" else "CeleryExecutor"}

    workers = ("one", "two", "edge")
    pushed = [push.override(task_id=f"push_{name}", **on(name))(name) for name in workers]
    for name in workers:
        pull.override(task_id=f"pull_{name}", **on(name))(pushed)


everywhere()
