"""What is stored, told and moved on this Airflow: rows of real runs, in whatever tables it keeps them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import sqlalchemy

from .conftest import Run, run
from .settle import Place


def envelopes(dag_runs: dict[str, Run]) -> dict[str, int]:
    """URI -> how many rows refer to it, of all Dags that ran."""
    found: dict[str, int] = {}
    for dag_run in dag_runs.values():
        for row in dag_run.rows:
            if isinstance(row.value, dict) and str(row.value.get("__id__", "")).startswith("xcargo/"):
                uri = row.value.get("uri")
                found |= {uri: found.get(uri, 0) + 1} if uri else {}
    return found


def xcargo(*arguments: str, code: int = 0, env: Mapping[str, str]) -> str:
    done = run("-m", "xcargo", *arguments, env=env)
    assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture
def copy(place: Place, dag_runs: dict[str, Run], tmp_path: Path) -> dict[str, str]:
    """The variables for a process that uses a copy of the metadata database, as the Dags left it, and loads no Dag."""
    shutil.copy(place.database_then, tmp_path / "copy.db")
    own = "contract_dags.Order contract_dags.Order.Kind contract_kinds_dag.* tests.roundtrips.examples.*"
    return {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/copy.db",
        "AIRFLOW__CORE__ALLOWED_DESERIALIZATION_CLASSES": f"airflow.* contract_values.* {own}",
    }


def test_every_row_that_refers_to_an_object_is_listed(dag_runs: dict[str, Run], place: Place) -> None:
    """Those of the tables, of every attempt, each under the coordinate that its object key was made of."""
    from xcargo.airflow.references.database import DatabaseReferences

    engine = sqlalchemy.create_engine(f"sqlite:///{place.database_then}")
    found = list(DatabaseReferences(engine, page_rows=7).iterate())
    uris = [reference.uri for reference in found if reference.coordinate.dag_id in dag_runs]
    assert {uri: uris.count(uri) for uri in uris} == envelopes(dag_runs)
    assert len(uris) > 10
    for reference in found:
        assert f"/{reference.coordinate.prefix()}/" in reference.uri
        assert reference.coordinate.attempt is None or f"~-{reference.coordinate.attempt}~" in reference.uri
        assert reference.run_state in ("success", "failed")
        assert reference.run_date is not None


def test_what_db_clean_moves_is_still_listed(copy: dict[str, str], dag_runs: dict[str, Run]) -> None:
    """Archived rows refer to their objects as before, also where nothing else of their task is left."""
    before = sorted(json.loads(line)["uri"] for line in xcargo("ls", "--json", env=copy).splitlines())
    clean = ("db", "clean", "--clean-before-timestamp", "2100-01-01", "--tables", "xcom", "--yes")
    done = run("-m", "airflow", *clean, env=copy)
    assert done.returncode == 0, done.stdout + done.stderr
    after = [json.loads(line) for line in xcargo("ls", "--json", env=copy).splitlines()]
    assert sorted(line["uri"] for line in after) == before
    assert {line["source"].startswith("_airflow_deleted__xcom") for line in after} == {True}


def test_values_go_back_to_stock_rows_and_return(copy: dict[str, str], dag_runs: dict[str, Run], place: Place) -> None:
    """Everything that this Airflow's own backend carries goes into its rows; from there it is offloaded again."""
    there = json.loads(xcargo("verify", "--json", env=copy))["counts"]
    assert (there["missing"], there["damaged"]) == (0, 0)
    journal = ("--journal", str(place.home / "journal"))
    text = run("-m", "xcargo", "migrate", "--to", "stock", "--apply", "--json", *journal, env=copy).stdout
    moved = {entry["status"]: entry["rows"] for entry in json.loads(text)["counts"]}
    assert moved["moved"] > 5
    assert "failed" not in moved, text
    left = sum(1 for _ in xcargo("ls", "--json", env=copy).splitlines())
    assert left < there["ok"]
    text = run("-m", "xcargo", "migrate", "--from", "database", "--apply", "--json", *journal, env=copy).stdout
    back = {entry["status"]: entry["rows"] for entry in json.loads(text)["counts"]}
    assert back["moved"] > 3
    assert "failed" not in back, text
    again = json.loads(xcargo("verify", "--json", env=copy))["counts"]
    assert (again["missing"], again["damaged"], again["ok"]) == (0, 0, left + back["moved"])


def test_objects_are_rewritten_in_another_compression(copy: dict[str, str], dag_runs: dict[str, Run]) -> None:
    """Every row refers to a new object, of the same value, and no old one is touched."""
    old = {json.loads(line)["uri"] for line in xcargo("ls", "--json", env=copy).splitlines()}
    rewrite = ("migrate", "--rewrite", "--from", "store", "--apply", "--json")
    text = xcargo(*rewrite, env={"AIRFLOW__XCARGO__COMPRESSION": "xz", **copy})
    assert {entry["status"] for entry in json.loads(text)["counts"]} == {"moved"}
    new = {json.loads(line)["uri"] for line in xcargo("ls", "--json", env=copy).splitlines()}
    assert not new & old
    assert all(Path(uri.removeprefix("file://")).exists() for uri in old | new)
    assert json.loads(xcargo("verify", "--json", env=copy))["counts"]["ok"] >= len(new)
