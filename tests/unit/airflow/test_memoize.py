"""Options of memoize, checked where the Dag is written, and a wait that ends with its task."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from types import SimpleNamespace
from typing import Any

import pytest

import xcargo
from tests.unit.conftest import HERE, make_pipeline
from xcargo.airflow import compat, runtime
from xcargo.airflow.inputs import Deferred
from xcargo.airflow.memo_fingerprint import code_digests
from xcargo.errors import ConfigurationError, ObjectNotFoundError, UnsupportedTypeError
from xcargo.pipeline.memo import Claim, entries_for
from xcargo.stores.local import buckets


@pytest.mark.parametrize("name", ["expires", "wait"])
@pytest.mark.parametrize("given", [timedelta.max, timedelta(-1), 60])
def test_a_time_that_makes_no_sense_is_refused_at_once(name: str, given: Any) -> None:
    """Rather than by the task, after it has computed its result."""
    with pytest.raises(ConfigurationError, match=name):
        xcargo.memoize(**{name: given})


@pytest.mark.parametrize("name", ["depends_on", "ignore"])
def test_a_text_in_place_of_a_list_is_refused(name: str) -> None:
    """Its letters are names that nothing has."""
    with pytest.raises(ConfigurationError, match=rf"Give a list: {name}=\['day'\]"):
        xcargo.memoize(**{name: "day"})  # type: ignore[call-overload]


many = [SimpleNamespace(number=object, n=n) for n in range(2000)]
deep: list[Any] = []
for _ in range(3000):
    deep = [deep]


def uses_many() -> Any:
    """A task's function."""
    return many


def uses_deep() -> Any:
    """A task's function."""
    return deep


