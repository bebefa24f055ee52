"""Options of memoize, checked where the Dag is written, and a wait that ends with its task."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

import xcargo
from tests.unit.conftest import HERE, make_pipeline
from xcargo.airflow import compat, runtime
from xcargo.airflow.memo_fingerprint import code_digests
from xcargo.errors import ConfigurationError, UnsupportedTypeError
from xcargo.pipeline.memo import Claim, entries_for
from xcargo.stores.local import buckets


@pytest.mark.parametrize("name", ["expires", "wait"])
@pytest.mark.parametrize("given", [timedelta.max, timedelta(-1), 60])
def test_a_time_that_makes_no_sense_is_refused_at_once(name: str, given: Any) -> None:
    """Rather than by the task, after it has computed its result."""
    with pytest.raises(ConfigurationError, match=name):
        xcargo.memoize(**{name: given})


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
