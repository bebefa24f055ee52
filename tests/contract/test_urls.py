"""Values that curl puts and gets by signed URLs, in every Airflow, over a real S3 server."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from airflow import __version__ as airflow_version

from tests.servers import Server, start

from .conftest import HERE, Run, rows_of
from .conftest import run as run_python
from .settle import Place

NAME = "contract_urls"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with start("s3") as server:
        yield server


@pytest.fixture(scope="module")
def urls(place: Place, database: Path, server: Server) -> Run:
    """The Dag, run once, with the bucket as its path."""
    report = place.home / "urls.json"
    dags = HERE / "urls" / "dags"
    env = {**server.env(), "AIRFLOW__XCARGO__PATH": server.root, "AIRFLOW__CORE__DAGS_FOLDER": str(dags)}
    done = run_python(str(dags / "contract_urls_dag.py"), str(report), env=env, timeout=600)
    log = done.stdout + done.stderr
    assert done.returncode == 0, log[-20_000:]
    found = json.loads(report.read_text())
    return Run(NAME, **found, log=log, rows=rows_of(database, NAME), objects=frozenset())


def test_programs_put_and_get_values_by_url(urls: Run) -> None:
    """Files, decoded values, mapped, retried and deferred tasks: the asserts within the Dag held."""
    assert urls.state == "success", urls.log[-20_000:]


def test_what_was_collected_is_gone(urls: Run, server: Server) -> None:
    """Below the Dag stay the objects of rows, the upload of the failed try, and what was converted for a GET."""
    referred = {row.value["uri"].partition("xcom/")[2] for row in urls.rows if "uri" in (row.value or ())}
    others = [key for key in server.list_keys() if f"/{NAME}/" in key and key not in referred]
    failed = [] if airflow_version.startswith("2.9.") else ["upload"]  # the dag.test() of 2.9 counts no tries
    assert sorted(key.rpartition(".")[2] for key in others) == ["bin", "bin", "csv", *failed], others


def test_no_signature_is_seen(urls: Run, database: Path) -> None:
    """It is masked in the rendered templates, which the UI shows, and in logs: on 3.0 these hold what a task sends."""
    with sqlite3.connect(database) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        table = "rtif_v2" if "rtif_v2" in tables else "rendered_task_instance_fields"  # 3.4; before
        found = connection.execute(f"SELECT rendered_fields FROM {table}").fetchall()
    rendered = "".join(map(str, found))
    assert "X-Amz-Signature=***" in rendered
    assert "X-Amz-Signature=" not in rendered.replace("X-Amz-Signature=***", "")
    assert "X-Amz-Signature=" not in urls.log.replace("X-Amz-Signature=***", "")