def test_an_entry_has_a_bounded_number_of_digests(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many objects a function uses, and each of them counts."""
    pipeline = make_pipeline("memory://digests/x")
    monkeypatch.setattr(runtime, "pipeline", lambda: pipeline)
    before = code_digests(uses_many)
    monkeypatch.setattr(many[-1], "n", -1)
    after = code_digests(uses_many)
    assert len(before) <= 1001
    assert [part for part in before if before[part] != after[part]] == ["the rest of the code"]


def test_data_that_cannot_be_stored_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Left out, another value of it would be taken for the same."""
    pipeline = make_pipeline("memory://digests/x")
    monkeypatch.setattr(runtime, "pipeline", lambda: pipeline)
    with pytest.raises(UnsupportedTypeError, match=r"memoize cannot compare constant deep: .*nested"):
        code_digests(uses_deep)


async def slow() -> int:
    """A task's function."""
    return 1


def test_a_task_that_is_cancelled_waits_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process can end: no thread goes on waiting, to overtake a claim that has become too old."""
    pipeline = make_pipeline("memory://cancelled/x")
    monkeypatch.setattr(runtime, "settings", lambda: pipeline.settings)
    monkeypatch.setattr(runtime, "pipeline", lambda: pipeline)
    work = xcargo.memoize(wait=timedelta(seconds=20))(slow)
    task = SimpleNamespace(task_id=HERE.task_id, python_callable=work)
    ti = SimpleNamespace(dag_id=HERE.dag_id, run_id=HERE.run_id, task_id=HERE.task_id, map_index=-1, task=task)
    entries, other = entries_for(pipeline, HERE), (HERE.dag_id, "other", HERE.task_id, -1)
    monkeypatch.setattr(compat, "current_context", lambda: {"ti": ti})
    asyncio.run(work())
    ((key, _),) = buckets["cancelled/x"].items()
    entries.claim(key, other, overtakes=True)
    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(asyncio.wait_for(work(), 1))
    claim = entries.find(key)
    assert isinstance(claim, Claim)
    assert claim.by == other


Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a task as Airflow does, and gives its rows: what ``execute`` makes of the function's result is pushed."""
    pipeline = make_pipeline("memory://runs/x", threshold_bytes=5_000_000)
    buckets.setdefault("runs/x", {}).clear()
    monkeypatch.setattr(runtime, "settings", lambda: pipeline.settings)
    monkeypatch.setattr(runtime, "pipeline", lambda: pipeline)

    def run(
        run_id: str,
        function: Any,
        *args: Any,
        execute: Callable[[Any], Any] = lambda result: result,
        multiple_outputs: bool = False,
    ) -> Any:
        names: dict[str, Any] = {"dag_id": HERE.dag_id, "run_id": run_id, "task_id": HERE.task_id}
        rows: dict[str, Any] = {}

        def push(key: str, value: Any) -> None:
            rows[key] = json.loads(json.dumps(xcargo.XComBackend.serialize_value(value, key=key, **names)))

        task = SimpleNamespace(task_id=HERE.task_id, python_callable=function, iter_mapped_dependants=lambda: iter(()))
        task.multiple_outputs = multiple_outputs
        ti = SimpleNamespace(**names, map_index=-1, task=task, xcom_push=push)
        monkeypatch.setattr(compat, "current_context", lambda: {"ti": ti})
        result = execute(function(*args))
        for key, output in result.items() if multiple_outputs else ():
            push(key, output)
        push("return_value", result)
        return rows

    return run


def plus_one(function: Any) -> Any:
    """A decorator that changes the result."""

    @wraps(function)
    def call() -> int:
        return int(function() + 1)

    return call


def five() -> int:
    """A task's function."""
    return 5


@pytest.mark.parametrize(
    ("task", "execute"),
    [(plus_one(xcargo.memoize(five)), int), (xcargo.memoize(five), lambda result: result + 1)],
    ids=["decorator", "operator"],
)
def test_what_a_task_makes_of_a_functions_result_is_not_taken_for_that(run: Run, task: Any, execute: Any) -> None:
    """In the next run the decorator would get its own result, and an operator like ``@task.bash`` would run it."""
    rows = [run(run_id, task, execute=execute) for run_id in ("one", "two", "three")]
    assert rows == [{"return_value": 6}] * 3


def pushes_first() -> int:
    """A task's function."""
    numbers = [1]
    compat.current_context()["ti"].xcom_push("numbers", numbers)
    numbers.append(2)
    return 1


def test_rows_are_reused_as_they_were_pushed(run: Run) -> None:
    """Whatever the function does with the value after it has pushed it."""
    task = xcargo.memoize(version="1")(pushes_first)
    assert run("one", task) == run("two", task) == {"numbers": [1], "return_value": 1}


def outputs() -> dict[str, Any]:
    """A task's function."""
    return {"a": 1, "b": [2]}


def test_multiple_outputs_are_there_from_the_first_run_that_has_them(run: Run) -> None:
    """The results from before, when the task did not push them apart, have none."""
    task = xcargo.memoize(outputs)
    run("one", task)
    apart = {"a": 1, "b": [2], "return_value": {"a": 1, "b": [2]}}
    assert [run(run_id, task, multiple_outputs=True) for run_id in ("two", "three")] == [apart] * 2


def fails(changed: Any) -> None:
    """An ``on_miss`` that does not work."""
    raise RuntimeError(changed)


def of(value: Any) -> Any:
    """A task's function."""
    return value


@pytest.mark.parametrize("how", ["argument", "on_miss", "entry"])
def test_nobody_waits_for_a_task_that_failed(run: Run, how: str) -> None:
    """Whether it cannot load its arguments, ``on_miss`` fails, or its entry cannot be stored since it is too large."""
    argument: Any = "x" * 4_500_000 if how == "entry" else 1
    if how == "argument":
        row: Any = runtime.pipeline().push(b"x" * 6_000_000, HERE)
        argument = Deferred(runtime.pipeline().handle(row))
        runtime.pipeline().purge(row)
    task = xcargo.memoize(wait=timedelta(hours=1), on_miss=fails if how == "on_miss" else None)(of)
    try:
        run("one", task, argument)
    except (ObjectNotFoundError, RuntimeError):
        assert how != "entry"
    assert buckets["runs/x"] == {}
