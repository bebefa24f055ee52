"""A Dag whose tasks keep state: of their own and of an asset. It runs on Airflow 3.3 and later."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timezone
from typing import Any

from airflow.sdk import Asset, BaseOperator, dag, task, task_group
from airflow.sdk.execution_time import task_runner
from airflow.triggers.base import BaseTrigger, TriggerEvent
from contract_values import large

ORDERS = Asset("contract_orders")
LOOPS = hasattr(task_group(len), "loop")
MOMENT = datetime(2026, 1, 1, tzinfo=timezone.utc)


@dag(dag_id="contract_state", schedule=None, start_date=datetime(2024, 1, 1), catchup=False)
def state() -> None:
    @task
    def keep(task_state_store: Any = None) -> None:
        task_state_store.set("small", {"b": 1, "a": "é"})
        task_state_store.set("large", large(1))
        task_state_store.set("large", large(2))
        task_state_store.set("typed", {"at": MOMENT, "pair": (1, 2)})
        task_state_store.set("gone", large(3))
        task_state_store.delete("gone")
        assert task_state_store.get("small") == {"b": 1, "a": "é"}
        assert list(task_state_store.get("small")) == ["b", "a"]
        assert task_state_store.get("large") == large(2)
        assert task_state_store.get("typed") == {"at": MOMENT, "pair": (1, 2)}
        assert task_state_store.get("gone", "nothing") == "nothing"

    @task
    def cleared(n: int, task_state_store: Any = None) -> None:
        task_state_store.set("one", large(n))
        task_state_store.set("two", large(n + 10))
        assert task_state_store.get("one") == large(n)
        if n == 1:
            task_state_store.clear()
            assert task_state_store.get("one") is None

    @task(inlets=[ORDERS])
    def orders(asset_state_store: Any = None) -> None:
        store = asset_state_store[ORDERS]
        store.set("cursor", large(4))
        assert store.get("cursor") == large(4)
        store.set("gone", large(5))
        store.delete("gone")
        assert store.get("gone") is None

    @task(inlets=[ORDERS])
    def reader(asset_state_store: Any = None) -> None:
        assert asset_state_store.get("cursor") == large(4)
        assert asset_state_store.get("old", "none") in ("none", large(6))  # what Common IO's backend may have left

    @task
    def without_waiting(task_state_store: Any = None) -> None:
        if not hasattr(task_state_store, "aset"):  # Airflow 3.4 on; assets have such methods from 3.3 on
            return
        comms = task_runner.SUPERVISOR_COMMS
        task_runner.SUPERVISOR_COMMS = WithAsend(comms)
        try:
            asyncio.run(use_async_methods(task_state_store))
        finally:
            task_runner.SUPERVISOR_COMMS = comms

    cleared.expand(n=[1, 2])
    keep()
    without_waiting()
    Deferrable(task_id="deferrable")
    orders() >> reader()
    if LOOPS:
        rounds.loop(max_iterations=3)


class WithAsend:
    """``dag.test()``'s channel to the supervisor, which lacks the asynchronous half."""

    def __init__(self, comms: Any) -> None:
        self.send = comms.send

    async def asend(self, message: Any) -> Any:
        return self.send(message)


async def use_async_methods(store: Any) -> None:
    """As an asynchronous task does."""
    await store.aset("one", large(7))
    await store.aset("two", MOMENT)
    assert (await store.aget("one"), await store.aget("two")) == (large(7), MOMENT)
    await store.adelete("one")
    assert await store.aget("one", "nothing") == "nothing"
    await store.aclear()
    assert await store.aget("two", "nothing") == "nothing"


class AtOnce(BaseTrigger):  # type: ignore[misc]
    """Fires at once."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return "contract_state_dag.AtOnce", {}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        yield TriggerEvent("now")


class Deferrable(BaseOperator):  # type: ignore[misc]
    """Finds after it was deferred what it kept before."""

    def execute(self, context: Any) -> None:
        context["task_state_store"].set("job", large(8))
        self.defer(trigger=AtOnce(), method_name="resume")

    def resume(self, context: Any, event: Any) -> None:
        assert event == "now"
        assert context["task_state_store"].get("job") == large(8)


@task_group
def rounds() -> None:
    """A loop (Airflow 3.4): each iteration of its task has state of its own."""

    @task
    def count(*, loop: Any, task_state_store: Any = None) -> None:
        assert task_state_store.get("n") is None
        task_state_store.set("n", large(loop.index))
        assert task_state_store.get("n") == large(loop.index)
        if loop.index == 1:
            task_state_store.clear()
            assert task_state_store.get("n") is None

    count()


@dag(dag_id="contract_state_old", schedule=None, start_date=datetime(2024, 1, 1), catchup=False)
def old() -> None:
    @task(inlets=[ORDERS])
    def write(asset_state_store: Any = None) -> None:
        asset_state_store.set("old", large(6))
        asset_state_store.set("old small", "text")

    write()


DAG, OLD_DAG = state(), old()
