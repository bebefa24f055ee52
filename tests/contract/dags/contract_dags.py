"""Dags that use XComs in every way an author can. Their tasks assert what they get; each Dag must succeed."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from airflow import __version__ as airflow_version
from contract_values import PLAIN, TABLES, VALUES, Probe, alike, large

from xcargo import gather

try:
    from airflow.sdk import dag, get_current_context, task
    from airflow.sdk.bases.xcom import BaseXCom
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.xcom import XCom
except ImportError:
    from airflow.decorators import dag, task
    from airflow.models.xcom import BaseXCom, XCom
    from airflow.operators.python import get_current_context

PUSHED = PLAIN | VALUES | TABLES

SLICES = not airflow_version.startswith("2.9.")
ASYNC = hasattr(BaseXCom, "aset")
LOOPS = hasattr(BaseXCom, "store_value")
LONG_TASK_ID = "followed_" + "x" * 120

plain_dag: Callable[..., Any] = dag(schedule=None, start_date=datetime(2024, 1, 1), catchup=False)


def this_task() -> Any:
    """The running task instance."""
    return get_current_context()["ti"]


class Own(XCom):  # type: ignore[misc, valid-type]
    """A backend that does something more with what it loads."""

    @staticmethod
    def deserialize_value(result: Any) -> Any:
        return ("own", XCom.deserialize_value(result))


@plain_dag
def contract_types() -> None:
    """Every value, small and large, pushed by hand and pulled by another task."""

    @task
    def push_all() -> None:
        for name, value in PUSHED.items():
            this_task().xcom_push(key=name, value=value)
            this_task().xcom_push(key=f"large_{name}", value=[value, large(0)])

    @task
    def pull_all() -> None:
        for name, value in PUSHED.items():
            small = this_task().xcom_pull(task_ids="push_all", key=name)
            assert alike(small, value), (name, small)
            big = this_task().xcom_pull(task_ids="push_all", key=f"large_{name}")
            assert alike(big, [value, large(0)]), (name, big)

    push_all() >> pull_all()


@plain_dag
def contract_flow() -> None:
    """Arguments, mapping, fan-in, multiple outputs and a branch.

    (A task annotated to return a dict has multiple outputs: hence ``Any``.)
    """

    @task
    def small() -> Any:
        return {"n": 1}

    @task
    def large_one() -> Any:
        return large(1)

    @task
    def use(first: Any, second: Any) -> None:
        assert first == {"n": 1}
        assert second == large(1)

    use(small(), large_one())

    @task
    def items() -> Any:
        return [large(number) for number in range(4)]

    @task
    def double(item: dict[str, Any]) -> Any:
        return large(item["number"] * 2)

    @task
    def fan_in(values: Any) -> None:
        assert [value["number"] for value in values] == [0, 2, 4, 6]
        assert values[2] == large(4)
        if SLICES:
            assert list(values[1:3]) == [large(2), large(4)]
        assert len(values) == 4

    @task
    def fan_in_by_hand() -> None:
        everything = list(this_task().xcom_pull(task_ids="double"))
        assert everything == [large(number) for number in (0, 2, 4, 6)]
        if hasattr(XCom, "get_all"):
            where = {"dag_id": this_task().dag_id, "run_id": this_task().run_id, "task_id": "double"}
            assert XCom.get_all(key="return_value", **where) == everything
            assert Own.get_all(key="return_value", **where) == [("own", value) for value in everything]
        some = list(this_task().xcom_pull(task_ids="double", map_indexes=[3, 1]))
        assert [value["number"] for value in some] == [6, 2]
        assert this_task().xcom_pull(task_ids="double", key="never_pushed", map_indexes=0, default="none") == "none"

    doubled = double.expand(item=items())
    fan_in(doubled)
    doubled >> fan_in_by_hand()

    @task(multiple_outputs=True)
    def outputs() -> dict[str, Any]:
        return {"little": 1, "much": large(7)}

    @task
    def use_outputs(little: int, much: dict[str, Any]) -> None:
        assert little == 1
        assert much == large(7)

    several = outputs()
    use_outputs(several["little"], several["much"])

    @task
    def outputs_by_hand() -> None:
        this_task().xcom_push(key="little", value=1)
        this_task().xcom_push(key="much", value=large(7))

    by_hand = outputs_by_hand()
    use_outputs(by_hand["little"], by_hand["much"])

    @task.branch
    def choose() -> str:
        return LONG_TASK_ID

    @task(task_id=LONG_TASK_ID)
    def followed() -> str:
        return "ran"

    @task
    def not_followed() -> None:
        raise AssertionError("The branch did not skip this task")

    choose() >> [followed(), not_followed()]


@plain_dag
def contract_retry() -> None:
    """A task that pushes a large value, fails, and succeeds at its second try."""

    @task(retries=1, retry_delay=timedelta(0))
    def flaky() -> str:
        failed_once = Path(os.environ["AIRFLOW_HOME"]) / "failed_once"
        this_task().xcom_push(key="partial", value=large(2 if failed_once.exists() else 1))
        if not failed_once.exists():
            failed_once.touch()
            raise RuntimeError("The first try fails")
        return "done"

    @task
    def after(_: str) -> None:
        assert this_task().xcom_pull(task_ids="flaky", key="partial") == large(2)

    after(flaky())


@plain_dag
def contract_delete() -> None:
    """Values that are overwritten, and deleted by a task."""

    @task
    def push() -> str:
        for key in ("gone", "kept", "kept"):
            this_task().xcom_push(key=key, value=large(1))
        return "done"

    @task
    def delete(_: str) -> None:
        run = this_task()
        if airflow_version.startswith("2."):
            return  # there XCom.clear does it, when a task runs again
        XCom.delete(key="gone", task_id="push", dag_id=run.dag_id, run_id=run.run_id, map_index=-1)

    delete(push())


FAN_IN = 18


@plain_dag
def contract_fan_in() -> None:
    """What a task gets for a mapped one: iterated over, sliced and gathered, as it is and through map, zip, concat."""

    @task
    def probe(number: int) -> Any:
        return Probe(number)

    @task
    def small(number: int) -> Any:
        return number

    @task
    def iterate(values: Any) -> Any:
        with _asked_for() as asked:
            Probe.deserialized_on.clear()
            first = next(iter(values)).number
            after_first = len(Probe.deserialized_on)
            Probe.deserialized_on.clear()
            numbers = [value.number for value in values]
        return {
            "first": first,
            "loaded_for_first": after_first,
            "numbers": numbers,
            "again": [value.number for value in values],
            "here": threading.get_ident(),
            "loaded_on": Probe.deserialized_on[: len(numbers)],
            "asked": asked,
            "by_index": numbers.index(7) == 7 and values[7].number == 7 and values[FAN_IN - 1].number == FAN_IN - 1,
        }

    @task
    def slice_them(values: Any) -> Any:
        return [[value.number for value in values[part]] for part in (slice(3, 17), slice(2), slice(15, None))]

    @task
    def iterate_small(values: Any) -> Any:
        return list(values)

    @task
    def gather_all(values: Any, doubled: Any, zipped: Any, joined: Any) -> Any:
        return {
            "as_it_is": [value.number for value in gather(values)],
            "narrow": [value.number for value in gather(values, window_bytes=1)],
            "map": list(gather(doubled)),
            "zip": [[value.number, number] for value, number in gather(zipped)],
            "concat": [value.number for value in gather(joined)],
            "list": list(gather([1, 2])),
            "without": list(doubled),
        }

    probes = probe.expand(number=list(range(FAN_IN)))
    smalls = small.expand(number=[0, 1, 2, 3])
    iterate(probes)
    if SLICES:
        slice_them(probes)
    iterate_small(smalls)
    joined = probes.concat(probes) if hasattr(probes, "concat") else probes
    gather_all(probes, probes.map(lambda value: value.number * 2), probes.zip(smalls), joined)


@contextmanager
def _asked_for() -> Iterator[list[str]]:
    """The kinds of the messages that this task sends to its supervisor (3.x)."""
    kinds: list[str] = []
    if airflow_version.startswith("2."):
        yield kinds
        return
    comms = task_runner.SUPERVISOR_COMMS
    task_runner.SUPERVISOR_COMMS = _Recording(comms, kinds)
    try:
        yield kinds
    finally:
        task_runner.SUPERVISOR_COMMS = comms


class _Recording:
    """A channel to the supervisor that notes what is sent."""

    def __init__(self, comms: Any, kinds: list[str]) -> None:
        self._comms = comms
        self._kinds = kinds

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._comms, name)
        if not name.startswith("send"):
            return found

        def send(*arguments: Any, **named: Any) -> Any:
            self._kinds.append(type([*arguments, *named.values()][-1]).__name__)
            return found(*arguments, **named)

        return send


def contract_async() -> None:
    """The asynchronous hooks, from a running event loop."""

    @task
    def push_mapped(number: int) -> Any:
        return Probe(number)

    @task
    def pull_and_push() -> Any:
        comms = task_runner.SUPERVISOR_COMMS
        task_runner.SUPERVISOR_COMMS = _WithAsend(comms)
        try:
            return asyncio.run(_use_async_hooks(this_task()))
        finally:
            task_runner.SUPERVISOR_COMMS = comms

    push_mapped.expand(number=[0, 1, 2]) >> pull_and_push()


async def _use_async_hooks(ti: Any) -> dict[str, Any]:
    Probe.serialized_on.clear()
    Probe.deserialized_on.clear()
    here = {"dag_id": ti.dag_id, "run_id": ti.run_id, "task_id": ti.task_id}

    class Wrapping(XCom):
        @staticmethod
        def serialize_value(value: Any, **where: Any) -> Any:
            return XCom.serialize_value({"wrapped": value}, **where)

    await Wrapping.aset("wrapped", 8, map_index=-1, **here)
    await XCom.aset("probe", Probe(7), map_index=-1, **here)
    pushed_on = list(Probe.serialized_on)
    one = await XCom.aget_one(key="probe", map_index=-1, **here)
    one_pulled_on = list(Probe.deserialized_on)
    Probe.deserialized_on.clear()
    everything = await XCom.aget_all(key="return_value", **{**here, "task_id": "push_mapped"})
    return {
        "loop": threading.get_ident(),
        "aset": pushed_on,
        "aget_one": one_pulled_on,
        "aget_all": list(Probe.deserialized_on),
        "numbers": [one.number, *(probe.number for probe in everything)],
        "of a subclass": await XCom.aget_one(key="wrapped", map_index=-1, **here),
    }


class _WithAsend:
    """``dag.test()``'s in-process channel to the supervisor, which lacks the asynchronous half."""

    def __init__(self, comms: Any) -> None:
        self.send = comms.send

    async def asend(self, msg: Any) -> Any:
        return self.send(msg)


def contract_loop() -> None:
    """A loop: three task instances that differ in nothing but the iteration."""
    from airflow.sdk import task_group

    @task_group
    def accumulate() -> None:
        @task
        def increment(*, loop: Any) -> Any:
            return large(1 if loop.index == 0 else loop.previous["number"] + 1)

        increment()

    @task
    def collect() -> None:
        every = list(this_task().xcom_pull(task_ids="accumulate.increment"))
        assert every == [large(1), large(2), large(3)]

    accumulate.loop(max_iterations=3, until=lambda *, loop: loop.result["number"] == 3) >> collect()


DAGS = [
    contract_types(),
    contract_flow(),
    contract_retry(),
    contract_delete(),
    contract_fan_in(),
]
if ASYNC:
    DAGS.append(plain_dag(contract_async)())
if LOOPS:
    DAGS.append(plain_dag(contract_loop)())

for _dag in DAGS:
    globals()[_dag.dag_id] = _dag
