"""As a new user: an Astro project, `xcargo init` for each store, a green doctor, the tutorial's Dag. Then ten mistakes.

All through the command, in processes of its own, with the variables that `init` wrote and nothing else.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import DAGS, dag_file, tutorial_files
from tests.docs.test_docs import ROOT
from tests.e2e.test_setup import airflow, flags
from tests.servers import Fault, FaultProxy, Server
from tests.unit.cli.kit import Done, Skewed, environment, xcargo

pytestmark = pytest.mark.e2e

CLOUDS = ("aws", "minio", "gcs", "azure", "local")


@dataclass(frozen=True)
class Project:
    """A project that `init` has set up, and Airflow's variables in it."""

    folder: Path
    env: dict[str, str]

    def doctor(self, *options: str, powerless: bool = False, **variables: str) -> Done:
        """What the doctor says here, with further variables. ``powerless``: to someone who is bound by permissions."""
        under = ("setpriv", "--bounding-set=-dac_override") if powerless and os.geteuid() == 0 else ()
        return xcargo("doctor", "--json", *options, env={**self.env, **variables}, timeout=120, under=under)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A metadata database for all projects, and the variable that names it."""
    home = tmp_path_factory.mktemp("database")
    found = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db"}
    airflow("db", "migrate", env={**environment(home), **found})
    return found


@pytest.fixture
def set_up(database: dict[str, str], tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[str], Project]:
    """Makes an empty Astro project, and runs `init` in it for a cloud whose server is on loopback."""

    def run(cloud: str) -> Project:
        folder = tmp_path / "project"
        for name in ("dags", "include", ".astro"):
            (folder / name).mkdir(parents=True)
        (folder / "Dockerfile").write_text("FROM astrocrpublic.azurecr.io/runtime:3.3-2\n")
        (folder / "requirements.txt").write_text("pandas\n")
        (folder / ".gitignore").write_text("airflow.db\n")
        options, secret = flags(cloud, tmp_path, request)
        bare = environment(tmp_path / "home")
        del bare["AIRFLOW__CORE__XCOM_BACKEND"]
        done = xcargo(
            "init", "--cloud", cloud, *options, "--yes", cwd=folder, env={**bare, "XCARGO_INIT_SECRET": secret}
        )
        assert done.code == 0, done.err
        assert "astro" in done.err
        assert not secret or secret not in done.out + done.err
        assert "airflow-provider-xcargo" in (folder / "requirements.txt").read_text()
        variables = sourced(folder / ".env")
        folders = {"AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags")}
        return Project(folder, {**bare, **database, **folders, **variables})

    return run


def sourced(path: Path) -> dict[str, str]:
    """The variables of a .env file, as a shell reads them. Nobody else may read it."""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    done = subprocess.run(
        ["env", "-i", "bash", "-c", 'set -a; . "$1"; env -0', "bash", str(path)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = dict(line.split("=", 1) for line in done.stdout.split("\0") if line)
    return {name: value for name, value in found.items() if name.startswith("AIRFLOW")}


@pytest.mark.parametrize("cloud", CLOUDS)
def test_from_nothing_to_the_tutorials_dag(cloud: str, set_up: Callable[[str], Project]) -> None:
    """init, doctor, Dags; done again, init finds nothing missing."""
    started = time.monotonic()
    project = set_up(cloud)
    inited = time.monotonic()
    done = project.doctor()
    assert done.code == 0, done.out + done.err
    assert {f["status"] for f in done.json["findings"]} == {"ok"}, done.out
    checked = time.monotonic()
    (project.folder / "dags" / "readme.py").write_text(tutorial_files()["readme"])
    assert "success" in airflow("dags", "test", "custom_xcom_backend_test", env=project.env)
    assert (project.folder / "dags" / "xcargo_test.py").is_file()
    print(
        f"{cloud}: init {inited - started:.1f} s, doctor {checked - inited:.1f} s, "
        f"Dag {time.monotonic() - checked:.1f} s"
    )


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


def test_the_dags_of_the_pages_run(set_up: Callable[[str], Project]) -> None:
    """The Python of tutorial, big data and mapped tasks, as a user copies it, and the example's Dag."""
    project = set_up("local")
    files = {**tutorial_files(), **dict(map(dag_file, DAGS))}
    del files["readme"]  # it ran above
    orders = (ROOT / "examples" / "astro" / "dags" / "orders.py").read_text("utf-8")
    files["orders"] = orders.replace("\norders()", "\nfound = orders()")
    for name, text in files.items():
        (project.folder / "dags" / f"{name}.py").write_text(f"{text}\n", "utf-8")
    done = subprocess.run(
        [sys.executable, "-c", RUN_ALL, *files], env=project.env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-8000:]
    assert done.stdout.count("STATE") == len(files)


