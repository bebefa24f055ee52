"""`client.sql` and `xcargo sql` over a real metadata database and real objects."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from tests.metadata import Metadata
from tests.unit.cli.kit import Call
from tests.unit.conftest import make_pipeline
from xcargo.airflow.client import sql
from xcargo.airflow.client.connect import Client
from xcargo.airflow.client.values import StoredValue
from xcargo.airflow.references.database import DatabaseReferences
from xcargo.errors import ConfigurationError, ObjectNotFoundError, UnsupportedTypeError
from xcargo.lifecycle.references import XComRow
from xcargo.model.coordinate import Coordinate
from xcargo.pipeline.pipeline import Pipeline
from xcargo.stores import local

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
    push([{"a": 1}], "drift", DAYS[0])
    push([{"a": "x"}], "drift", DAYS[1])
    push({"accuracy": 0.5}, "metrics", DAYS[0])
    push({"accuracy": 0.75}, "metrics", DAYS[1])
    push(pd.DataFrame([[1, 2, 3]], columns=["run_id", "a", "A"]), "names", DAYS[0])
    push(pd.DataFrame([[4]], columns=["A"]), "names", DAYS[1])
    push(pd.DataFrame({'x"; --': [1]}), "ho\"stile'; --", DAYS[0])
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
    assert rows('SELECT run_date, accuracy FROM "sales.eu.metrics" ORDER BY 1', since=datetime(2026, 1, 2)) == [
        (datetime(2026, 1, 2, tzinfo=timezone.utc), 0.75)
    ]
    assert rows('WITH Last AS (FROM "sales.eu".mapped) SELECT max(price) FROM LAST') == [(1,)]
    assert rows('SELECT year("when"), year(run_date) FROM "sales.eu.pandas"') == [(2026, 2026)]


def test_a_pull_joins_no_runs(client: Client) -> None:
    """A pattern may match one run; of several it is an error, for lazy too."""
    assert client.pull("sales.eu", "polars", run_id=f"{DAYS[0]}*")["price"].to_list() == [1, 10]
    assert client.pull("sales.eu", "metrics") == {"accuracy": 0.75}
    for read in (client.pull, client.lazy):
        with pytest.raises(ValueError, match="2 runs match"):
            read("sales.eu", "mapped", run_id="*")
    with pytest.raises(ValueError, match="ISO 8601"):
        client.sql("SELECT 1", since="yesterday")


def test_names_do_not_collide(client: Client) -> None:
    """Columns of the task that are called as ours, or differ in case only; ids without quotes, and with quotes."""
    names = client.sql('SELECT * FROM "sales.eu.names" ORDER BY xcargo_run_id')
    assert names.columns == ["A", "run_id", "A_1", "xcargo_run_id", "run_date", "map_index"]
    assert [row[:4] for row in names.fetchall()] == [(2, 1, 3, DAYS[0]), (4, None, None, DAYS[1])]
    assert client.sql("SELECT polars.city, 'ü' FROM sales.eu.polars WHERE price = 2").fetchall() == [("Oslo", "ü")]
    assert client.sql("FROM sales.eu.mapped a JOIN sales.eu.polars b ON a.run_id = b.run_id").fetchall()
    hostile = client.sql("""SELECT * FROM "sales.eu.ho""stile'; --" WHERE "x""; --" = 1""").fetchall()
    assert hostile[0][:2] == (1, DAYS[0])


def test_records_need_not_have_the_same_fields(client: Client) -> None:
    """A field that only later records have is a column, too; an empty list of one run adds no rows."""
    rows = client.sql('SELECT city, late, run_id FROM "sales.eu.uneven" ORDER BY city').fetchall()
    assert rows == [("Oslo", None, DAYS[0]), ("Rome", 2, DAYS[0])]


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("COPY (SELECT 1) TO '/tmp/out.csv'", ConfigurationError("not one SELECT")),
        ("SELECT 1; SELECT 2", ConfigurationError("not one SELECT: it has 2 statements")),
        ("ATTACH '/tmp/out.db'", ConfigurationError("not one SELECT")),
        ("SELECT * FROM glob('/*')", duckdb.Error("file system operations are disabled")),
        ("FROM query('INSTALL httpfs')", duckdb.Error("SELECT")),
        ("SELECT count(*) FROM (SELECT hash(i) h FROM range(50000000) t(i) ORDER BY h)", duckdb.Error("Out of Memory")),
        ('SELECT * FROM "sales.eu.drift"', UnsupportedTypeError("Field a has incompatible types")),
        ("DESCRIBE sales.drift", Exception("table|task")),
        ("SELECT * FROM read_csv('/etc/passwd')", duckdb.Error("file system operations are disabled")),
        ("SELECT * FROM '/etc/passwd'", ObjectNotFoundError("no value of a task")),
        ('SELECT * FROM "sales.eu.nothing"', ObjectNotFoundError("no value of a task 'sales.eu.nothing'")),
        ('SELECT * FROM "sales.eu.text"', UnsupportedTypeError("is a str, not a table")),
        ('SELECT * FROM "sales.eu.empty"', UnsupportedTypeError("so the columns are not known")),
        ('SELECT * FROM "sales.eu.numbers"', UnsupportedTypeError("make no table")),
        ('SELECT * FROM "sales.eu.huge"', UnsupportedTypeError("make no table")),
        ("SELECT * FROM DAYS", ObjectNotFoundError("no value of a task")),
        ('FROM "sales.eu.drift" a JOIN "sales.EU.drift" b USING (a)', ConfigurationError("only upper and lower case")),
    ],
)
@pytest.mark.parametrize("metadata", ["sqlite"], indirect=True)  # a database gives rows, whatever the query
def test_what_is_no_query_over_tables_is_refused(client: Client, query: str, error: Exception) -> None:
    """Nothing is written, no file and no variable is read, and the message says why."""
    with pytest.raises(type(error), match=str(error).rstrip(".")):
        client.sql(query, memory_mib=64).fetchall()


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


def test_a_value_that_cannot_be_read_is_named(metadata: Metadata, url: str, here: Callable[..., Call]) -> None:
    """By the command, as one error without a traceback: whether its object is gone, or damaged behind its beginning."""
    pipeline = make_pipeline(url, compression="none")
    for task_id in ("gone", "damaged"):
        at = Coordinate("sales.eu", DAYS[0], task_id, "return_value")
        row: Any = pipeline.push(pa.table({"n": np.arange(3_000_000)}), at)
        metadata.push(row, **dataclasses.asdict(at))
        file = Path(row["uri"].removeprefix("file://"))
        if task_id == "gone":
            file.unlink()
        else:
            with file.open("r+b") as stored:
                stored.seek(file.stat().st_size // 2)
                stored.write(b"damage")
    call = here(metadata, AIRFLOW__XCARGO__PATH=url)
    for task_id, why in (("gone", "The object of this value is not there"), ("damaged", "checksum")):
        done = call("sql", f'SELECT sum(n) FROM "sales.eu.{task_id}"')
        assert (done.code, done.out) == (4, "")
        assert why in done.err
        assert f"dag 'sales.eu', run '{DAYS[0]}', task '{task_id}'" in done.err
        assert "Traceback" not in done.err
        assert "DuckDB" not in done.err


def rows_of(query: str, values: list[StoredValue]) -> Any:
    """The result over these values, whatever their task."""
    return sql.query(query, lambda *_: values, memory_mib=256)


def listed(pipeline: Pipeline, value: Any, run_id: str, map_index: int = -1) -> StoredValue:
    """A value that was pushed, as a client lists it."""
    at = Coordinate("d", run_id, "t", "return_value", map_index)
    return StoredValue.of(XComRow(at, pipeline.push(value, at), "rest"), pipeline)


def test_a_pandas_frame_is_what_its_columns_are(tmp_path: Path) -> None:
    """Types, categories, zones, missing values, the index; what Arrow has no type for is left out."""
    pipeline = make_pipeline(tmp_path.as_uri(), threshold_bytes=100)
    frame = pd.DataFrame(
        {
            "number": [1.5, float("nan")],
            "half": np.array([1, 2], dtype="float16"),
            "kind": pd.Categorical(["a", None]),
            "code": pd.Categorical([7, 8]),
            "at": pd.to_datetime(["2026-01-01"] * 2).tz_localize("Europe/Berlin"),
            "whole": pd.array([1, None], dtype="Int64"),
            "day": [date(2026, 1, 1)] * 2,
            "mixed": [1, "a"],
            "sparse": pd.arrays.SparseArray([0, 1]),
        },
        index=pd.MultiIndex.from_tuples([("x", 1), ("y", 2)], names=["letter", None]),
    )
    found = rows_of('SELECT * EXCLUDE (run_id, run_date) FROM "d.t"', [listed(pipeline, frame, "r")])
    berlin = datetime(2025, 12, 31, 23, tzinfo=timezone.utc)
    assert found.columns == [*frame.columns[:-2], "letter", "__index_level_1__", "map_index"]
    assert found.fetchall() == [
        (1.5, 1.0, "a", 7, berlin, 1, date(2026, 1, 1), "x", 1, -1),
        (None, 2.0, None, 8, berlin, None, date(2026, 1, 1), "y", 2, -1),
    ]


@pytest.mark.parametrize("library", ["pandas", "pyarrow"])
def test_a_query_fetches_the_columns_and_rows_that_it_needs(
    tmp_path: Path, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two frames of 72 MB in one batch: a column, the rows up to a limit, what is beside rows that match."""
    pipeline = make_pipeline(tmp_path.as_uri(), compression="none")
    numbers = np.arange(3_000_000)
    frame: Any = pd.DataFrame({"a": numbers, "b": numbers * 0.5, "c": numbers})
    frame = frame if library == "pandas" else pa.Table.from_pandas(frame)
    values = [listed(pipeline, frame, run_id) for run_id in DAYS]
    fetched: list[int] = []
    for name in ("get", "get_into"):

        def counted(*args: Any, read: Any = getattr(local.LocalStore, name), **options: Any) -> Any:
            data = read(*args, **options)
            fetched.append(data if isinstance(data, int) else len(data))
            return data

        monkeypatch.setattr(local.LocalStore, name, counted)
    for query, expected, most in (
        ('SELECT sum(a) FROM "d.t"', 2 * int(numbers.sum()), 80e6),
        ('SELECT c FROM "d.t" LIMIT 1', 0, 40e6),
        (f"SELECT sum(b + c) FROM \"d.t\" WHERE a = 77 AND run_id = '{DAYS[0]}'", 115.5, 70e6),
    ):
        fetched.clear()
        assert rows_of(query, values).fetchall() == [(expected,)]
        assert sum(fetched) < most, query


