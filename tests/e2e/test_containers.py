"""Programs in other languages in a real Airflow, over S3, Google and Azure servers."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from demo.cluster import Cluster
from tests.servers import Kind, Server, start
from tests.servers.node import find_node
from tests.unit.conftest import google_key

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        next(iter(importlib.metadata.distributions(name="apache-airflow-task-sdk")), None) is None,
        reason="needs Airflow 3",
    ),
]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "containers.md"
STORES: tuple[Kind, ...] = ("s3", "gcs", "azure")


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Server]]:
    with ExitStack() as stack:
        yield {kind: stack.enter_context(start(kind)) for kind in STORES}


@pytest.fixture(scope="module")
def cluster(servers: dict[str, Server], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An Airflow whose Dags each have a store of their own, and the program of the page."""
    home = tmp_path_factory.mktemp("containers")
    (program,) = re.findall(r"```javascript\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (home / "double.mjs").write_text(program)
    # The server of Google's kind asks for no credentials; without a private key no URL could be signed.
    google = servers["gcs"].connection | {
        "extra": {"keyfile_dict": {**google_key(), "gcs_base_url": servers["gcs"].endpoint}}
    }
    env = {
        "AIRFLOW__CORE__XCOM_BACKEND": "xcargo.XComBackend",
        "AIRFLOW__XCARGO__PATH": servers["s3"].root,
        "AIRFLOW__XCARGO__ROUTES": json.dumps(
            [{"name": kind, "dag": f"containers_{kind}", "path": servers[kind].root} for kind in STORES]
        ),
        **{name: value for server in servers.values() for name, value in server.env().items()},
        "AIRFLOW_CONN_XCARGO_GCS": json.dumps(google),
        "NODE": str(find_node().program),
        "DOUBLE": str(home / "double.mjs"),
    }
    dags = shutil.copytree(Path(__file__).parent / "containers" / "dags", home / "dags")
    with Cluster(home, dags=dags, env=env) as cluster:
        yield cluster


@pytest.mark.parametrize("store", STORES)
def test_a_node_program_and_curl_take_part_in_a_dag(cluster: Cluster, servers: dict[str, Server], store: str) -> None:
    """Values reach them and come back; the store holds what rows refer to and a copy for the GET; no URL is seen."""
    run = cluster.wait(dag_id := f"containers_{store}", cluster.trigger(f"containers_{store}"))
    logs = "\n".join(cluster.task_log(dag_id, run.run_id, task.task_id) for task in run.tasks)
    assert run.ok, logs
    rows = {row.task_id: row.value for row in cluster.xcoms(dag_id, run.run_id)}
    assert rows["check"] == 100_000 * 100_001 // 2
    assert (rows["double"]["codec"], rows["numbers"]["codec"]) == ("msgpack", "file")
    keys = [key for key in servers[store].list_keys() if key.startswith(f"demo/{dag_id}/")]
    referred = {row["uri"].partition(f"{servers[store].bucket}/")[2] for row in rows.values() if isinstance(row, dict)}
    assert referred < set(keys)
    assert [key.rpartition(".")[2] for key in set(keys) - referred] == ["bin"]
    signature = re.compile(r"(?:Signature|sig)=(?!\*\*\*)")
    assert "=***" in logs
    assert not signature.search(logs)
    rendered = str(cluster.query("SELECT rendered_fields FROM rendered_task_instance_fields WHERE dag_id = ?", dag_id))
    assert "=***" in rendered
    assert not signature.search(rendered)
