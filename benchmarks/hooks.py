"""What a measuring child calls: the XCom backend's public hooks, with a stop-watch."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

__all__ = ["Watch", "backend", "pull", "purge", "push", "same", "warm_up", "whole"]

WHERE = {"key": "return_value", "dag_id": "bench", "task_id": "task", "run_id": "run", "map_index": -1}


def backend() -> Any:
    """The backend that Airflow uses in this process."""
    from airflow.sdk.execution_time.xcom import XCom

    return XCom


def push(value: Any, map_index: int = -1) -> Any:
    """The row of a value."""
    return backend().serialize_value(value, **{**WHERE, "map_index": map_index})


def pull(row: Any) -> Any:
    """The value of a row."""
    return backend().deserialize_value(SimpleNamespace(value=row))


def whole(value: Any) -> Any:
    """The value itself, also if its bytes come at first use, as those of a file do."""
    if type(value).__name__ == "File":
        value.path  # noqa: B018
    return value


def purge(row: Any) -> None:
    """Have the object of a row deleted."""
    backend().purge(SimpleNamespace(value=row))


def warm_up() -> None:
    """A push, pull and purge that are not counted: imports and connections are made."""
    row = push({"warm": "up"})
    pull(row)
    purge(row)


class Watch:
    """Collects wall and CPU seconds (of all threads of this process) by name.

    ``with watch("push"): ...`` adds to ``metrics["push_seconds"]`` and ``metrics["push_cpu_seconds"]``.
    """

    def __init__(self) -> None:
        self.metrics: dict[str, list[float]] = {}

    def __call__(self, name: str) -> Watch:
        self._name = name
        return self

    def __enter__(self) -> None:
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def __exit__(self, *_: object) -> None:
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        self.metrics.setdefault(f"{self._name}_seconds", []).append(wall)
        self.metrics.setdefault(f"{self._name}_cpu_seconds", []).append(cpu)


def same(left: Any, right: Any) -> bool:
    """Is it the same value, of the same type?"""
    if type(left) is not type(right):
        return False
    if type(right).__name__ == "File":
        return bool(left.path.read_bytes() == right.path.read_bytes())
    if hasattr(right, "equals"):
        return bool(left.equals(right))
    return bool((left == right).all()) if hasattr(right, "dtype") else bool(left == right)
