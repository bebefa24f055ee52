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


def flags(cloud: str, folder: Path, request: pytest.FixtureRequest) -> tuple[list[str], str]:
    """Options of `init` for a cloud, and the secret that goes with them."""
    if cloud == "local":
        return ["--bucket", str(folder / "objects")], ""
    kind = {"aws": "s3", "minio": "s3"}.get(cloud, cloud)
    server: Server = request.getfixturevalue(f"{kind}_server")
    fields = server.connection
    found = ["--bucket", server.bucket, "--prefix", f"setup-{cloud}", "--endpoint-url", server.endpoint]
    if kind == "s3":
        return [*found, "--access-key", fields["login"], "--region", "us-east-1"], fields["password"]
    if kind == "azure":
        return [*found, "--account", fields["login"]], fields["password"]
    key = folder / "key.json"
    key.write_text(json.dumps(fields["extra"]["keyfile_dict"]))
    return [*found, "--key-file", str(key)], ""


@pytest.mark.parametrize("cloud", ["aws", "minio", "gcs", "azure"])
def test_a_plain_airflow_is_set_up_checked_and_used(cloud: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """airflow.cfg and the metadata database hold all of it; the doctor is green; the Dags run through the store."""
    started = time.monotonic()
    options, secret = flags(cloud, tmp_path, request)
    env = environment(tmp_path)
    del env["AIRFLOW__CORE__XCOM_BACKEND"]
    airflow("db", "migrate", env=env)
    airflow("config", "list", env=env)
    (tmp_path / "airflow.cfg").touch()
    line = ("init", str(tmp_path), "--cloud", cloud, *options)
    with_secret = {**env, "XCARGO_INIT_SECRET": secret}
    done = xcargo(*line, "--yes", env=with_secret)
    assert done.code == 0, done.err
    assert not secret or secret not in done.out + done.err
    shown = xcargo(*line, "--show-connection", env=with_secret)
    airflow("connections", "add", "xcargo", "--conn-json", json.dumps(shown.json), env=env)

    doctor = xcargo("doctor", "--json", env=env, timeout=120)
    assert doctor.code == 0, doctor.out + doctor.err
    assert {f["status"] for f in doctor.json["findings"]} == {"ok"}, doctor.out
    assert "metadata database" in doctor.out

    kind = {"aws": "s3", "minio": "s3"}.get(cloud, cloud)
    server: Server = request.getfixturevalue(f"{kind}_server")
    before = set(server.list_keys())
    assert "success" in airflow("dags", "test", "xcargo_test", env=env)
    added = set(server.list_keys()) - before
    assert [key for key in added if f"setup-{cloud}/xcargo_test/" in key], "the large value went through the store"
    print(f"{cloud}: {time.monotonic() - started:.0f} s in all")


def test_the_health_dag_is_the_doctor(tmp_path: Path) -> None:
    """The example's Dag runs the checks where tasks run, and succeeds where they are fine."""
    env = environment(tmp_path, AIRFLOW__XCARGO__PATH=(tmp_path / "objects").as_uri())
    airflow("db", "migrate", env=env)
    (tmp_path / "dags").mkdir()
    shutil.copy(ROOT / "examples" / "dags" / "xcargo_health.py", tmp_path / "dags")
    assert "success" in airflow("dags", "test", "xcargo_health", env=env)
