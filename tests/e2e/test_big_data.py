"""Files, folders, streams and handles between the processes of a real Airflow, through a real S3 server."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from demo.cluster import Cluster
from tests.e2e.dags.big_data import BATCHES, ROWS
from tests.servers import Server

pytestmark = pytest.mark.e2e

DAGS = Path(__file__).parent / "dags"


def test_what_is_large_travels_between_tasks_in_whole_or_in_part(s3_server: Server, tmp_path: Path) -> None:
    """Each task checks what it gets; handles fetch their columns and rows; mapped results come as handles."""
    env = {
        "AIRFLOW__CORE__XCOM_BACKEND": "xcargo.XComBackend",
        "AIRFLOW__XCARGO__PATH": f"{s3_server.root}/big-data",
        **s3_server.env(),
    }
    with Cluster(tmp_path, dags=DAGS, env=env) as cluster:
        run = cluster.wait("big_data", cluster.trigger("big_data"))
        failed = [task.task_id for task in run.tasks if task.state != "success"]
        assert not failed, cluster.task_log("big_data", run.run_id, failed[0])
        rows = {(row.task_id, row.map_index): row.value for row in cluster.xcoms("big_data", run.run_id)}
    assert rows["read_stream", -1] == hashlib.sha256(b"".join(bytes([n]) * 1_000_000 for n in range(20))).hexdigest()
    assert rows["read_batches", -1] == ROWS * BATCHES
    ends = [ROWS * BATCHES - 2, ROWS * BATCHES - 1]
    assert rows["query", -1] == ["pyarrow.RecordBatchReader", ["n", "text"], ends, "row 12345"]
    assert rows["together", -1] == ROWS * (1 + 2 + 3)
    assert all("uri" in rows[name, -1] for name in ("a_file", "a_folder", "a_stream", "batches"))
