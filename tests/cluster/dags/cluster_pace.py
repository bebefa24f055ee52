"""The Dag by which `make cluster CLUSTER=--pace` measures backends."""

from __future__ import annotations

import random
import time
from typing import Any

from airflow.sdk import dag, task


def text(n: int) -> str:
    """20 KB, of which compression leaves half."""
    return random.Random(n).randbytes(10_000).hex()


@dag(schedule=None, params={"count": 1000})
def pace() -> None:
    """Mapped tasks and one that gathers what they returned."""

    @task
    def numbers(params: Any) -> list[int]:
        return list(range(params["count"]))

    @task
    def push(n: int) -> str:
        return text(n)

    @task
    def gather(texts: Any, params: Any) -> float:
        started = time.perf_counter()
        gathered = list(texts)
        seconds = time.perf_counter() - started
        assert gathered == [text(n) for n in range(params["count"])]
        return seconds

    gather(push.expand(n=numbers()))


pace()
