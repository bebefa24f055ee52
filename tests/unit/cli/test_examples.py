"""The example projects are complete: `init` finds nothing missing, and their S3 server and connection fit together."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import Connection
from tests.docs.test_docs import ROOT
from tests.servers.processes import find_program, free_ports, running
from tests.servers.s3 import PACKAGE
from tests.unit.cli.kit import Call
from xcargo.airflow.connections import access_of
from xcargo.cli.checks import Status
from xcargo.cli.checks.store import exercise
from xcargo.model.root import Root
from xcargo.stores.base import Limits

EXAMPLES = ROOT / "examples"
COMPOSE = {"astro": "docker-compose.override.yml", "compose": "docker-compose.yaml"}


def variables(kind: str) -> dict[str, str]:
    """What .env.example sets."""
    lines = (EXAMPLES / kind / ".env.example").read_text().splitlines()
    return {name: value.strip("'") for name, _, value in (line.partition("=") for line in lines) if value}


@pytest.mark.parametrize("kind", COMPOSE)
def test_init_finds_nothing_missing(kind: str, tmp_path: Path, cli: Call) -> None:
    """A copy with its .env, as its README says: the command that would set it up changes nothing."""
    folder = tmp_path / "project"
    shutil.copytree(EXAMPLES / kind, folder)
    shutil.copy(folder / ".env.example", folder / ".env")
    options = ("--bucket", "xcom", "--endpoint-url", "http://objectstore:8333", "--region", "us-east-1")
    secret = json.loads(variables(kind)["AIRFLOW_CONN_XCARGO"])["password"]
    line = ("init", str(folder), "--cloud", "minio", *options, "--access-key", "xcargo", "--dry-run")
    done = cli(*line, XCARGO_INIT_SECRET=secret)
    assert done.code == 0, done.err
    assert f"of kind {kind}" in done.err
    assert "Nothing is missing" in done.out, done.out


@pytest.mark.parametrize("kind", COMPOSE)
def test_the_server_takes_what_the_connection_says(kind: str, tmp_path: Path) -> None:
    """The very server, options and key of the example, but for its ports and folders: every verb works."""
    services = yaml.safe_load((EXAMPLES / kind / COMPOSE[kind]).read_text())["services"]
    command = services["objectstore"]["command"]
    key = EXAMPLES / kind / ("include/s3.json" if kind == "astro" else "s3.json")
    daemons = ("master", "volume", "filer", "s3")
    ports, grpc = free_ports(4), free_ports(4)
    options = command.replace("/data", str(tmp_path)).replace("/etc/seaweedfs/s3.json", str(key)).split()
    options += [f"-{daemon}.port={port}" for daemon, port in zip(daemons, ports, strict=True)]
    options += [f"-{daemon}.port.grpc={port}" for daemon, port in zip(daemons, grpc, strict=True)]
    options += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    options += [f"-s3.localSocket={tmp_path}/s3.sock", f"-filer.localSocket={tmp_path}/filer.sock"]
    found = variables(kind)
    fields: dict[str, Any] = json.loads(found["AIRFLOW_CONN_XCARGO"])
    assert fields["extra"]["endpoint_url"] == "http://objectstore:8333"
    fields["extra"]["endpoint_url"] = f"http://127.0.0.1:{ports[-1]}"
    root = Root.parse(found["AIRFLOW__XCARGO__PATH"])
    access = access_of(root, lambda _: Connection(fields))

    def ready() -> bool:
        return next(iter(exercise(root, access, Limits(timeout_seconds=3), large=False))).status is Status.OK

    sockets = [f"/tmp/seaweedfs-{d}-grpc-{port}.sock" for d, port in zip(daemons, grpc, strict=True)]
    with running([find_program("weed", PACKAGE), "-logtostderr=true", *options], is_ready=ready, remove=sockets):
        findings = list(exercise(root, access, Limits(timeout_seconds=10), large=True))
    assert [f for f in findings if f.status in (Status.WARNING, Status.FAILED)] == []


def test_the_compose_file_is_whole() -> None:
    """Each Airflow service reads .env and the Dags; the image that is built has the package."""
    services = yaml.safe_load((EXAMPLES / "compose" / COMPOSE["compose"]).read_text())["services"]
    ours = {name: service for name, service in services.items() if name.startswith("airflow-")}
    assert {"airflow-apiserver", "airflow-scheduler", "airflow-dag-processor", "airflow-triggerer"} <= ours.keys()
    for service in ours.values():
        assert service["env_file"] == [".env"]
        assert service["build"] == "."
        assert "./dags:/opt/airflow/dags" in service["volumes"]
    assert "requirements.txt" in (EXAMPLES / "compose" / "Dockerfile").read_text()


@pytest.mark.parametrize("kind", COMPOSE)
def test_its_readme_names_files_that_are_there(kind: str) -> None:
    """And no secret is in a file that Git takes, but the key of the server for development."""
    text = (EXAMPLES / kind / "README.md").read_text()
    for name in re.findall(r"^\| (.*?) \|", text, re.MULTILINE)[2:]:
        for path in re.findall(r"`([^`]+)`", name):
            assert (EXAMPLES / kind / path).is_file(), path
    ignored = subprocess.run(["git", "check-ignore", "-q", f"examples/{kind}/.env"], cwd=ROOT, check=False).returncode
    assert ignored == 0


def test_the_dags_are_the_same() -> None:
    """Both examples have them, and the test Dag is the one that `init` writes."""
    test_dag = (ROOT / "src/xcargo/cli/xcargo_test_dag.txt").read_text()
    for name in ("orders.py", "xcargo_test.py"):
        assert len({(EXAMPLES / kind / "dags" / name).read_text() for kind in COMPOSE}) == 1
    assert (EXAMPLES / "astro" / "dags" / "xcargo_test.py").read_text() == test_dag
