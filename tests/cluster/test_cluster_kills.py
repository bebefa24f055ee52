"""Killed at every step, and all goes on: the retry succeeds, nothing wrong is read, a sweep takes what was left over.

Nothing here waits for a moment to come: a gate holds the request at which somebody is to die until it has happened.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.gate import Gate, Held

DAG = "killed"


@dataclass(frozen=True)
class Step:
    """A request that is held while somebody is killed."""

    gate: str
    """Of whom, to what."""
    method: str
    match: str
    skip: int = 0
    answered: bool = False
    """Whether the server has done it by then."""
    megabytes: int = 40
    objects: int = 0
    """How many are left over when the worker dies then."""
    uploads: int = 0

    def hold(self, cluster: Cluster) -> Held:
        worker, _, to = self.gate.partition(" to ")
        gates: dict[str, Gate] = cluster.api_gates if to == "api" else cluster.store_gates
        return gates[worker].hold(self.method, self.match, skip=self.skip, answered=self.answered)


STEPS = {
    "before the upload": Step("one to store", "POST", r"large.*\?uploads", uploads=0),
    "in the upload": Step("one to store", "PUT", "large.*partNumber=", skip=10, megabytes=200, uploads=1),
    "at the end of the upload": Step("one to store", "POST", r"large.*\?uploadId", answered=True, objects=1),
    "between put and row": Step("one to api", "POST", "/xcoms/.*large", objects=1),
    "after the row": Step("one to api", "POST", "/xcoms/.*large", answered=True),
    "in the pull": Step("two to store", "GET", "large", megabytes=200),
}
VICTIMS = ("task", "worker")


@pytest.fixture(scope="module", autouse=True)
def verified(cluster: Cluster) -> Iterator[None]:
    """After all tests every row that there is gives its value."""
    yield
    assert json.loads(cluster.command("verify", "--json", "--dag", DAG))["problems"] == []


@pytest.fixture(autouse=True)
def swept(cluster: Cluster) -> Iterator[None]:
    """A test that fails leaves nothing for the next one."""
    yield
    if cluster.objects() != cluster.referenced() or cluster.uploads():
        cluster.sweep()


def start(cluster: Cluster, step: Step, **conf: object) -> str:
    return cluster.trigger(DAG, conf={"megabytes": step.megabytes, **conf})


def kill(cluster: Cluster, run_id: str, step: Step, victim: str) -> None:
    """End the process that makes the request: that of the task alone, or its worker with all that is in it."""
    worker = step.gate.partition(" ")[0]
    if victim == "worker":
        cluster.kill(worker)
        return
    ((pid,),) = cluster.query(
        "SELECT pid FROM task_instance WHERE dag_id = ? AND run_id = ? AND state = 'running'", DAG, run_id
    )
    os.kill(pid, signal.SIGKILL)


def finish(cluster: Cluster, run_id: str) -> dict[str, int]:
    """Wait until all succeeded: the tasks compare what they pull. Gives how many tries each took."""
    run = cluster.wait(DAG, run_id, seconds=600)
    assert run.ok, cluster.errors(DAG, run_id)
    return {task.task_id: task.try_number for task in run.tasks}


def sweep(cluster: Cluster, *, objects: int, uploads: int) -> None:
    """A sweep takes exactly so many, and leaves exactly what rows refer to."""
    left = cluster.objects() - cluster.referenced()
    assert cluster.referenced() <= cluster.objects()
    assert len(left) == objects, left
    assert len(cluster.uploads()) == uploads
    time.sleep(1.1)  # the grace
    report = cluster.sweep()
    assert report["outcomes"]["deleted"]["objects"] == objects
    assert report["uploads"]["aborted"] == uploads
    assert cluster.objects() == cluster.referenced()
    assert cluster.uploads() == []


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("name", STEPS)
def test_who_pushes_or_pulls_is_killed(cluster: Cluster, name: str, victim: str) -> None:
    """The task's process alone, or the whole worker: the second try succeeds."""
    step = STEPS[name]
    held = step.hold(cluster)
    run_id = start(cluster, step)
    held.wait()
    kill(cluster, run_id, step, victim)
    held.drop()
    cluster.restart_ended()
    tries = finish(cluster, run_id)
    assert tries == ({"push": 1, "pull": 2} if name == "in the pull" else {"push": 2, "pull": 1})
    # It is the worker that writes the row: one that outlives its task does it all the same.
    objects = 0 if (name, victim) == ("between put and row", "task") else step.objects
    sweep(cluster, objects=objects, uploads=step.uploads)


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("answered", [False, True], ids=["before it", "after it"])
def test_a_task_that_runs_again_is_killed_at_the_purge(cluster: Cluster, answered: bool, victim: str) -> None:
    """Of its earlier value: before the store has deleted it, and after. The try after that gives the value."""
    purge = Step("one to store", "DELETE", "large", answered=answered, megabytes=8)
    run_id = start(cluster, purge)
    finish(cluster, run_id)
    held = purge.hold(cluster)
    cluster.clear(DAG, run_id)
    held.wait()
    kill(cluster, run_id, purge, victim)
    held.drop()
    cluster.restart_ended()
    tries = finish(cluster, run_id)
    assert tries["push"] == 3
    sweep(cluster, objects=0, uploads=0)


def test_a_task_that_overwrites_a_key_is_killed_before_the_second_row(cluster: Cluster) -> None:
    """Until then the first value is the one that counts; each value that was overwritten is an orphan."""
    step = Step("one to store", "POST", r"large.*\?uploadId", answered=True)
    held = step.hold(cluster)
    run_id = start(cluster, step, twice=True)
    held.wait()
    (row,) = [row.value for row in cluster.xcoms(DAG, run_id) if row.key == "large"]
    assert row["type"] == "str"
    kill(cluster, run_id, step, "task")
    held.drop()
    assert finish(cluster, run_id)["push"] == 2
    sweep(cluster, objects=2, uploads=0)


@pytest.mark.parametrize("victim", ["scheduler", "postgres", "store", "api-server", "triggerer", "dag-processor"])
def test_what_a_push_needs_is_killed(cluster: Cluster, victim: str) -> None:
    """In the middle of a push, and started again: all succeeds, and a try that was repeated leaves no more than it had.

    Its two values, that is: while it cannot report that it lives, Airflow may start the next one beside it.
    """
    part = Step("one to store", "PUT", "large.*partNumber=", skip=5)
    row = Step("one to api", "POST", "/xcoms/.*large")
    step = row if victim in ("postgres", "api-server") else part
    held = step.hold(cluster)
    run_id = start(cluster, step)
    held.wait()
    cluster.kill(victim)
    cluster.restart(victim)
    held.release()
    tries = finish(cluster, run_id)
    assert tries["pull"] == 1
    retried = tries["push"] - 1
    leftover = {"objects": len(cluster.objects() - cluster.referenced()), "uploads": len(cluster.uploads())}
    assert sum(leftover.values()) <= 2 * retried
    sweep(cluster, **leftover)
