"""Dags of a cluster. Each task checks what it gets."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from airflow.sdk import BaseOperator, dag, task
from cluster_parts import MEETING, Relay, numbers_of, on, text


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

    workers = ("one", "two", "edge")
    pushed = [push.override(task_id=f"push_{name}", **on(name))(name) for name in workers]
    for name in workers:
        pull.override(task_id=f"pull_{name}", **on(name))(pushed)


@dag(schedule=None, params={"count": 200})
def fan() -> None:
    """Mapped tasks of 20 KB and a reduce."""

    @task
    def numbers(params: Any) -> list[int]:
        return list(range(params["count"]))

    @task
    def push(n: int) -> str:
        return text(n)

    @task
    def reduce(texts: Any, params: Any) -> int:
        pulled = list(texts)
        assert pulled == [text(n) for n in range(params["count"])]
        return len(pulled)

    reduce(push.expand(n=numbers()))


class Relayed(BaseOperator):
    """Pushes, waits for a trigger, and pulls what both of them pushed."""

    def execute(self, context: Any) -> None:
        ti = context["ti"]
        ti.xcom_push("before", text(1).replace("1", "word"))
        self.defer(trigger=Relay(ti.dag_id, ti.run_id, ti.task_id), method_name="resumed")

    def resumed(self, context: Any, event: int) -> str:
        before, relayed = (
            context["ti"].xcom_pull(task_ids=self.task_id, key=key) for key in ("before", "from_trigger")
        )
        assert before == text(1).replace("1", "word")
        assert (relayed, event) == (before.upper(), len(before))
        return str(relayed)


@dag(schedule=None)
def deferring() -> None:
    """A deferrable operator and its trigger push and pull; so does a task after them."""

    @task
    def check(value: str) -> int:
        assert value == text(1).replace("1", "WORD")
        return len(value)

    check(Relayed(task_id="relayed").output)


def report(name: str) -> Callable[[Any], None]:
    """A callback that writes down what it could pull."""

    def callback(context: Any) -> None:
        pulled = context["ti"].xcom_pull(task_ids="push")
        (MEETING / f"{name}.txt").write_text(pulled)

    return callback


class MeantToFail(Exception):
    """What a task raises whose callback is to run."""


@dag(schedule=None, on_failure_callback=report("dag_failed"))
def callbacks() -> None:
    """Callbacks of tasks and of the Dag pull."""

    @task(on_success_callback=report("succeeded"))
    def push() -> str:
        return text(5)

    @task(on_failure_callback=report("failed"), retries=0)
    def fail(value: str) -> None:
        raise MeantToFail(str(len(value)))

    fail(push())


@dag(schedule=None, params={"megabytes": 40, "twice": False}, default_args={"retries": 5, "retry_delay": 2})
def killed() -> None:
    """A large value and a small one from worker one to worker two; somebody kills what works on them."""

    @task(**on("one"))
    def push(params: Any, ti: Any) -> str:
        if params["twice"]:
            ti.xcom_push("large", text(6))
        ti.xcom_push("large", numbers_of(params["megabytes"]))
        return text(7)

    @task(**on("two"))
    def pull(small: str, params: Any, ti: Any) -> int:
        assert small == text(7)
        large = ti.xcom_pull(task_ids="push", key="large")
        assert (large == numbers_of(params["megabytes"])).all()
        return len(large)

    pull(push())


for make in (everywhere, fan, deferring, callbacks, killed):
    make()
