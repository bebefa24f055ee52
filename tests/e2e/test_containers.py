"""What has no Airflow takes part in one: programs in other languages over S3, Google and Azure, and a notebook."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from demo.cluster import Cluster
from tests.matrix.environments import CHECKOUT, clean_environ, find_uv
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

PAGE = CHECKOUT / "docs" / "containers.md"
STORES: tuple[Kind, ...] = ("s3", "gcs", "azure")
NOTEBOOK = CHECKOUT / "examples" / "notebook" / "orders.ipynb"
EXECUTE = """
import importlib.util, sys
import nbclient, nbformat
assert importlib.util.find_spec("airflow") is None
notebook = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(notebook, timeout=300).execute()
nbformat.write(notebook, sys.argv[2])
"""


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Server]]:
    with ExitStack() as stack:
        yield {kind: stack.enter_context(start(kind)) for kind in STORES}


@pytest.fixture(scope="module")
def cluster(servers: dict[str, Server], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An Airflow whose Dags each have a store of their own, and the program of the page; the notebook's has S3."""
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
    shutil.copy(CHECKOUT / "examples" / "astro" / "dags" / "orders.py", dags)
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


def test_a_notebook_runs_without_airflow(cluster: Cluster, servers: dict[str, Server], tmp_path: Path) -> None:
    """It signs in as airflowctl does, lists, pulls, reads a part and queries what the Dag of the example returned."""
    python = tmp_path / "venv" / "bin" / "python"
    uv("venv", str(tmp_path / "venv"))
    uv("pip", "install", "--python", str(python), f"{CHECKOUT}[sql,pandas]", "nbclient", "ipykernel")
    for _ in range(2):
        assert cluster.wait("orders", cluster.trigger("orders")).ok
    home = tmp_path / "home"
    home.mkdir()
    (home / "production.json").write_text(json.dumps({"api_url": cluster.url}))  # as airflowctl writes it
    env = {
        **clean_environ(),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW_CLI_TOKEN": cluster.request("GET", "/auth/token")["access_token"],
        "AIRFLOW__XCARGO__PATH": servers["s3"].root,
        "AWS_ACCESS_KEY_ID": servers["s3"].connection["login"],
        "AWS_SECRET_ACCESS_KEY": servers["s3"].connection["password"],
        "AWS_ENDPOINT_URL": servers["s3"].endpoint,
    }
    done = subprocess.run(
        [python, "-I", "-c", EXECUTE, NOTEBOOK, tmp_path / "done.ipynb"],
        env=env, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    shown = outputs(json.loads((tmp_path / "done.ipynb").read_text()))
    assert "xcargo.Client of http://127.0.0.1" in shown[0]
    assert "<td>extract</td>" in shown[1]
    assert shown[2].count("'Lyon': ") >= 2  # a scheduled run may be there too
    assert "datetime64[ns, Europe/Berlin]" in shown[3] or "datetime64[us, Europe/Berlin]" in shown[3]
    assert "<td>cents</td>" in shown[4]
    assert "Hamburg" in shown[6]
    assert shown[7].count("\n") >= 3


def outputs(notebook: Any) -> list[str]:
    """What each cell that shows something shows, as HTML where there is some."""
    data = [out["data"] for cell in notebook["cells"] for out in cell.get("outputs", ()) if "data" in out]
    return ["".join(one.get("text/html") or one["text/plain"]) for one in data]


def uv(*arguments: str) -> None:
    subprocess.run([*find_uv(), "--quiet", *arguments], env=clean_environ(), check=True)
