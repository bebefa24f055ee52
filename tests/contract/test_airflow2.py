"""Airflow 2 shows rows in its web server and its lists: there nothing may be downloaded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from airflow import __version__ as airflow_version

from xcargo.airflow.references.database import DatabaseReferences
from xcargo.airflow.references.rest import RestApi, RestReferences
from xcargo.errors import AccessDeniedError

from .conftest import USER, Run, WebServer, file_of, rows_of
from .generation import AIRFLOW_2, XCom

pytestmark = pytest.mark.skipif(not AIRFLOW_2, reason="only Airflow 2 loads rows through the backend to show them")


@pytest.fixture
def run_without_object(dag_runs: dict[str, Run]) -> Iterator[Run]:
    """The flow Dag's run while the object of its large value is away."""
    run = dag_runs["contract_flow"]
    path = file_of(run.row("large_one"))
    away = path.with_name("away")
    path.rename(away)
    yield run
    away.rename(path)


def loaded(run: Run, task_id: str) -> Any:
    """The return value's row as the ORM gives it, the way the XCom list does."""
    from airflow.utils.session import create_session

    with create_session() as session:
        where = {"dag_id": run.dag_id, "run_id": run.run_id, "task_id": task_id, "key": "return_value"}
        return session.query(XCom).filter_by(**where).one().value


def test_list_shows_a_summary_without_a_download(run_without_object: Run) -> None:
    """A large value's row shows what is stored where, even when the object is gone."""
    shown = loaded(run_without_object, "large_one")
    assert shown == run_without_object.row("large_one")
    assert shown["type"] == "dict"
    assert shown["preview"].startswith("{'number': 1")


def test_list_shows_a_small_value(dag_runs: dict[str, Run]) -> None:
    """A small value's row shows the value."""
    assert loaded(dag_runs["contract_flow"], "small") == {"n": 1}


def test_clear_of_a_text_deletes_nothing(dag_runs: dict[str, Run]) -> None:
    """A row whose value is a text that spells another XCom's envelope does not take that XCom's object with it."""
    run = dag_runs["contract_flow"]
    envelope = run.row("outputs", "much")
    where = {"dag_id": run.dag_id, "run_id": run.run_id, "task_id": "fan_in"}
    text = json.dumps(envelope, separators=(",", ":"))
    XCom.set(key="_link_text", value=text, **where)  # of these keys any length stays in the row
    assert XCom.get_one(key="_link_text", **where) == text
    XCom.clear(**where)
    assert file_of(envelope).exists()


def test_clear_purges(dag_runs: dict[str, Run], database: Path) -> None:
    """``XCom.clear``, which Airflow calls before a task runs again, deletes the objects with the rows."""
    run = dag_runs["contract_flow"]
    where = {"dag_id": run.dag_id, "run_id": run.run_id, "task_id": "fan_in"}
    XCom.set(key="large", value="x" * 20_000, **where)
    (path,) = [file_of(row.value) for row in rows_of(database, run.dag_id) if row.key == "large"]
    assert path.exists()
    XCom.clear(**where)
    assert not path.exists()


@pytest.mark.skipif(not airflow_version.startswith("2.11"), reason="once is enough: its REST API is the same on 2.x")
def test_references_through_the_rest_api_are_those_of_the_database(web: WebServer) -> None:
    """By version 1 of the API on a real web server: the same rows with their runs; a wrong password is an error."""

    def references(source: Any) -> set[tuple[Any, ...]]:
        return {(r.coordinate, r.uri, r.stored_bytes, r.run_state, r.run_ended, r.run_date) for r in source.iterate()}

    engine = sa.create_engine(web.database)
    by_rest = references(RestReferences(RestApi(web.url, **web.login)))
    assert len(by_rest) > 10
    assert by_rest == references(DatabaseReferences(engine))
    engine.dispose()
    with pytest.raises(AccessDeniedError):
        references(RestReferences(RestApi(web.url, username=USER, password="wrong")))
