"""The notebook of the examples, as a data scientist runs it: without Airflow, against a real Airflow and S3."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from demo.cluster import Cluster
from tests.matrix.environments import CHECKOUT, clean_environ, find_uv
from tests.servers import start

pytestmark = pytest.mark.e2e

NOTEBOOK = CHECKOUT / "examples" / "notebook" / "orders.ipynb"
EXECUTE = """
import importlib.util, sys
import nbclient, nbformat
assert importlib.util.find_spec("airflow") is None
notebook = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(notebook, timeout=300).execute()
nbformat.write(notebook, sys.argv[2])
"""


def test_the_notebook_runs_without_airflow(tmp_path: Path) -> None:
    """It signs in as airflowctl does, lists, pulls, reads a part and queries what the Dag of the example returned."""
    python, dags = tmp_path / "venv" / "bin" / "python", tmp_path / "dags"
    uv("venv", str(tmp_path / "venv"))
    uv("pip", "install", "--python", str(python), f"{CHECKOUT}[sql,pandas]", "nbclient", "ipykernel")
    dags.mkdir()
    shutil.copy(CHECKOUT / "examples" / "astro" / "dags" / "orders.py", dags)
    with start("s3") as server:
        path = f"{server.root}/notebook"
        backend = {"AIRFLOW__CORE__XCOM_BACKEND": "xcargo.XComBackend", "AIRFLOW__XCARGO__PATH": path, **server.env()}
        with Cluster(tmp_path / "airflow", dags=dags, env=backend) as cluster:
            for _ in range(2):
                assert cluster.wait("orders", cluster.trigger("orders")).ok
            home = tmp_path / "home"
            home.mkdir()
            (home / "production.json").write_text(json.dumps({"api_url": cluster.url}))  # as airflowctl writes it
            env = {
                **clean_environ(),
                "AIRFLOW_HOME": str(home),
                "AIRFLOW_CLI_TOKEN": cluster.request("GET", "/auth/token")["access_token"],
                "AIRFLOW__XCARGO__PATH": path,
                "AWS_ACCESS_KEY_ID": server.connection["login"],
                "AWS_SECRET_ACCESS_KEY": server.connection["password"],
                "AWS_ENDPOINT_URL": server.endpoint,
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
