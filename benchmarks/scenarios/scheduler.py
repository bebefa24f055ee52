"""What a backend costs a task: the tutorial's Dag in real Airflows, alike but for the XCom backend.

``task`` is the task instance's duration, ``small`` and ``big`` are the pushes and pulls of the tutorial's two values in
it. All three Airflows are started first; then each round wakes one after the other, runs the Dag once and freezes it
again, so that every run has the machine to itself. The first round warms up and does not count. Every task is a process
of its own, as in production: what a backend imports and connects is part of its time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from benchmarks.store import Store
from benchmarks.subjects import BACKENDS
from benchmarks.trial import Plan, Sample
from demo.cluster import Cluster
from demo.processes import terminate_like_interrupt

BASELINE = ("database", "common-io")
SHOWN = ("task_seconds", "small_seconds", "big_seconds")
NOT_QUICK = True

DAGS = Path(__file__).resolve().parent.parent / "dags"
DAG_ID = "push_objects_timed"


def samples(plan: Plan, store: Store, rounds: int, tell: Callable[[str], None]) -> Iterator[Sample]:
    """Run the Dag in turn."""
    if 0 not in plan.latencies_ms:
        return
    with (
        terminate_like_interrupt(),
        tempfile.TemporaryDirectory(prefix="xcargo-bench-") as directory,
        ExitStack() as stack,
    ):
        clusters = {}
        for name in BACKENDS:
            tell(f"scheduler: starting the Airflow with {name}")
            home, env = Path(directory) / name, environment(name, store)
            clusters[name] = stack.enter_context(Cluster(home, dags=DAGS, env=env, progress=lambda _: None))
            run_once(clusters[name])
            clusters[name].pause()
        for number in range(rounds):
            for name, cluster in clusters.items():
                tell(f"scheduler: round {number + 1} of {rounds}: {name}")
                cluster.resume()
                for case, metrics in run_once(cluster).items():
                    yield Sample("scheduler", case, name, 0, number, metrics)
                cluster.pause()


def environment(name: str, store: Store) -> dict[str, str]:
    """The settings in which the three differ: each as its tutorial has it."""
    # Parsed once is enough; parsing again would disturb the others.
    common = {"AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600"}
    if name == "database":
        return common
    common |= {"AIRFLOW__CORE__XCOM_BACKEND": str(BACKENDS[name]), **store.env(0)}
    if name == "xcargo":
        return {**common, "AIRFLOW__XCARGO__PATH": f"{store.root}/xcargo"}
    return {
        **common,
        "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH": f"{store.root}/common-io",
        "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD": "1000",
        "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_COMPRESSION": "zip",
    }


def run_once(cluster: Cluster) -> dict[str, dict[str, float]]:
    """Run the Dag: case -> metrics. RuntimeError with the log if a task failed."""
    result = cluster.wait(DAG_ID, run_id := cluster.trigger(DAG_ID))
    for task in result.tasks:
        if task.state != "success":
            raise RuntimeError(cluster.task_log(DAG_ID, run_id, task.task_id))
    watch = {row.task_id: row.value for row in cluster.xcoms(DAG_ID, run_id) if row.key == "seconds"}
    return {
        f"{verb}_objects": {
            "task_seconds": result.task(f"{verb}_objects").duration_seconds or 0.0,
            "small_seconds": watch[f"{verb}_objects"]["small_obj"],
            "big_seconds": watch[f"{verb}_objects"]["big_obj"],
        }
        for verb in ("push", "pull")
    }
