"""The results of mapped tasks: in order, loaded ahead, and asked for many at once."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Run
from .generation import AIRFLOW_2, HOOKS, BaseXCom, XCom

ALL = list(range(18))


def returned(dag_runs: dict[str, Run], task_id: str) -> Any:
    """What a task of the Dag returned."""
    row = dag_runs["contract_fan_in"].row(task_id)
    return HOOKS[-1].pull(row) if isinstance(row, dict) and "__id__" in row else row


def test_iteration_gives_every_value_in_order_and_can_be_repeated(dag_runs: dict[str, Run]) -> None:
    """As without read-ahead."""
    seen = returned(dag_runs, "iterate")
    assert seen["numbers"] == seen["again"] == ALL
    assert seen["by_index"]


def test_iteration_loads_ahead_on_threads(dag_runs: dict[str, Run]) -> None:
    """Only the first value is loaded by the one who iterates; who takes one value loads one."""
    seen = returned(dag_runs, "iterate")
    assert seen["first"] == 0
    assert seen["loaded_for_first"] == 1
    assert [thread == seen["here"] for thread in seen["loaded_on"]].count(True) == 1
    assert len(seen["loaded_on"]) == len(ALL)


@pytest.mark.skipif(AIRFLOW_2, reason="Airflow 2 has no supervisor")
def test_iteration_asks_the_supervisor_for_many_rows_at_once(dag_runs: dict[str, Run]) -> None:
    """One slice for the first value alone, two for all eighteen, and no row by itself."""
    asked = returned(dag_runs, "iterate")["asked"]
    assert [kind for kind in asked if kind.startswith("GetXCom")] == ["GetXComSequenceSlice"] * 3


def test_slices_are_what_they_were(dag_runs: dict[str, Run]) -> None:
    """Slices hold the values that the same slices of a list hold."""
    if any(row.task_id == "slice_them" for row in dag_runs["contract_fan_in"].rows):  # 2.9 has none
        assert returned(dag_runs, "slice_them") == [ALL[3:17], ALL[:2], ALL[15:]]


def test_small_values_come_in_order(dag_runs: dict[str, Run]) -> None:
    """Values that stand in their rows need no store."""
    assert returned(dag_runs, "iterate_small") == ALL[:4]


def test_gather_gives_what_iteration_gives(dag_runs: dict[str, Run]) -> None:
    """Of the sequence, of what map, zip and concat make of it, and of a list; with the least of windows too."""
    got = returned(dag_runs, "gather_all")
    assert got["as_it_is"] == got["narrow"] == ALL
    assert got["map"] == got["without"] == [2 * number for number in ALL]
    assert got["zip"] == [[number, number] for number in ALL[:4]]
    assert got["concat"] in (ALL + ALL, ALL)
    assert got["list"] == [1, 2]


def test_a_backend_that_loads_its_own_way_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A subclass with a hook of its own, or another backend, gets the iteration that Airflow made."""
    from xcargo.airflow import compat, inputs

    class Own(XCom):  # type: ignore[misc]
        @staticmethod
        def deserialize_value(result: object) -> object:
            return XCom.deserialize_value(result)

    assert inputs.reads_ahead()
    for backend in (Own, BaseXCom):
        monkeypatch.setattr(compat, "active_backend", lambda backend=backend: backend)
        assert not inputs.reads_ahead()
