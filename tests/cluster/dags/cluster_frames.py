"""Dags of a cluster whose file takes a second to import, as that of a data scientist does."""

from __future__ import annotations

import hashlib
import multiprocessing
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
from airflow.sdk import dag, task, task_group
from cluster_parts import frame, meet, on, text

import xcargo

FRAMES = 16


@dag(schedule=None)
def grouped() -> None:
    """Mapped groups of tasks, frames that are mapped, generators, and a list that is expanded."""

    @task
    def parts() -> list[str]:
        return [text(n) for n in range(3)]

    @task_group
    def group(part: str) -> Any:
        @task
        def make(part: str) -> pd.DataFrame:
            return pd.DataFrame({"words": part.split()}).astype({"words": "category"})

        @task
        def count(words: pd.DataFrame) -> int:
            assert words["words"].dtype == "category"
            return len(words)

        return count(make(part))

    @task
    def sum_up(counts: Any) -> int:
        return sum(counts)

    @task
    def yielded() -> object:
        return (bytes([n]) * 100_000 for n in range(20))

    @task
    def batches() -> object:
        made = (pa.record_batch({"n": np.arange(n * 1000, (n + 1) * 1000)}) for n in range(20))
        return pa.RecordBatchReader.from_batches(pa.schema({"n": pa.int64()}), made)

    @task
    def read(stream: xcargo.ByteStream, reader: pa.RecordBatchReader) -> Any:
        digest = hashlib.sha256(b"".join(stream)).hexdigest()
        return [digest, sum(batch.column("n").to_numpy().sum().item() for batch in reader)]

    sum_up(group.expand(part=parts()))
    read(yielded(), batches())


def forked_totals(columns: list[Any]) -> list[float]:
    """The sums, worked out by a pool of processes. Celery's tasks cannot spawn any: billiard forbids its key."""
    pool = multiprocessing.get_context("fork").Pool(2)
    try:
        return pool.map(np.sum, columns)
    finally:  # not `with`, which terminates: forked children have Airflow's handler of SIGTERM, and stay
        pool.close()
        pool.join()


@dag(schedule=None)
def parallel() -> None:
    """Other processes work inside of a task that has pulled; then it pushes."""

    @task
    def push() -> pd.DataFrame:
        return frame(3, 4)

    @task
    def work(pulled: pd.DataFrame) -> pd.DataFrame:
        # Celery marks its processes as daemons, which may have no children.
        multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]
        columns = [pulled[name].to_numpy() for name in pulled]
        forked = forked_totals(columns)
        joined = joblib.Parallel(n_jobs=4)(joblib.delayed(np.sum)(column) for column in columns)
        threaded = joblib.Parallel(n_jobs=4, prefer="threads")(joblib.delayed(np.sum)(column) for column in columns)
        assert forked == joined == threaded == [np.sum(column) for column in columns]
        return pulled * 2

    @task
    def check(pulled: pd.DataFrame) -> bool:
        pd.testing.assert_frame_equal(pulled, frame(3, 4) * 2, check_exact=True)
        return True

    check(work(push()))


@dag(schedule=None)
def frames() -> None:
    """All at once, on one worker, each 50 MB."""

    @task(**on("one"))
    def push(seed: int) -> pd.DataFrame:
        value = frame(seed, 50)
        meet("frames", FRAMES)
        return value

    @task(**on("two"))
    def check(pulled: Any) -> int:
        for seed, value in enumerate(pulled):
            pd.testing.assert_frame_equal(value, frame(seed, 50), check_exact=True)
        return len(pulled)

    check(push.expand(seed=list(range(FRAMES))))


for make in (grouped, parallel, frames):
    make()
