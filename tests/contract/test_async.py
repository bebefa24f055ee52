"""The asynchronous hooks, where this Airflow has them: nothing that waits runs on the event loop's thread."""

from __future__ import annotations

import inspect

import pytest

from .conftest import Run
from .generation import HOOKS, BaseXCom, XCom

pytestmark = pytest.mark.skipif(not hasattr(BaseXCom, "aset"), reason="this Airflow has no asynchronous hooks")


@pytest.fixture(scope="module")
def seen(dag_runs: dict[str, Run]) -> dict[str, object]:
    """What the asynchronous Dag's task reported."""
    run = dag_runs["contract_async"]
    assert run.state == "success", run.log[-20_000:]
    report: dict[str, object] = HOOKS[0].pull(run.row("pull_and_push"))
    return report


@pytest.mark.parametrize("name", ["aset", "aget_one", "aget_all"])
def test_hook_is_a_coroutine_function(name: str) -> None:
    """The backend has every asynchronous hook that BaseXCom has."""
    assert inspect.iscoroutinefunction(getattr(XCom, name))


@pytest.mark.parametrize(("name", "calls"), [("aset", 1), ("aget_one", 1), ("aget_all", 3)])
def test_work_is_done_off_the_event_loop(seen: dict[str, object], name: str, calls: int) -> None:
    """Values are taken apart and put together on other threads than the one that runs the event loop."""
    threads = seen[name]
    assert isinstance(threads, list)
    assert len(threads) == calls
    assert seen["loop"] not in threads


def test_values_come_back_in_order(seen: dict[str, object]) -> None:
    """``aget_one`` gives the value that ``aset`` stored, ``aget_all`` those of the mapped tasks by map index."""
    assert seen["numbers"] == [7, 0, 1, 2]


def test_a_hook_of_a_subclass_sees_the_value_once(seen: dict[str, object]) -> None:
    """``aset`` gives it what was pushed, and nothing of ours."""
    assert seen["of a subclass"] == {"wrapped": 8}
