"""From nothing to a Dag that runs: init, connection, doctor, test Dag, in processes of their own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.servers import Server
from tests.unit.cli.kit import environment, xcargo

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[2]


def airflow(*args: str, env: Mapping[str, str]) -> str:
    """Airflow's own command."""
    done = subprocess.run(
        [sys.executable, "-m", "airflow", *args],
        env=dict(env),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def test_a_plain_airflow_is_set_up_checked_and_used(s3_server: Server, tmp_path: Path) -> None:
    """airflow.cfg and the metadata database hold all of it; the doctor is green; the Dags run through the store."""
    started = time.monotonic()
    env = environment(tmp_path)
    del env["AIRFLOW__CORE__XCOM_BACKEND"]
    airflow("db", "migrate", env=env)
    airflow("config", "list", env=env)
    (tmp_path / "airflow.cfg").touch()
    fields = s3_server.connection
    line = ("init", str(tmp_path), "--cloud", "minio", "--bucket", s3_server.bucket, "--prefix", "setup")
    account = ("--endpoint-url", s3_server.endpoint, "--access-key", fields["login"])
    with_secret = {**env, "XCARGO_INIT_SECRET": fields["password"]}
    done = xcargo(*line, *account, "--yes", env=with_secret)
    assert done.code == 0, done.err
    assert fields["password"] not in done.out + done.err
    shown = xcargo(*line, *account, "--show-connection", env=with_secret)
    airflow("connections", "add", "xcargo", "--conn-json", json.dumps(shown.json), env=env)

    doctor = xcargo("doctor", "--json", env=env, timeout=120)
    assert doctor.code == 0, doctor.out + doctor.err
    assert {f["status"] for f in doctor.json["findings"]} == {"ok"}
    assert "metadata database" in doctor.out

    before = set(s3_server.list_keys())
    shutil.copy(ROOT / "examples" / "dags" / "xcargo_health.py", tmp_path / "dags")
    assert "success" in airflow("dags", "test", "xcargo_test", env=env)
    added = set(s3_server.list_keys()) - before
    assert [key for key in added if key.startswith("setup/xcargo_test/")], "the large value went through the store"
    assert "success" in airflow("dags", "test", "xcargo_health", env=env)
    print(f"{time.monotonic() - started:.0f} s in all")
