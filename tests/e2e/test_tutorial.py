"""The demo's Dags in a real Airflow, their large values in a real S3 server; then files, streams and handles.

Two clusters serve all tests: one with xcargo's own settings, one with those of Common IO's backend.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from demo.cluster import Cluster, RunResult, XComRow
from tests.e2e.dags.big_data import BATCHES, ROWS
from tests.receivers import Otlp
from tests.servers import Server, start
from tests.servers.statsd import Statsd
from tests.servers.statsd import run as run_statsd

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        next(iter(importlib.metadata.distributions(name="apache-airflow-task-sdk")), None) is None,
        reason="needs Airflow 3",
    ),
]

DAGS = Path(__file__).resolve().parents[2] / "demo" / "dags"
TUTORIAL = "custom_xcom_backend_test"
DATAFRAME = "dataframe_demo"
BIG_DATA = "big_data"
BACKEND = {"AIRFLOW__CORE__XCOM_BACKEND": "xcargo.XComBackend"}


@dataclass(frozen=True)
class Outcome:
    """What one cluster left behind."""

    results: Mapping[str, RunResult]
    rows: Mapping[tuple[str, str, str], XComRow]
    """By Dag, task and XCom key; those of the tutorial after its last run."""
    first_rows: tuple[XComRow, ...]
    """The tutorial's rows after its first run."""
    logs: str

    def value(self, dag_id: str, task_id: str, key: str) -> Any:
        """The raw value of a row."""
        return self.rows[dag_id, task_id, key].value


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with start("s3") as server:
        yield server


@pytest.fixture(scope="module")
def statsd() -> Iterator[Statsd]:
    with run_statsd() as statsd:
        yield statsd


@pytest.fixture(scope="module")
def otlp() -> Iterator[Otlp]:
    with Otlp() as otlp:
        yield otlp


