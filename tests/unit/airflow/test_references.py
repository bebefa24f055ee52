"""Live references out of real metadata databases, which Airflow's own commands made and change."""

from __future__ import annotations

import json
import tracemalloc
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from tests.metadata import NOON, Metadata
from xcargo.airflow.references.database import DatabaseReferences
from xcargo.errors import ReferencesUnavailableError
from xcargo.lifecycle.references import Reference, XComFilter
from xcargo.model.coordinate import Coordinate, State


def envelope(name: str, **more: Any) -> dict[str, Any]:
    """A row that refers to an object."""
    return {
        "__id__": "xcargo/1",
        "type": "list",
        "size_bytes": 5000,
        "stored_bytes": 300,
        "uri": f"s3://bucket/xcom/{name}",
        "codec": "msgpack",
        "checksum": "blake3:00",
        "created_at": "2026-01-01T12:00:00.344+00:00",
    } | more


def references(metadata: Metadata, where: XComFilter = XComFilter(), **options: Any) -> list[Reference]:
    return list(DatabaseReferences(metadata.engine, **options).iterate(where))


def test_every_envelope_with_an_object_is_a_reference(metadata: Metadata) -> None:
    """Plain values, inline envelopes and texts are none; the coordinate, sizes and the run come with each."""
    metadata.push(envelope("one"), key="big")
    metadata.push(envelope("two"), task_id="mapped", map_index=3, run_id="other", state="failed")
    metadata.push({"a": 1}, key="small")
    metadata.push("s3://bucket/xcom/one", key="text")
    metadata.push({k: v for k, v in envelope("x").items() if k not in ("uri", "checksum")} | {"data": "AA=="}, key="i")
    metadata.push({"nested": envelope("not one")}, key="nested")
    metadata.push(None, key="none")
    found = {r.coordinate.task_id: r for r in references(metadata)}
    assert {r.uri for r in found.values()} == {"s3://bucket/xcom/one", "s3://bucket/xcom/two"}
    mapped = found["mapped"]
    assert (mapped.coordinate.run_id, mapped.coordinate.map_index, mapped.run_state) == ("other", 3, "failed")
    assert (mapped.size_bytes, mapped.stored_bytes, mapped.source) == (5000, 300, "xcom")
    assert (mapped.run_ended, mapped.run_date) == (NOON, NOON)
    assert mapped.created_at == NOON + timedelta(milliseconds=344)


def test_pages_miss_and_repeat_nothing(metadata: Metadata) -> None:
    """Every page size gives the same references, whose keys sort in ways of their own."""
    where = [
        {"dag_id": f"d{n % 3}", "run_id": f"r{n % 5}", "task_id": f"t{n % 2}", "map_index": n % 7 - 1, "key": key}
        for n, key in enumerate(["a", "B", "ä", "_", "%", "z'z", 'q"q', "a b"] * 20)
    ]
    metadata.push_many((envelope(f"{n}"), place) for n, place in enumerate(where))
    expected = sorted(r.uri for r in references(metadata))
    assert len(expected) == len({tuple(sorted(place.items())) for place in where})
    for page_rows in (1, 7, len(expected)):
        assert sorted(r.uri for r in references(metadata, page_rows=page_rows)) == expected


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (XComFilter(dag_id="a_b"), {"1"}),
        (XComFilter(dag_id="a*"), {"1", "2", "3"}),
        (XComFilter(dag_id="A*"), set()),
        (XComFilter(dag_id="a_*", run_id="r"), {"1"}),
        (XComFilter(key="100%*"), {"3"}),
        (XComFilter(task_id="back\\slash"), {"2"}),
        (XComFilter(map_index=4), {"3"}),
    ],
)
def test_filters_mean_what_they_say(metadata: Metadata, where: XComFilter, expected: set[str]) -> None:
    """A star stands for anything; every other character, also those that LIKE knows, for itself."""
    metadata.push(envelope("1"), dag_id="a_b", run_id="r")
    metadata.push(envelope("2"), dag_id="axb", run_id="r", task_id="back\\slash")
    metadata.push(envelope("3"), dag_id="a_", run_id="s", key="100% sure", map_index=4)
    metadata.push(envelope("4"), dag_id="other", key="100 sure")
    assert {r.uri.rpartition("/")[2] for r in references(metadata, where)} == expected


def test_archives_of_db_clean_are_read_after_the_tables_of_airflow(metadata: Metadata) -> None:
    """Rows that ``airflow db clean`` moved still refer to their objects, as long as the archive is there."""
    month_ago, day_ago = (NOON - timedelta(days=days) for days in (30, 1))
    metadata.push(envelope("old"), run_id="old", at=month_ago)
    metadata.push(envelope("new"), run_id="new", at=NOON)
    metadata.state(json.dumps(envelope("state")), expires_at=month_ago)
    tables = ("--tables", "xcom,task_state_store")
    metadata.airflow("db", "clean", "--clean-before-timestamp", day_ago.isoformat(), *tables, "--yes")
    found = {r.uri.rpartition("/")[2]: r for r in references(metadata)}
    assert {name: r.archived for name, r in found.items()} == {"new": False, "old": True, "state": True}
    assert next(iter(found)) == "new"
    assert (found["old"].coordinate.run_id, found["old"].run_date) == ("old", NOON)
    assert found["state"].coordinate.state == State()
    with metadata.engine.begin() as connection:
        sa.Table(found["old"].source, sa.MetaData()).drop(connection)
    assert {r.uri.rpartition("/")[2] for r in references(metadata)} == {"new", "state"}


