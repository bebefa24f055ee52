"""Our commands inside Airflow's own, where Airflow lets a provider add some."""

from __future__ import annotations

import json
import re

import pytest
from airflow import __version__ as airflow_version

import xcargo
from xcargo.cli.main import all_commands

from .conftest import run

MOUNTS = tuple(map(int, re.findall(r"\d+", airflow_version)[:2])) >= (3, 2)


@pytest.mark.skipif(not MOUNTS, reason="Airflow takes commands of providers from 3.2 on")
def test_airflow_runs_the_commands_as_its_own() -> None:
    """`airflow xcargo version --json` prints what `xcargo version --json` prints; its help lists the commands."""
    done = run("-m", "airflow", "xcargo", "version", "--json")
    assert done.returncode == 0, done.stderr
    told = done.stdout[done.stdout.index("{\n") :]  # on Python 3.14, Airflow 3.2 logs what it imports before
    assert json.loads(told)["xcargo"] == xcargo.__version__
    helped = run("-m", "airflow", "xcargo", "--help")
    assert {c.name.split()[0] for c in all_commands()} - {*helped.stdout.split(), "completion"} == set()
    assert run("-m", "airflow", "xcargo", "memo", "why", "--help").returncode == 0


def test_the_doctor_is_content_on_every_airflow() -> None:
    """`python -m xcargo doctor` looks up settings and store on every Airflow, and finds nothing wrong."""
    done = run("-m", "xcargo", "doctor", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "value.round-trip" in done.stdout


def test_a_connection_is_found_on_every_airflow() -> None:
    """The doctor asks Airflow for the connection that the path names; here nobody defined it."""
    done = run("-m", "xcargo", "doctor", "--json", env={"AIRFLOW__XCARGO__PATH": "s3://nobody_conn@bucket/xcom"})
    assert done.returncode == 1, done.stderr
    (failed,) = [f for f in json.loads(done.stdout)["findings"] if f["status"] == "failed"]
    assert failed["name"] == "connection.resolves"
    assert "'nobody_conn' is not defined" in failed["what"]


def test_the_command_runs_beside_every_airflow() -> None:
    """`python -m xcargo version` works on every Airflow, mounted there or not."""
    done = run("-m", "xcargo", "version", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["apache-airflow"] == airflow_version


@pytest.mark.parametrize("line", ["restore --json", "bench --json --max-mib 1 --seconds 0.1"])
def test_a_command_that_reads_settings_first_runs_on_every_airflow(line: str) -> None:
    """Airflow looks its backend up while it loads, so it has to begin to load before anything of ours."""
    done = run("-m", "xcargo", *line.split())
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)