@pytest.fixture(scope="module")
def configured(server: Server, statsd: Statsd, otlp: Otlp, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Both Dags, with nothing of ours set but the backend, the path and the connection."""
    env = {
        **BACKEND,
        "AIRFLOW__XCARGO__PATH": server.root,
        **server.env(),
        **statsd.env(),
        **otlp.env("TRACES"),
    }
    return run_dags(tmp_path_factory.mktemp("configured"), env, again=True)


@pytest.fixture(scope="module")
def taken_over(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The Dags with the settings of Common IO's backend, and xcargo in its place; and one of files and streams."""
    env = {
        **BACKEND,
        "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH": f"s3://{server.connection_id}@{server.bucket}/taken-over",
        "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD": "1000",
        "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_COMPRESSION": "zip",
        **server.env(),
    }
    return run_dags(tmp_path_factory.mktemp("taken-over"), env, BIG_DATA)


def run_dags(home: Path, env: Mapping[str, str], *more: str, again: bool = False) -> Outcome:
    """Run both Dags, and more, in a new cluster; ``again`` clears the tutorial's tasks, so that they run once more."""
    dags = shutil.copytree(DAGS, home / "dags")
    shutil.copytree(Path(__file__).parent / "dags", dags, dirs_exist_ok=True)
    with Cluster(home, dags=dags, env=env) as cluster:
        first = cluster.wait(TUTORIAL, cluster.trigger(TUTORIAL))
        first_rows = cluster.xcoms(TUTORIAL, first.run_id)
        if again:
            cluster.clear(TUTORIAL, first.run_id)
        others = [(dag_id, cluster.trigger(dag_id)) for dag_id in (DATAFRAME, *more)]
        runs = [cluster.wait(dag_id, run_id) for dag_id, run_id in ((TUTORIAL, first.run_id), *others)]
        rows = [row for run in runs for row in cluster.xcoms(run.dag_id, run.run_id)]
        logs = "\n".join(cluster.task_log(run.dag_id, run.run_id, task.task_id) for run in runs for task in run.tasks)
    return Outcome(
        results={run.dag_id: run for run in runs},
        rows={(row.dag_id, row.task_id, row.key): row for row in rows if row.map_index < 0},
        first_rows=tuple(first_rows),
        logs=logs,
    )


def object_key(server: Server, envelope: Mapping[str, Any]) -> str:
    """The key in the bucket that an envelope names."""
    base = f"s3://{server.bucket}/"
    uri = str(envelope["uri"])
    assert uri.startswith(base), uri
    return uri.removeprefix(base)


def test_every_task_gets_what_the_one_before_it_gave(configured: Outcome) -> None:
    """The tasks compare what they pull with what was pushed, a DataFrame by its dtypes too."""
    assert all(result.ok for result in configured.results.values()), configured.logs
    assert [len(result.tasks) for result in configured.results.values()] == [2, 2]


def test_rows_are_those_of_the_pushes(configured: Outcome) -> None:
    """A row an XCom: neither the backend nor the Dags write others."""
    assert set(configured.rows) == {
        (TUTORIAL, "push_objects", "small_obj"),
        (TUTORIAL, "push_objects", "big_obj"),
        (DATAFRAME, "extract", "return_value"),
        (DATAFRAME, "summarize", "return_value"),
    }


@pytest.mark.parametrize(
    ("place", "type_name"),
    [
        ((TUTORIAL, "push_objects", "big_obj"), "dict"),
        ((DATAFRAME, "extract", "return_value"), "DataFrame"),
    ],
    ids=["dict", "dataframe"],
)
def test_large_values_lie_in_the_bucket(
    server: Server, configured: Outcome, place: tuple[str, str, str], type_name: str
) -> None:
    """The row says what the value is and where; the object has the length it says."""
    envelope = configured.value(*place)
    assert envelope["__id__"] == "xcargo/1"
    assert envelope["type"].rsplit(".", 1)[-1] == type_name
    assert envelope["size_bytes"] > 1024
    key = object_key(server, envelope)
    assert key.startswith("demo/")
    assert len(server.raw_get(key)) == envelope["stored_bytes"]


def test_no_object_without_a_row(server: Server, configured: Outcome) -> None:
    """An offloaded XCom is one object, and nothing else is left in the bucket."""
    named = {
        object_key(server, row.value)
        for row in configured.rows.values()
        if isinstance(row.value, dict) and "uri" in row.value
    }
    assert {key for key in server.list_keys() if key.startswith("demo/")} == named


def test_running_again_replaces_the_object(server: Server, configured: Outcome) -> None:
    """A cleared task deletes what its earlier try stored; the new value is an object of its own."""
    (before,) = [row.value for row in configured.first_rows if row.key == "big_obj"]
    after = configured.value(TUTORIAL, "push_objects", "big_obj")
    assert after["uri"] != before["uri"]
    assert object_key(server, before) not in server.list_keys()


def test_connection_stays_out_of_the_rows(server: Server, configured: Outcome) -> None:
    """Neither the connection's id nor its secret is written down."""
    written = repr([row.value for row in configured.rows.values()])
    assert server.connection_id not in written
    assert str(server.connection["password"]) not in written
    assert str(server.connection["password"]) not in configured.logs


def test_metrics_reach_statsd(configured: Outcome, statsd: Statsd) -> None:
    """Each task is a process of its own; none of their offloads, pulls and purges is lost."""
    counters = statsd.counters()
    offloads = 3  # the tutorial's big object twice, since it ran twice, and the frame
    assert counters["airflow.xcargo.push.offloaded"] == counters["airflow.xcargo.pull.offloaded"] == offloads
    assert counters["airflow.xcargo.purge.offloaded"] == 1
    rows = [row.value for row in configured.rows.values() if isinstance(row.value, dict) and "uri" in row.value]
    assert counters["airflow.xcargo.push.stored_bytes"] > sum(value["stored_bytes"] for value in rows) > 0
    assert len(statsd.timings("airflow.xcargo.push.duration")) == offloads


def test_spans_lie_below_those_of_the_tasks(configured: Outcome, otlp: Otlp) -> None:
    """Airflow gives each task a span; ours are its children, and tell what went where it was."""
    spans = otlp.spans()
    tasks = {span.span_id: span.name for span in spans if span.name.startswith("worker.")}
    found = sorted((span.name, tasks.get(span.parent_span_id)) for span in spans if span.name.startswith("xcargo."))
    assert found == [
        ("xcargo.pull", "worker.pull_objects"),
        ("xcargo.pull", "worker.pull_objects"),
        ("xcargo.pull", "worker.summarize"),
        ("xcargo.purge", "worker.push_objects"),
        ("xcargo.push", "worker.extract"),
        ("xcargo.push", "worker.push_objects"),
        ("xcargo.push", "worker.push_objects"),
    ]


def test_settings_of_common_io_suffice(server: Server, taken_over: Outcome) -> None:
    """Changing one line, the backend, moves a deployment over: path and compression carry on."""
    assert all(result.ok for result in taken_over.results.values()), taken_over.logs
    for place in (
        (TUTORIAL, "push_objects", "big_obj"),
        (DATAFRAME, "extract", "return_value"),
    ):
        envelope = taken_over.value(*place)
        key = object_key(server, envelope)
        assert key.startswith("taken-over/")
        assert len(server.raw_get(key)) == envelope["stored_bytes"]
    assert taken_over.value(TUTORIAL, "push_objects", "small_obj") == {"a": 23}


def test_files_folders_streams_and_handles_travel_in_whole_or_in_part(taken_over: Outcome) -> None:
    """Each task checks what it gets; handles fetch their columns and rows; mapped results come as handles."""

    def returned(task_id: str) -> Any:
        return taken_over.value(BIG_DATA, task_id, "return_value")

    assert returned("read_stream") == hashlib.sha256(b"".join(bytes([n]) * 1_000_000 for n in range(20))).hexdigest()
    assert returned("read_batches") == ROWS * BATCHES
    ends = [ROWS * BATCHES - 2, ROWS * BATCHES - 1]
    assert returned("query") == ["pyarrow.RecordBatchReader", ["n", "text"], ends, "row 12345"]
    assert returned("together") == ROWS * (1 + 2 + 3)
    assert all("uri" in returned(name) for name in ("a_file", "a_folder", "a_stream", "batches"))
