"""Dags of every kind on a cluster: values, number of objects, logs without errors."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

from demo.cluster import RunResult
from tests.cluster.cluster import Cluster


def run(cluster: Cluster, dag_id: str, objects: int) -> dict[str, Any]:
    """What each task of a run returned, as its row has it.

    All succeed without an error in their logs, and leave so many more objects, each with a row.
    """
    before = len(cluster.objects())
    done = cluster.run(dag_id)
    assert done.ok, cluster.errors(dag_id, done.run_id)
    assert cluster.errors(dag_id, done.run_id) == []
    assert cluster.objects() == cluster.referenced()
    assert len(cluster.objects()) - before == objects
    return returned(cluster, done)


def returned(cluster: Cluster, done: RunResult) -> dict[str, Any]:
    return {row.task_id: row.value for row in cluster.xcoms(done.dag_id, done.run_id) if row.key == "return_value"}


def test_the_tutorial(cluster: Cluster) -> None:
    """The README's Dag."""
    run(cluster, "custom_xcom_backend_test", objects=1)


def test_every_worker_pulls_from_every_other(cluster: Cluster) -> None:
    """Celery's and the Edge worker's, of different homes."""
    values = run(cluster, "everywhere", objects=3)
    assert {name: values[f"pull_{name}"] for name in ("one", "two", "edge")} == {
        name: ["one", "two", "edge", name] for name in ("one", "two", "edge")
    }


def test_two_hundred_mapped_tasks_and_a_reduce(cluster: Cluster) -> None:
    """In the order of their map index."""
    assert run(cluster, "fan", objects=200)["reduce"] == 200


def test_a_deferrable_operator_and_its_trigger_push_and_pull(cluster: Cluster) -> None:
    """What was pushed before the wait is there after it, and so is what the trigger pushed."""
    assert run(cluster, "deferring", objects=3)["check"] == 50_000


def test_groups_generators_and_mapped_frames(cluster: Cluster) -> None:
    """Frames of mapped groups keep their dtypes; what a task yields is one value."""
    values = run(cluster, "grouped", objects=6)
    assert values["sum_up"] == 30_000
    stream = hashlib.sha256(b"".join(bytes([n]) * 100_000 for n in range(20))).hexdigest()
    assert values["read"] == [stream, sum(range(20_000))]


def test_callbacks_pull(cluster: Cluster, meeting: Path) -> None:
    """Those of a task that succeeded and of one that failed in the worker, that of the Dag in the Dag processor."""
    done = cluster.run("callbacks")
    assert {task.task_id: task.state for task in done.tasks} == {"push": "success", "fail": "failed"}
    (error,) = cluster.errors(done.dag_id, done.run_id)
    assert "MeantToFail" in error
    assert "20000" in error
    deadline = time.monotonic() + 120
    reports = [meeting / f"{name}.txt" for name in ("succeeded", "failed", "dag_failed")]
    while not all(path.exists() and path.stat().st_size for path in reports):
        assert time.monotonic() < deadline, list(meeting.iterdir())
        time.sleep(0.5)
    assert len({path.read_text() for path in reports}) == 1
    assert reports[0].read_text() == ("5 " * 20_000)[:20_000]


def test_processes_inside_of_a_task(cluster: Cluster) -> None:
    """A forked pool and joblib's, after a pull and before a push."""
    assert run(cluster, "parallel", objects=2)["check"] is True


def test_sixteen_frames_of_fifty_megabytes_at_once(cluster: Cluster, meeting: Path) -> None:
    """Pushed at the same moment by the tasks of one worker, and pulled one after the other by a task of the other."""
    assert run(cluster, "frames", objects=16)["check"] == 16
    assert len(list(meeting.glob("frames-*"))) == 16


def test_what_airflow_tasks_test_leaves_is_swept(cluster: Cluster) -> None:
    """That command deletes the run that it makes, and with it the rows: its objects are orphans."""
    run(cluster, "custom_xcom_backend_test", objects=1)
    path = "/api/v2/dags/everywhere"
    cluster.request("PATCH", path, {"is_paused": True})  # else the scheduler runs tasks of that run, too
    cluster.command("tasks", "test", "everywhere", "push_one", module="airflow")
    cluster.request("PATCH", path, {"is_paused": False})
    left = cluster.objects() - cluster.referenced()
    assert any("/everywhere/__airflow_temporary_run" in key for key in left), left
    time.sleep(1.1)  # the grace
    assert cluster.sweep()["outcomes"]["deleted"]["objects"] == len(left)
    assert cluster.objects() == cluster.referenced()