def test_rows_of_the_state_store_refer_to_objects_too(metadata: Metadata) -> None:
    """Of a task and of an asset, as their backend wrote them; what is no envelope refers to nothing."""
    metadata.push(envelope("xcom"))
    metadata.state(json.dumps(envelope("task")), key="cursor", map_index=2)
    metadata.state(json.dumps(envelope("asset")), asset="orders", key="cursor")
    metadata.state('{"plain": 1}', key="plain")
    metadata.state("s3://bucket/common-io/a_dag/a_run/a_task/-1/old", key="old")
    found = {r.uri.rpartition("/")[2]: r for r in references(metadata, page_rows=1)}
    assert set(found) == {"xcom", "task", "asset"}
    assert found["task"].coordinate == Coordinate("a_dag", "a_run", "a_task", "cursor", 2, state=State())
    assert (found["task"].run_state, found["task"].run_ended) == ("success", NOON)
    assert found["asset"].coordinate == Coordinate("", "", "", "cursor", state=State(asset="orders"))
    assert {r.uri.rpartition("/")[2] for r in references(metadata, XComFilter(dag_id="a_dag"))} == {"xcom", "task"}
    values = {row.coordinate.key: row.value for row in DatabaseReferences(metadata.engine).rows(XComFilter(key="*l*"))}
    assert values["plain"] == {"plain": 1}
    assert values["old"].startswith("s3://")


def test_runs_are_told_with_and_without_xcoms(metadata: Metadata) -> None:
    """Every run of a Dag, with its state, its end and the date that prior dates go by."""
    metadata.run("a_dag", "idle", state="running", date=NOON + timedelta(days=1))
    metadata.push(envelope("x"))
    found = {
        run.run_id: run for run in DatabaseReferences(metadata.engine, page_rows=1).runs(XComFilter(dag_id="a_dag"))
    }
    assert {name: (run.state, run.ended) for name, run in found.items()} == {
        "idle": ("running", None),
        "a_run": ("success", NOON),
    }
    assert found["idle"].date == NOON + timedelta(days=1)


def test_runs_that_do_not_match_are_not_read(metadata: Metadata) -> None:
    """A deployment may have millions of them."""
    for dag_id, run_id in [*(("b_dag", f"run_{n}") for n in range(20)), ("A_dag", "run_1"), ("a_dag", "run_1")]:
        metadata.run(dag_id, run_id)
    queries: list[str] = []
    sa.event.listen(metadata.engine, "before_cursor_execute", lambda *event: queries.append(event[2]))
    source = DatabaseReferences(metadata.engine, page_rows=1)
    for where in (XComFilter("a_dag"), XComFilter("a*", "run_1")):
        queries.clear()
        assert [(run.dag_id, run.run_id) for run in source.runs(where)] == [("a_dag", "run_1")]
        assert sum("FROM dag_run" in query for query in queries) <= 3


def test_what_a_newer_version_wrote_is_a_reference_or_a_refusal(metadata: Metadata) -> None:
    """Any envelope that names an object refers to it; one of a newer version that names none stops everything."""
    metadata.push(envelope("newer", __id__="xcargo/9"))
    metadata.push({"__id__": "xcargo/1", "type": "dict"}, key="made_up")
    metadata.push({"__id__": "xcargo/1", "uri": ["s3://bucket/xcom/x"]}, key="made_up_too")
    assert [r.uri for r in references(metadata)] == ["s3://bucket/xcom/newer"]
    metadata.push({"__id__": "xcargo/9", "places": ["s3://bucket/x"]}, key="strange")
    with pytest.raises(ReferencesUnavailableError, match="xcargo/9"):
        references(metadata)


def test_a_database_without_the_tables_is_refused(tmp_path: Any) -> None:
    """An empty list would mean that nothing is in use."""
    engine = sa.create_engine(f"sqlite:///{tmp_path}/empty.db")
    with pytest.raises(ReferencesUnavailableError, match="no table of XComs"):
        list(DatabaseReferences(engine).iterate())
    engine.dispose()


def test_a_database_that_goes_away_is_refused(postgres_metadata: Metadata, postgres: Any) -> None:
    """The iteration ends with an error, never early."""
    postgres_metadata.push_many((envelope(f"{n}"), {"key": f"k{n}"}) for n in range(10))
    found = DatabaseReferences(postgres_metadata.engine, page_rows=3).iterate()
    next(found)
    name = postgres_metadata.url.rpartition("/")[2]
    postgres.sql(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
    postgres.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    with pytest.raises(ReferencesUnavailableError, match="could not be read"):
        list(found)


def test_a_right_that_is_missing_is_refused(postgres_metadata: Metadata, postgres: Any) -> None:
    """An archive that may not be read is not passed over."""
    name = postgres_metadata.url.rpartition("/")[2]
    postgres_metadata.push(envelope("x"))
    postgres.sql("CREATE ROLE reader LOGIN PASSWORD 'secret'")
    postgres.sql(
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader",
        "CREATE TABLE _airflow_deleted__xcom__2026 AS SELECT * FROM xcom",
        database=name,
    )
    url = sa.make_url(postgres_metadata.url).set(username="reader", password="secret")
    engine = sa.create_engine(url)
    found = DatabaseReferences(engine).iterate()
    assert next(found).uri == "s3://bucket/xcom/x"
    with pytest.raises(ReferencesUnavailableError, match="permission denied"):
        next(found)
    engine.dispose()


def test_memory_holds_a_page(metadata: Metadata) -> None:
    """A thousand rows take no more memory than a page of them."""
    metadata.push_many((envelope(f"{n}", preview="x" * 5000), {"key": f"k{n}"}) for n in range(1000))
    source = DatabaseReferences(metadata.engine, page_rows=50)
    next(iter(source.iterate()))
    tracemalloc.start()
    assert sum(1 for _ in source.iterate()) == 1000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_500_000