# --- ten mistakes ----------------------------------------------------------------------------------------------------


@pytest.fixture
def project(set_up: Callable[[str], Project]) -> Project:
    """The project on S3 that is about to be broken."""
    return set_up("aws")


def blamed(done: Done) -> dict[str, Any]:
    """The one finding that is not fine. The doctor ends with 1 exactly when it is a failure."""
    (found,) = [f for f in done.json["findings"] if f["status"] not in ("ok", "skipped")]
    assert done.code == (1 if found["status"] == "failed" else 0)
    assert found["fix"]
    return dict(found)


def changed(project: Project, **fields: Any) -> str:
    """The project's connection with other fields."""
    return json.dumps({**json.loads(project.env["AIRFLOW_CONN_XCARGO"]), **fields})


def test_each_of_ten_mistakes_is_named(project: Project, s3_server: Server, gcs_server: Server, tmp_path: Path) -> None:
    """One finding each, which names what is wrong and says what to do."""
    started = time.monotonic()
    quick = "--quick"

    found = blamed(project.doctor(quick, AIRFLOW_CONN_XCARGO=changed(project, password="wrong")))
    assert found["name"] == "store.put"
    assert "secret key is not that of the access key" in found["what"]

    # The S3 server makes a bucket for an administrator; Google's and Azure's say that there is none.
    gone = {"AIRFLOW__XCARGO__PATH": f"gs://{gcs_server.connection_id}@no-such-bucket/x", **gcs_server.env()}
    found = blamed(project.doctor(quick, **gone))
    assert "'no-such-bucket'" in found["what"]

    found = blamed(project.doctor(quick, AIRFLOW__XCARGO__COMPRESSION="zstdd"))
    assert "zstd" in found["fix"]

    found = blamed(project.doctor(quick, AIRFLOW__XCARGO_PATH="s3://elsewhere/xcom"))
    assert "AIRFLOW__XCARGO_PATH has no effect" in found["what"]
    assert "AIRFLOW__XCARGO__PATH" in found["fix"]

    def via(url: str) -> str:
        extra = {"endpoint_url": url, "region_name": "us-east-1"}
        return changed(project, extra=extra)

    with Skewed(s3_server.endpoint, timedelta(hours=-3)) as relay:
        found = blamed(project.doctor(quick, AIRFLOW_CONN_XCARGO=via(relay.url)))
    assert found["name"] == "connection.clock"
    assert "3 h ahead" in found["what"]

    with FaultProxy(s3_server.endpoint) as proxy:
        proxy.add(Fault("status", method="DELETE", status=403, times=None))
        found = blamed(project.doctor(quick, AIRFLOW_CONN_XCARGO=via(proxy.url)))
        assert found["name"] == "store.delete"
        proxy.add(Fault("refuse"))
        found = blamed(project.doctor(quick, AIRFLOW_CONN_XCARGO=via(proxy.url)))
        assert found["name"] == "connection.endpoint"
        assert proxy.url in found["what"]

    folder = tmp_path / "read-only"
    folder.mkdir(mode=0o555)
    found = blamed(project.doctor(quick, powerless=True, AIRFLOW__XCARGO__PATH=folder.as_uri()))
    assert found["name"] == "store.put"
    assert str(folder) in found["what"] + found["fix"]

    found = blamed(project.doctor(quick, AIRFLOW__XCARGO__THRESHOLD_BYTES="-1"))
    assert found["name"] == "settings.threshold"
    assert "nothing is offloaded" in found["what"]

    found = blamed(project.doctor(quick, AIRFLOW__XCARGO__PATH="s4://my-bucket/xcom"))
    assert found["name"] == "connection.resolves"
    assert "'s4'" in found["what"]
    print(f"ten mistakes: {time.monotonic() - started:.0f} s")
