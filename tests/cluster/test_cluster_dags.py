"""Dags of every kind on a cluster: values, number of objects, logs without errors."""

from __future__ import annotations

from typing import Any

from demo.cluster import RunResult
from tests.cluster.cluster import Cluster


def run(cluster: Cluster, dag_id: str, objects: int) -> RunResult:
    """A run that succeeds without an error in its logs, and leaves so many more objects, each with a row."""
    before = len(cluster.objects())
    done = cluster.run(dag_id)
    assert done.ok, cluster.errors(dag_id, done.run_id)
    assert cluster.errors(dag_id, done.run_id) == []
    assert cluster.objects() == cluster.referenced()
    assert len(cluster.objects()) - before == objects
    return done


def returned(cluster: Cluster, done: RunResult) -> dict[str, Any]:
    """What each task returned, as its row has it."""
    return {row.task_id: row.value for row in cluster.xcoms(done.dag_id, done.run_id) if row.key == "return_value"}


def test_the_tutorial(cluster: Cluster) -> None:
    """The README's Dag."""
    run(cluster, "custom_xcom_backend_test", objects=1)


def test_every_worker_pulls_from_every_other(cluster: Cluster) -> None:
    """Celery's and the Edge worker's, of different homes."""
    values = returned(cluster, run(cluster, "everywhere", objects=3))
    assert {name: values[f"pull_{name}"] for name in ("one", "two", "edge")} == {
        name: ["one", "two", "edge", name] for name in ("one", "two", "edge")
    }
