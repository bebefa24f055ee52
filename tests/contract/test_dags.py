"""Real Dags through ``dag.test()``: what the tasks got, and what stands in the database and in the store."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from .conftest import Run, file_of
from .conftest import run as run_python
from .generation import BaseXCom
from .settle import Place

PER_ATTEMPT = hasattr(BaseXCom, "store_value")
"""Airflow 3.4 on keeps the XComs of every attempt, so it purges nothing on a retry. It has loops, too."""

needs_loops = pytest.mark.skipif(not PER_ATTEMPT, reason="this Airflow has no loops")
every_dag = pytest.mark.parametrize(
    "dag_id",
    [
        "contract_types",
        "contract_kinds",
        "contract_flow",
        "contract_retry",
        "contract_fan_in",
        pytest.param("contract_loop", marks=needs_loops),
    ],
)


def is_offloaded(row: Any) -> bool:
    """Whether the row refers to an object."""
    return isinstance(row, dict) and row.get("__id__") == "xcargo/1" and "uri" in row


@every_dag
def test_dag_succeeds(dag_runs: dict[str, Run], dag_id: str) -> None:
    """All tasks got what was pushed: the asserts within the Dag held."""
    assert dag_runs[dag_id].state == "success", dag_runs[dag_id].log[-20_000:]


@every_dag
def test_objects_and_references_match(dag_runs: dict[str, Run], dag_id: str) -> None:
    """Each object is named by exactly one row, and each reference has its object."""
    run = dag_runs[dag_id]
    referred: Counter[Path] = Counter(file_of(row.value) for row in run.rows if is_offloaded(row.value))
    assert referred == Counter(run.objects)
    assert referred


def test_a_task_of_another_process_gets_every_kind(place: Place, dag_runs: dict[str, Run]) -> None:
    """Airflow runs it by itself, in the same run: what the values need is imported for them, by the pull."""
    taken = place.home / "taken.json"
    before = json.loads(taken.read_text())
    taken.unlink()
    run_id = dag_runs["contract_kinds"].run_id
    done = run_python("-m", "airflow", "tasks", "test", "contract_kinds", "take", run_id)
    assert taken.exists(), (done.stdout + done.stderr)[-20_000:]
    after = json.loads(taken.read_text())
    assert after["process"] != before["process"]
    assert after["kinds"] == before["kinds"]


def test_every_mapped_task_has_an_object_of_its_own(dag_runs: dict[str, Run]) -> None:
    """Map indexes do not meet: four rows, four objects, each below its map index."""
    run = dag_runs["contract_flow"]
    files = [file_of(run.row("double", map_index=index)) for index in range(4)]
    assert len(set(files)) == 4
    assert [path.parent.name for path in files] == ["0", "1", "2", "3"]


def test_each_of_multiple_outputs_goes_its_own_way(dag_runs: dict[str, Run]) -> None:
    """A small output stays in its row, a large one is offloaded, and so is the dict of both."""
    run = dag_runs["contract_flow"]
    assert run.row("outputs", "little") == 1
    assert is_offloaded(run.row("outputs", "much"))
    assert is_offloaded(run.row("outputs"))


def test_outputs_pushed_by_hand_are_stored_once(dag_runs: dict[str, Run]) -> None:
    """A task that pushes its outputs and returns nothing has no row that holds them all."""
    rows = [row for row in dag_runs["contract_flow"].rows if row.task_id == "outputs_by_hand"]
    assert {row.key for row in rows} == {"little", "much"}


def test_branch_decision_stays_plain(dag_runs: dict[str, Run]) -> None:
    """The scheduler can read what a branch decided, though it is longer than the threshold."""
    decision = dag_runs["contract_flow"].row("choose", "skipmixin_key")
    assert decision.keys() == {"followed"}
    assert len(decision["followed"][0]) > 100


def test_retry_purges_what_the_failed_try_pushed(dag_runs: dict[str, Run]) -> None:
    """Before 3.4 the second try begins by purging the first one's objects; from 3.4 on both attempts are kept."""
    run = dag_runs["contract_retry"]
    rows = [row for row in run.rows if row.key == "partial"]
    assert len(rows) == len(run.objects) == (2 if PER_ATTEMPT else 1)
    assert {"2"} <= {row.value["preview"].partition("'number': ")[2][:1] for row in rows}


@needs_loops
def test_every_iteration_has_an_object_of_its_own(dag_runs: dict[str, Run]) -> None:
    """Iterations of a loop differ in nothing else, and do not meet."""
    run = dag_runs["contract_loop"]
    rows = [row.value for row in run.rows if row.task_id == "accumulate.increment" and row.key == "return_value"]
    assert len({file_of(row) for row in rows}) == 3
