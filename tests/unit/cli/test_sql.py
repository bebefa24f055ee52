"""`client.sql` and `xcargo sql` over a real metadata database and real objects."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from tests.metadata import Metadata
from tests.unit.cli.kit import Call
from tests.unit.conftest import make_pipeline
from xcargo.airflow.client.connect import Client
from xcargo.airflow.references.database import DatabaseReferences
from xcargo.errors import ConfigurationError, ObjectNotFoundError, UnsupportedTypeError
from xcargo.model.coordinate import Coordinate

DAYS = ("2026-01-01", "2026-01-02")


@pytest.fixture
def url(metadata: Metadata, tmp_path: Path) -> str:
    """Where the tables are that tasks of a deployment returned."""
    url = (tmp_path / "objects").as_uri()
    pipeline = make_pipeline(url, threshold_bytes=100)

    def push(value: Any, task_id: str, day: str, map_index: int = -1) -> None:
        at = Coordinate("sales.eu", day, task_id, "return_value", map_index)
        date = datetime.fromisoformat(day).replace(tzinfo=timezone.utc)
        metadata.push(pipeline.push(value, at), **dataclasses.asdict(at), date=date)

    for number, day in enumerate(DAYS):
        push(pl.DataFrame({"city": ["Oslo", "Rome"], "price": [1 + number, 10]}), "polars", day)
        push([{"city": "Oslo", "name": "north"}, {"city": "Rome", "name": "south"}], "group.records", day)
        for map_index in range(2):
            push(pa.table({"price": [number, map_index]}), "mapped", day, map_index)
    push(pd.DataFrame({"city": ["Oslo"], "when": pd.to_datetime(["2026-01-01"])}), "pandas", DAYS[0])
    push("a text", "text", DAYS[0])
    push([{"city": "Oslo"}, {"city": "Rome", "late": 2}], "uneven", DAYS[0])
    push([], "uneven", DAYS[1])
    push([], "empty", DAYS[0])
    push([{1: 2}], "numbers", DAYS[0])
    push([{"size": 2**70}], "huge", DAYS[0])
    return url


@pytest.fixture
def client(metadata: Metadata, url: str) -> Client:
    return Client(DatabaseReferences(metadata.engine), make_pipeline(url))


def test_a_query_reads_what_tasks_returned(client: Client) -> None:
    """All runs of a task are one table: of polars, pandas, Arrow, and of records."""

    def rows(query: str, **options: Any) -> list[Any]:
        return list(client.sql(query, **options).fetchall())

    cities = 'SELECT city, sum(price) FROM "sales.eu.polars" GROUP BY city ORDER BY city'
    assert rows(cities) == [("Oslo", 3), ("Rome", 20)]
    assert rows(cities, run_id="latest") == [("Oslo", 2), ("Rome", 10)]
    assert rows(cities, since=datetime(2026, 1, 2, tzinfo=timezone.utc)) == [("Oslo", 2), ("Rome", 10)]
    assert rows('SELECT run_id, map_index, sum(price) FROM "sales.eu.mapped" GROUP BY ALL ORDER BY ALL') == [
        (DAYS[0], 0, 0),
        (DAYS[0], 1, 1),
        (DAYS[1], 0, 1),
        (DAYS[1], 1, 2),
    ]
    joined = 'SELECT name, price FROM "sales.eu.polars" JOIN "sales.eu.group.records" USING (city, run_id) ORDER BY ALL'
    assert rows(joined, run_id=DAYS[0]) == [("north", 1), ("south", 10)]
    assert rows('WITH Last AS (FROM "sales.eu".mapped) SELECT max(price) FROM LAST') == [(1,)]
    assert rows('SELECT year("when"), year(run_date) FROM "sales.eu.pandas"') == [(2026, 2026)]


def test_records_need_not_have_the_same_fields(client: Client) -> None:
    """A field that only later records have is a column, too; an empty list of one run adds no rows."""
    rows = client.sql('SELECT city, late, run_id FROM "sales.eu.uneven" ORDER BY city').fetchall()
    assert rows == [("Oslo", None, DAYS[0]), ("Rome", 2, DAYS[0])]


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("COPY (SELECT 1) TO '/tmp/out.csv'", ConfigurationError("not one SELECT")),
        ("SELECT 1; SELECT 2", ConfigurationError("not one SELECT")),
        ("SELECT * FROM read_csv('/etc/passwd')", duckdb.Error("file system operations are disabled")),
        ("SELECT * FROM '/etc/passwd'", ObjectNotFoundError("no value of a task")),
        ('SELECT * FROM "sales.eu.nothing"', ObjectNotFoundError("no value of a task 'sales.eu.nothing'")),
        ('SELECT * FROM "sales.eu.text"', UnsupportedTypeError("is a str, not a table")),
        ('SELECT * FROM "sales.eu.empty"', UnsupportedTypeError("returned is empty, so its columns are not known")),
        ('SELECT * FROM "sales.eu.numbers"', UnsupportedTypeError("make no table")),
        ('SELECT * FROM "sales.eu.huge"', UnsupportedTypeError("make no table")),
        ("SELECT * FROM DAYS", ObjectNotFoundError("no value of a task")),
    ],
)
def test_what_is_no_query_over_tables_is_refused(client: Client, query: str, error: Exception) -> None:
    """Nothing is written, no file and no variable is read, and the message says why."""
    with pytest.raises(type(error), match=str(error).rstrip(".")):
        client.sql(query).fetchall()


def test_the_command_prints_rows(metadata: Metadata, url: str, here: Callable[..., Call]) -> None:
    """As a table or as lines of JSON, so many as asked for; a query that DuckDB refuses is one message."""
    call = here(metadata, AIRFLOW__XCARGO__PATH=url)
    query = 'SELECT city, price FROM "sales.eu.polars" ORDER BY price'
    done = call("sql", query, "--json", "--limit", "3")
    assert [json.loads(line) for line in done.out.splitlines()][-1] == {"city": "Rome", "price": 10}
    assert "There are more" in done.err
    wrong = call("sql", "SELEKT 1")
    assert wrong.code == 4
    assert "The query is not one SELECT: syntax error" in wrong.err
