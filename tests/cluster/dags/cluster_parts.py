"""What the Dags of a cluster need from a module of its own: values, a trigger, a meeting."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from airflow.sdk.execution_time.xcom import XCom
from airflow.triggers.base import BaseTrigger, TriggerEvent

MEETING = Path(os.environ.get("CLUSTER_MEETING", "."))


def text(n: int, size: int = 20_000) -> str:
    return (f"{n} " * size)[:size]


def numbers_of(megabytes: int) -> Any:
    """An array of random numbers."""
    import numpy as np

    return np.random.default_rng(7).random(megabytes * 125_000)


def frame(seed: int, megabytes: int) -> Any:
    """Eight columns of random numbers."""
    import numpy as np
    import pandas as pd

    rows = megabytes * 1_000_000 // 64
    return pd.DataFrame(np.random.default_rng(seed).random((rows, 8)), columns=list("abcdefgh"))


def on(worker: str) -> dict[str, Any]:
    """Have a task run on this worker."""
    return {"queue": worker, "executor": "EdgeExecutor" if worker == "edge" else "CeleryExecutor"}


def meet(name: str, count: int, seconds: float = 300) -> None:
    """Wait until so many processes are here."""
    (MEETING / f"{name}-{os.getpid()}").touch()
    until = time.monotonic() + seconds
    while len(list(MEETING.glob(f"{name}-*"))) < count:
        assert time.monotonic() < until, f"{name}: not all came"
        time.sleep(0.1)


class Relay(BaseTrigger):
    """Pulls what its task pushed, pushes the text in upper case, and fires."""

    def __init__(self, dag_id: str, run_id: str, task_id: str) -> None:
        super().__init__()
        self.where = {"dag_id": dag_id, "run_id": run_id, "task_id": task_id}

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return ("cluster_parts.Relay", self.where)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        pulled = await XCom.aget_one(key="before", map_index=-1, **self.where)
        await XCom.aset("from_trigger", pulled.upper(), map_index=-1, **self.where)
        yield TriggerEvent(len(pulled))
