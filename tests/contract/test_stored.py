"""What is stored, told and moved on this Airflow: rows of real runs, in whatever tables it keeps them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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


EACH = """
import contextlib, io, json, sys
from xcargo.cli.main import main
for line in sys.argv[1:]:
    with contextlib.redirect_stdout(io.StringIO()) as text:
        status = main(line.split())
    print("TOLD", json.dumps([line, status, text.getvalue()]))
"""


def xcargo(*lines: str, env: Mapping[str, str]) -> list[Any]:
    """What each command says in JSON, one after another in one process: most of a command is loading Airflow.

    ``ls`` gives a list, a line of it for each row.
    """
    done = run("-c", EACH, *lines, env=env)
    told = [json.loads(line[5:]) for line in done.stdout.splitlines() if line.startswith("TOLD ")]
    assert len(told) == len(lines), done.stderr[-3000:]
    for line, status, text in told:
        assert status == 0 or "--to stock" in line, (line, text[-3000:])  # it names what the stock backend cannot carry
    return [
        [json.loads(row) for row in text.splitlines()] if line.startswith("ls") else json.loads(text)
        for line, _, text in told
    ]


def uris(listed: list[dict[str, str]]) -> list[str]:
    return sorted(line["uri"] for line in listed)


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
    (before,) = xcargo("ls --json", env=copy)
    clean = ("db", "clean", "--clean-before-timestamp", "2100-01-01", "--tables", "xcom", "--yes")
    done = run("-m", "airflow", *clean, env=copy)
    assert done.returncode == 0, done.stdout + done.stderr
    (after,) = xcargo("ls --json", env=copy)
    assert uris(after) == uris(before)
    assert {line["source"].startswith("_airflow_deleted__xcom") for line in after} == {True}


def test_values_go_back_to_stock_rows_and_return(copy: dict[str, str], dag_runs: dict[str, Run], place: Place) -> None:
    """Everything that this Airflow's own backend carries goes into its rows; from there it is offloaded again."""
    migrate = f"migrate --apply --json --journal {place.home}/journal"
    commands = ("verify --json", f"{migrate} --to stock", "ls --json", f"{migrate} --from database", "verify --json")
    verified, to_stock, listed, from_database, again = xcargo(*commands, env=copy)
    there, here = verified["counts"], again["counts"]
    assert (there["missing"], there["damaged"]) == (0, 0)
    moved, back = ({c["status"]: c["rows"] for c in report["counts"]} for report in (to_stock, from_database))
    assert moved["moved"] > 5
    assert back["moved"] > 3
    assert "failed" not in moved | back, (to_stock, from_database)
    assert len(listed) < there["ok"]
    assert (here["missing"], here["damaged"], here["ok"]) == (0, 0, len(listed) + back["moved"])


def test_objects_are_rewritten_in_another_compression(copy: dict[str, str], dag_runs: dict[str, Run]) -> None:
    """Every row refers to a new object, of the same value, and no old one is touched."""
    commands = ("ls --json", "migrate --rewrite --from store --apply --json", "ls --json", "verify --json")
    before, report, after, verified = xcargo(*commands, env={"AIRFLOW__XCARGO__COMPRESSION": "xz", **copy})
    assert {c["status"] for c in report["counts"]} == {"moved"}
    old, new = set(uris(before)), set(uris(after))
    assert not new & old
    assert all(Path(uri.removeprefix("file://")).exists() for uri in old | new)
    assert verified["counts"]["ok"] >= len(new)
