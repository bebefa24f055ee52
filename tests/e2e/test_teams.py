"""Two teams in one real Airflow with ``[core] multi_team``: scheduler, workers, Execution API."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from demo.cluster import Cluster

pytestmark = pytest.mark.e2e

TEAMS = Path(__file__).parent / "teams"


def test_a_teams_worker_cannot_read_another_teams_object_with_a_copied_row(tmp_path: Path) -> None:
    """Nor with a row that points into the other's root, which only the team forbids; its own values it gets.

    Each team has a root and a key of its own by its route. Airflow itself tells the worker its team, and its
    Execution API gives out no row of another team's Dag.
    """
    report = tmp_path / "report.json"
    keys = {name: base64.b64encode(os.urandom(32)).decode() for name in ("hr_team", "sales_team")}
    bundles = [
        {
            "name": name,
            "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
            "kwargs": {"path": str(TEAMS / name), "refresh_interval": 30},
            "team_name": name,
        }
        for name in keys
    ]
    routes = [
        {"name": name, "team": name, "path": (tmp_path / f"{name}_objects").as_uri(), "encryption_key": name}
        for name in keys
    ]
    env = {
        "AIRFLOW__CORE__MULTI_TEAM": "True",
        "AIRFLOW__CORE__XCOM_BACKEND": "xcargo.XComBackend",
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles),
        "AIRFLOW__XCARGO__PATH": (tmp_path / "objects").as_uri(),
        "AIRFLOW__XCARGO__ENCRYPTION_KEYS": ",".join(f"{name}={key}" for name, key in keys.items()),
        "AIRFLOW__XCARGO__ROUTES": json.dumps(routes),
        "TEAMS_DATABASE": str(tmp_path / "airflow.db"),
        "TEAMS_REPORT": str(report),
    }
    for name in ("objects", *(f"{name}_objects" for name in keys)):
        (tmp_path / name).mkdir()
    cluster = Cluster(tmp_path, dags=TEAMS, env=env)
    for command in (["db", "migrate"], *(["teams", "create", name] for name in keys)):
        subprocess.run([sys.executable, "-m", "airflow", *command], env=cluster.env, check=True, capture_output=True)
    with cluster:
        theirs = cluster.wait("hr", cluster.trigger("hr"))
        assert theirs.ok, cluster.task_log("hr", theirs.run_id, "salaries")
        run = cluster.wait("sales", cluster.trigger("sales"))
        failed = [task.task_id for task in run.tasks if task.state != "success"]
        assert not failed, cluster.task_log("sales", run.run_id, failed[0])
    found = json.loads(report.read_text())
    assert found["team"] == "sales_team"
    assert found["own"].startswith("value: ['what sales sold'")
    assert found["copied"].startswith("EnvelopeError")
    assert found["placed"].startswith("EnvelopeError: The row refers to an object of team hr_team")
    assert "access_denied" in found["asked for"]
    assert "what only hr may read" not in json.dumps(found)
