"""Files, folders, streams and handles between real tasks, and what a scheduler reads of Dags with them."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from .conftest import HERE, Run
from .generation import AIRFLOW_2


@pytest.mark.parametrize("dag_id", ["contract_streams", "contract_handles"])
def test_dag_succeeds(dag_runs: dict[str, Run], dag_id: str) -> None:
    """All tasks got what was pushed: the asserts within the Dag held."""
    assert dag_runs[dag_id].state == "success", dag_runs[dag_id].log[-20_000:]


@pytest.mark.skipif(AIRFLOW_2, reason="Airflow 2 does not tell a backend which XCom it asks for")
def test_a_parameter_s_annotation_gives_a_handle(dag_runs: dict[str, Run]) -> None:
    """All tasks got what their annotations say: the asserts within the Dag held."""
    assert dag_runs["contract_annotated"].state == "success", dag_runs["contract_annotated"].log[-20_000:]


def test_a_file_is_an_object_and_a_reference(dag_runs: dict[str, Run]) -> None:
    """The row tells what it is; what lies in the store is the file, in chunks."""
    row = dag_runs["contract_streams"].row("file")
    assert row["type"] == "xcargo.File"
    assert row["params"]["name"] == "data.csv"
    assert "chunks" in row


@pytest.mark.parametrize(
    ("dag_id", "first", "second"),
    [
        ("contract_streams", "file", "hand_on"),
        ("contract_streams", "folder", "hand_on__1"),
        ("contract_streams", "frame", "hand_on__2"),
        ("contract_handles", "table", "hand_on"),
    ],
)
def test_what_a_task_hands_on_is_copied_by_the_store(
    dag_runs: dict[str, Run], dag_id: str, first: str, second: str
) -> None:
    """The log says so; the row is that of the first task but for its object, and outlives it."""
    row, other = (dag_runs[dag_id].row(task_id) for task_id in (first, second))
    assert row["uri"] != other["uri"]
    assert any("xcargo copied" in line and other["uri"] in line for line in dag_runs[dag_id].log.splitlines())
    for name in ("type", "codec", "checksum", "size_bytes"):
        assert row[name] == other[name]


def test_each_mapped_task_got_its_own_handle(dag_runs: dict[str, Run]) -> None:
    """expand() over xcargo.lazy of a mapped task."""
    assert [dag_runs["contract_handles"].row("use_each", map_index=n) for n in range(3)] == [0, 1, 2]


def test_expanding_over_a_handle_of_a_list_is_refused(dag_runs: dict[str, Run]) -> None:
    """The task fails, and says what to write instead."""
    assert dag_runs["contract_refused"].state == "failed"
    if not AIRFLOW_2:  # which says: can't map over value of type Lazy
        assert "This is a handle of a list, not the value" in dag_runs["contract_refused"].log


@pytest.mark.parametrize("dag_id", ["contract_streams", "contract_handles", "contract_refused"])
def test_a_serialized_dag_knows_nothing_of_handles(dag_id: str) -> None:
    """It is made, read back as the scheduler does, and holds the same references: no name of ours is in it."""
    sys.path.insert(0, str(HERE / "dags"))
    try:
        import contract_stream_dags
    finally:
        sys.path.pop(0)
    serialized = _serialization()
    data = json.loads(json.dumps(serialized.to_dict(getattr(contract_stream_dags, dag_id))))
    text = json.dumps(data)
    assert "xcargo.airflow" not in text
    back: Any = serialized.from_dict(data)
    assert set(back.task_dict) == set(getattr(contract_stream_dags, dag_id).task_dict)
    if dag_id == "contract_handles":
        assert back.task_dict["use_each"].upstream_task_ids == {"tiny", "part"}
        assert back.task_dict["use"].upstream_task_ids == {"hand_on", "tiny", "several"}


def _serialization() -> Any:
    try:
        from airflow.serialization.serialized_objects import DagSerialization
    except ImportError:
        from airflow.serialization.serialized_objects import SerializedDAG as DagSerialization
    return DagSerialization
