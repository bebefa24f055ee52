"""Results that are reused by real tasks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow import __version__ as airflow_version

from .conftest import Run, file_of, objects_of, rows_of
from .settle import Place


@pytest.fixture(scope="module")
def found(place: Place, dag_runs: dict[str, Run]) -> list[dict[str, Any]]:
    """What ran in each of three runs of each Dag: as at first, again, and after a variable was changed."""
    return json.loads((place.home / "memo.json").read_text())  # type: ignore[no-any-return]


def test_every_run_succeeds(found: list[dict[str, Any]]) -> None:
    """Reused results are the values that the next tasks expect: the asserts within the Dags held."""
    assert {one["state"] for one in found} == {"success"}


def test_what_has_not_changed_does_not_run_again(found: list[dict[str, Any]]) -> None:
    """All of it runs once; after a change what depends on it runs, and nothing else."""
    ran = [one["ran"] for one in found if one["dag_id"] == "contract_memo"]
    assert ran == [["clean", "extract", "train"], [], ["train"]]


def test_mapped_tasks_and_multiple_outputs_are_reused(found: list[dict[str, Any]]) -> None:
    """What a task is expanded over, its instances, their results together, and outputs by their keys.

    A damaged result that Airflow looks into is computed again, and that one is reused.
    """
    ran = [one["ran"] for one in found if one["dag_id"] == "contract_memo_shapes"]
    assert ran == [["joined", "long", "long", "long", "numbers", "pairs", "several"], ["numbers", "pairs"], []]


def test_each_object_is_that_of_a_row(found: list[dict[str, Any]], place: Place, database: Path) -> None:
    """A reused result leaves no copy behind, whoever looked into it before it was pushed."""
    for dag_id in {one["dag_id"] for one in found}:
        rows = [row.value for row in rows_of(database, dag_id)]
        referred = {file_of(row) for row in rows if isinstance(row, dict) and "uri" in row}
        assert objects_of(place, dag_id) == referred != set()


def test_only_a_tasks_own_function_and_result_count(found: list[dict[str, Any]]) -> None:
    """Called by a task's code, a function is simply called. Templates get values; a reused result that is false skips.

    Functions of one version do not stand for each other. The last run asks for one task to be computed, and has another
    param, which an operator reads.
    """
    ran = [one["ran"] for one in found if one["dag_id"] == "contract_memo_calls"]
    again = [] if airflow_version.startswith("2.") else ["goes_on"]  # Airflow 3 pushes no false condition
    first = ["called", "customers", "goes_on", "of_params", "orders", "pushes", "templated"]
    assert ran == [first, ["called", *again], ["called", *again, "of_params", "orders"]]


def test_operators_are_reused(found: list[dict[str, Any]]) -> None:
    """By their templates as rendered and their arguments; mapped ones too, and from other tasks of the Dag."""
    ran = [one["ran"] for one in found if one["dag_id"] == "contract_memo_operators"]
    assert ran == [["mapped", "mapped", "plain", "rendered"], [], ["rendered"]]


def test_a_claim_is_made_and_goes(found: list[dict[str, Any]]) -> None:
    """Over an entry that cannot be used, too; it goes if nothing can be stored, and hides no reason."""
    ran = [one["ran"] for one in found if one["dag_id"] == "contract_memo_claims"]
    always = ["claimed", "nothing", "unpushed"]
    assert ran == [sorted([*always, "first", "varies"]), always, sorted([*always, "changed", "varies"])]


def test_async_functions_are_reused(found: list[dict[str, Any]]) -> None:
    """Where this Airflow runs them; an argument is loaded, and a variable that changed is noticed, as of any other."""
    ran = [one["ran"] for one in found if one["dag_id"] == "contract_memo_async"]
    if not ran:
        pytest.skip("this Airflow has no asynchronous tasks")
    assert ran == [["fetch", "summed"], [], ["summed"]]
