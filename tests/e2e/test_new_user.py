"""As a new user: `xcargo init`, the connection, a green doctor, a Dag that runs; then the Dags of all pages.

All in processes of their own, with what `init` wrote and nothing else.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import DAGS, dag_file, tutorial_files
from tests.docs.test_docs import ROOT
from tests.metadata import airflow
from tests.servers import Server
from tests.unit.cli.kit import environment, xcargo

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a metadata database."""
    home = tmp_path_factory.mktemp("database")
    url = f"sqlite:///{home}/airflow.db"
    airflow(home, url, "db", "migrate")
    return url


def test_from_nothing_to_a_dag_that_runs(database: str, tmp_path: Path, s3_server: Server) -> None:
    """airflow.cfg and the metadata database hold all of it; the doctor is green; the Dag runs through the store."""
    env = environment(tmp_path, AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=database)
    del env["AIRFLOW__CORE__XCOM_BACKEND"]
    (tmp_path / "airflow.cfg").touch()
    fields = s3_server.connection
    place = ("--bucket", s3_server.bucket, "--prefix", "setup", "--endpoint-url", s3_server.endpoint)
    line = ("init", str(tmp_path), "--cloud", "minio", *place, "--access-key", fields["login"])
    with_secret = {**env, "XCARGO_INIT_SECRET": fields["password"]}
    done = xcargo(*line, "--yes", env=with_secret)
    assert done.code == 0, done.err
    assert fields["password"] not in done.out + done.err
    assert "Nothing is missing" in xcargo(*line, "--yes", env=with_secret).out
    connection = xcargo(*line, "--show-connection", env=with_secret).json
    run = [sys.executable, "-m", "airflow"]
    subprocess.run([*run, "connections", "add", "xcargo", "--conn-json", json.dumps(connection)], env=env, check=True)

    doctor = xcargo("doctor", "--json", env=env, timeout=120)
    assert doctor.code == 0, doctor.out + doctor.err
    assert {f["status"] for f in doctor.json["findings"]} == {"ok"}, doctor.out
    assert "metadata database" in doctor.out

    tested = subprocess.run([*run, "dags", "test", "xcargo_test"], env=env, capture_output=True, text=True, check=False)
    assert "success" in tested.stdout, tested.stdout[-4000:] + tested.stderr[-4000:]
    assert [key for key in s3_server.list_keys() if "setup/xcargo_test/" in key], "the large value is in the store"


RUN_ALL = """
import importlib, os, sys
sys.path.insert(0, os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
from airflow.sdk import DAG
for name in sys.argv[1:]:
    (dag,) = [value for value in vars(importlib.import_module(name)).values() if isinstance(value, DAG)]
    state = str(dag.test().state)
    print("STATE", name, state)
    assert state.endswith("success"), name
"""


def test_the_dags_of_the_pages_run(database: str, tmp_path: Path) -> None:
    """The Python of README, tutorial, big data and mapped tasks, as a user copies it, and the examples' Dags."""
    texts = {**tutorial_files(), **dict(map(dag_file, DAGS))}
    for name, path in {"orders": "astro/dags/orders.py", "xcargo_health": "dags/xcargo_health.py"}.items():
        texts[name] = (ROOT / "examples" / path).read_text("utf-8")
    for name, text in texts.items():
        named = re.sub(r"^(\w+\(\))\s*\Z", r"dag = \1", text, flags=re.MULTILINE)
        (tmp_path / f"{name}.py").write_text(f"{named}\n", "utf-8")
    env = environment(
        tmp_path,
        AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=database,
        AIRFLOW__CORE__DAGS_FOLDER=str(tmp_path),
        AIRFLOW__XCARGO__PATH=(tmp_path / "objects").as_uri(),
    )
    done = subprocess.run([sys.executable, "-c", RUN_ALL, *texts], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-8000:]
    assert done.stdout.count("STATE") == len(texts)