def test_an_error_of_a_relation_begins_with_the_value(tmp_path: Path) -> None:
    """Where its object is deleted after the query, or a number has no room in the column's type; no value is shown."""
    pipeline = make_pipeline(tmp_path.as_uri())
    values = [listed(pipeline, pa.table({"n": np.arange(3_000_000)}), DAYS[0])]
    found = rows_of('SELECT sum(n) FROM "d.t"', values)
    (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
    file.unlink()
    lines = error_of(found).splitlines()
    assert "is not there [file:" in lines[0]
    assert f"(dag 'd', run '{DAYS[0]}', task 't', key 'return_value')" in lines[0]
    assert len(lines) < 8  # not the whole traceback
    values = [listed(pipeline, pa.table({"n": [number]}), day) for number, day in zip((2**62 + 1, 0.5), DAYS)]
    unfit = error_of(rows_of('SELECT n FROM "d.t"', values))
    assert "Column 'n' holds a value that does not fit into double" in unfit.splitlines()[0]
    assert str(2**62 + 1) not in unfit


def error_of(relation: Any) -> str:
    try:
        relation.fetchall()
    except duckdb.Error as error:
        return str(error)
    raise AssertionError("no error")


def test_thousands_of_runs_are_one_table(tmp_path: Path) -> None:
    """Of runs that cannot meet the condition no value is read again."""
    pipeline = make_pipeline(tmp_path.as_uri())
    values = [listed(pipeline, {"n": number}, f"run {number}", number) for number in range(3000)]
    query = "SELECT map_index, n FROM \"d.t\" WHERE run_id = 'run 2999' AND n > 1"
    assert rows_of(query, values).fetchall() == [(2999, 2999)]


def test_columns_of_one_name_are_all_printed(metadata: Metadata, url: str, here: Callable[..., Call]) -> None:
    """Also as keys of an object, of which the last would take the place of the others."""
    query = 'SELECT price, price + 1 AS price_1, price * 10 AS price FROM "sales.eu.polars" ORDER BY 1 LIMIT 1'
    done = here(metadata, AIRFLOW__XCARGO__PATH=url)("sql", query, "--json")
    assert json.loads(done.out) == {"price": 1, "price_1": 2, "price_2": 10}


def test_columns_of_one_name_beside_views_are_queried(tmp_path: Path) -> None:
    """Each is the one of its number."""
    views = pa.array(["x", "y"]).cast(pa.string_view())
    table = pa.Table.from_arrays([pa.array([1, 2]), views, pa.array([3, 4])], names=["a", "text", "a"])
    value = listed(make_pipeline(tmp_path.as_uri(), threshold_bytes=0), table, "run")
    assert rows_of('SELECT a, text, a_1 FROM "d.t"', [value]).fetchall() == [(1, "x", 3), (2, "y", 4)]
