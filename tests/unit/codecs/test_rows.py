"""Named tuples, of classes that can be had and of others, and rows of databases, by themselves and in lists."""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
import re
import shutil
import sqlite3
import sys
import urllib.parse
from collections import namedtuple
from contextlib import closing
from typing import Any, NamedTuple

import asyncpg
import numpy as np
import ormsgpack
import psycopg2.extras
import pytest
import sqlalchemy

from tests.servers.postgres import Postgres
from tests.unit.codecs.known_classes import KnownClasses
from tests.unit.codecs.test_objects import round_trip
from tests.unit.codecs.test_tree import same
from xcargo.airflow.classes import AirflowClasses
from xcargo.codecs import Codec, Encoded, Registry
from xcargo.codecs.base import contiguous
from xcargo.errors import DecodeError, MissingDependencyError, UnsupportedTypeError
from xcargo.testing import CodecTests, round_trip_in_fresh_process


class Empty(NamedTuple):
    pass


class Pair(NamedTuple):
    a: Any
    b: Any


class Point(NamedTuple):
    x: int
    y: int = 0

    def length(self) -> int:
        return self.x + self.y


def made_here() -> list[Any]:
    """Rows of classes that nobody can import, as hooks of databases make them."""
    Row = namedtuple("Row", ["id", "class", "_x", "id"], rename=True)  # noqa: PYI024

    class Local(NamedTuple):
        value: Any

    return [Row(1, 2, 3, 4), Local((Row(1, 2, 3, 4), {2})), Local(None)]


@pytest.fixture
def registry() -> Registry:
    """Codecs with a class of this module on the allow-list, and no other."""
    return Registry(classes=KnownClasses(__name__), entry_points=False)


ROWS = [*made_here(), urllib.parse.urlparse("http://a/b?c"), shutil.disk_usage("/")]


def test_a_named_tuple_of_any_class_comes_back_with_its_name_and_fields() -> None:
    """From another process, which has nothing of the class and may import nothing."""
    registry = Registry(classes=KnownClasses(), entry_points=False)
    for row, back in zip(ROWS, round_trip_in_fresh_process(registry.codec("object"), ROWS), strict=True):
        assert (type(back).__name__, back._asdict()) == (type(row).__name__, row._asdict())
        for twin in (pickle.loads(pickle.dumps(back)), copy.deepcopy(back), round_trip([back], registry)[0]):
            assert twin == row
            assert type(twin) is type(back)


def test_an_allowed_class_is_that_class(registry: Registry) -> None:
    """With its methods."""
    back = round_trip([Point(1, 2)], registry)
    assert back[0].length() == 3


def test_a_class_that_may_not_be_rebuilt_is_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Once, with the setting that gives the class back."""
    registry = Registry(classes=AirflowClasses(), entry_points=False)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert round_trip([urllib.parse.urlsplit("http://a/b")], registry) == [("http", "a", "/b", "", "")]
    (line,) = [line for line in caplog.messages if "urllib.parse" in line and "SplitResult" in line]
    assert "ALLOWED_DESERIALIZATION_CLASSES='airflow.* urllib.parse.SplitResult'" in line


def test_a_class_that_has_other_fields_by_now_is_an_error(registry: Registry) -> None:
    payload = registry.tree.pack(["namedtuple", f"{__name__}:Point", {"x": 1}])
    with pytest.raises(DecodeError, match="has changed"):
        registry.decode("object", payload, {})


class Noted(Point):
    """It has a dictionary."""


def test_state_beside_the_fields_needs_the_class_itself() -> None:
    """An equal class has no place for it; without any it is as good."""
    registry = Registry(classes=KnownClasses(), entry_points=False)
    noted: Any = Noted(1)
    assert round_trip(noted, registry) == noted
    noted.note = "x"
    with pytest.raises(DecodeError, match="may not be rebuilt"):
        round_trip(noted, registry)

    class Local(Point):
        pass

    local: Any = Local(1)
    assert round_trip(local, registry) == local
    local.note = "x"
    with pytest.raises(UnsupportedTypeError, match="inside a function"):
        registry.encode(local)


def test_a_class_of_odd_fields_that_nobody_can_import_is_refused(registry: Registry) -> None:
    """When it is pushed: no class of named tuples has such a field."""
    Odd = type("Odd", (tuple,), {"_fields": ("count(*)",), "_make": None})
    with pytest.raises(UnsupportedTypeError, match="Odd cannot be imported"):
        registry.encode(Odd((1,)))


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("import os", {"a": 1}),
        ("Row", {"a b": 1}),
        ("Row", {"__class__": 1}),
        ("Row", {"_fields": 1}),
        ("Row", {"a=print()": 1}),
        ("lambda", {"a": 1}),
        ("Row", {1: 1}),
        ("Row", [1]),
        ("Row", None),
        ("a:b.lambda", {"a": 1}),
        ("Row", {f"f{n}": n for n in range(10_001)}),
    ],
    ids=lambda part: str(part)[:20],
)
def test_a_forged_named_tuple_is_a_decode_error(registry: Registry, name: str, state: Any) -> None:
    payload = registry.tree.pack(["namedtuple", name, state])
    with pytest.raises(DecodeError):
        registry.decode("object", payload, {})


def test_a_value_makes_a_bounded_number_of_classes(registry: Registry) -> None:
    """Each takes far more memory than its name; what a pull would refuse, the push does."""
    classes: list[Any] = [namedtuple(f"Row{n}", "a") for n in range(201)]  # noqa: PYI024
    rows = [cls(n) for n, cls in enumerate(classes)]
    assert round_trip(rows[1:] * 2, registry) == rows[1:] * 2
    with pytest.raises(UnsupportedTypeError, match="too many classes"):
        registry.encode(rows)
    bodies = [registry.tree.pack(["namedtuple", f"Row{n}", {"a": n}]) for n in range(201)]
    exts = [ormsgpack.Ext(0, ormsgpack.packb(["object", {}, body])) for body in bodies]
    with pytest.raises(DecodeError, match="too many classes"):
        registry.decode("msgpack", ormsgpack.packb(exts), {})


def database_rows() -> dict[str, list[Any]]:
    """Two rows of each library that is installed; their columns have names that no field of a class may have."""
    sqlite = sqlite3.connect(":memory:")
    sqlite.row_factory = sqlite3.Row
    select = """SELECT 1 AS id, 'a' AS "count(*)", NULL AS "x""y" UNION SELECT 2, x'00', 2.5"""
    engine = sqlalchemy.create_engine("sqlite://")
    with engine.connect() as connection:
        result = connection.execute(sqlalchemy.text(select)).fetchall()
        mappings = connection.execute(sqlalchemy.text("SELECT 1 AS id, 2 AS b UNION SELECT 3, 4")).mappings().fetchall()
    engine.dispose()
    rows = {
        "sqlite3": sqlite.execute(select).fetchall(),
        "sqlite3, one name twice": sqlite.execute("SELECT 1 AS a, 2 AS a UNION SELECT 3, 4").fetchall(),
        "sqlalchemy": list(result),
        "sqlalchemy mappings": list(mappings),
    }
    sqlite.close()
    return rows


DATABASE_ROWS = database_rows()


class TestRows(CodecTests):
    """Rows of each library, alone and in lists, and lists of named tuples."""

    VALUES = (
        DATABASE_ROWS["sqlalchemy"],
        *(DATABASE_ROWS[name][0] for name in ("sqlalchemy", "sqlalchemy mappings")),
        [Point(1, 2), Point(3)],
        [Point(1, (2, {3})), Point({1: "a"}, b"x")],  # type: ignore[arg-type]
        [Noted(1)],
    )

    @pytest.fixture
    def codec(self) -> Codec:
        return Registry(classes=KnownClasses(__name__), entry_points=False).codec("rows")


@pytest.mark.parametrize("name", DATABASE_ROWS)
def test_rows_of_a_database_know_their_columns(registry: Registry, name: str) -> None:
    """By name and in order, within any value."""
    check_rows(DATABASE_ROWS[name], registry)


def test_rows_of_drivers_of_postgresql_know_their_columns(registry: Registry, postgres: Postgres) -> None:
    """Likewise. psycopg2 makes no name for one that occurs before: such a row is the list that it equals."""
    select = """SELECT 1 AS id, 'a' AS "count(*)", NULL::numeric AS "x""y" UNION SELECT 2, 'b', 2.5 ORDER BY id"""
    url = postgres.url().replace("+psycopg2", "")
    with closing(psycopg2.connect(url, cursor_factory=psycopg2.extras.DictCursor)) as connection:
        cursor = connection.cursor()
        for query in (select, "SELECT 1 AS a, 2 AS a"):
            cursor.execute(query)
            rows = cursor.fetchall()
            if query is select:
                check_rows(rows, registry)
    back = round_trip({"x": rows}, registry)
    assert (back, type(back["x"][0])) == ({"x": [[1, 2]]}, list)

    async def fetch(query: str) -> Any:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetch(query)
        finally:
            await connection.close()

    check_rows(asyncio.run(fetch(select)), registry)
    with pytest.raises(UnsupportedTypeError, match=r"At value\['x'\]\[0\]: Rows .* two columns of one name") as caught:
        registry.encode({"x": asyncio.run(fetch("SELECT 1 AS a, 2 AS a"))})
    assert "(AS)" in str(caught.value)


def test_rows_of_pyodbc_know_their_columns(registry: Registry) -> None:
    """Made as their own pickles do, which needs no driver; pyodbc itself needs unixODBC."""
    pyodbc = pytest.importorskip("pyodbc", exc_type=ImportError)
    for names in (("id", "count(*)"), ("a", "a")):
        description = tuple((name, str, None, 10, 10, 0, True) for name in names)
        index = {name: position for position, name in enumerate(names)}
        check_rows([pyodbc.Row(description, index, *row) for row in ((1, "a"), (2, None))], registry)


def test_rows_of_pyspark_know_their_columns(registry: Registry) -> None:
    """Those without names are the tuples that they equal."""
    sql = pytest.importorskip("pyspark.sql")
    check_rows([sql.Row("id", "count(*)")(n, sql.Row(a=n)) for n in range(2)], registry)
    back = round_trip({"x": [sql.Row(1, 2)]}, registry)
    assert (back, type(back["x"][0])) == ({"x": [(1, 2)]}, tuple)


def check_rows(rows: list[Any], registry: Registry) -> None:
    """Assert that they come back in this process and in another one, of the same class and with their names."""
    back = round_trip({"a": [rows], "b": (rows[0],)}, registry)
    elsewhere = round_trip_in_fresh_process(registry.codec("rows"), [rows, rows[0]])
    twins = [*back["a"][0], *back["b"], *elsewhere[0], elsewhere[1]]
    for row, twin in zip([*rows, rows[0], *rows, rows[0]], twins, strict=True):
        assert type(twin) is type(row)
        assert (twin, list(twin)) == (row, list(row))
        assert columns(twin) == columns(row)


def columns(row: Any) -> list[str]:
    """The names in a row."""
    if hasattr(row, "cursor_description"):
        return [column[0] for column in row.cursor_description]
    return list(row.keys() if hasattr(row, "keys") else getattr(row, "_fields", None) or row.__fields__)


def test_rows_without_columns_come_back(registry: Registry) -> None:
    """As many as there were."""
    row = sqlalchemy.engine.result_tuple([])(())
    assert round_trip([row, [row, row]], registry) == [row, [row, row]]
    assert round_trip([row, row], registry) == [row, row]


def test_rows_with_different_columns_come_back_in_one_list(registry: Registry) -> None:
    rows = [DATABASE_ROWS["sqlite3"][0], DATABASE_ROWS["sqlite3, one name twice"][0]]
    back = round_trip(rows, registry)
    assert back == rows
    assert [row.keys() for row in back] == [row.keys() for row in rows]


def test_rows_of_bigquery_come_back() -> None:
    bigquery = pytest.importorskip("google.cloud.bigquery")
    rows = [bigquery.Row((n, {"a": (n,)}), {"id": 0, "b": 1}) for n in range(3)]
    back = round_trip([rows, rows[0]], Registry(entry_points=False))
    assert back == [rows, rows[0]]
    assert [row.id for row in back[0]] == [0, 1, 2]


MANY = 50_000


@pytest.mark.parametrize("nested", [False, True])
def test_many_rows_of_one_class_are_stored_by_column(registry: Registry, nested: bool) -> None:
    """Which takes less space than tuples do, and no longer."""
    rows = [Point(n, n % 7) for n in range(MANY)]
    encoded = registry.encode({"a": [1, {"rows": rows}]} if nested else rows)
    assert sum(map(len, encoded.parts)) < len(registry.tree.pack([tuple(row) for row in rows])) * 2 // 3
    back = registry.decode(encoded.codec, contiguous(encoded), encoded.params)
    back = back["a"][1]["rows"] if nested else back
    assert back == rows
    assert set(map(type, back)) == {Point}


@pytest.mark.parametrize(
    "value",
    [
        [Point(1), (2, 3), Point(4)],
        [Point(1), Pair(1, 2)],
        [*[Point(1)] * 4096, *[Pair(1, "x" * 2000)] * 4096],
        [DATABASE_ROWS["sqlalchemy"][0], DATABASE_ROWS["sqlalchemy"][0]._mapping],
        [Empty(), Empty()],
        {1: [Point(1), Point(2)], "b": bytearray(b"x"), "c": [Point(bytearray(b"y"))]},  # type: ignore[arg-type]
        [[Point(1, [Point(2)])] * 2] * 2,  # type: ignore[arg-type]
        {"a": {Point(1): [Point(2)]}, "b": [1, 2]},
        (Point(1), [Point(2)], {Point(3)}),
        [Point(np.arange(3), 1), Point(np.arange(20_000), 2)],  # type: ignore[arg-type]
    ],
    ids=range(10),
)
def test_lists_of_rows_of_all_kinds_come_back(registry: Registry, value: Any) -> None:
    """Of several classes, of none but one field, in values that take the exact way, with parts."""
    assert same(round_trip(value, registry), value)


def test_rows_in_rows_are_each_encoded_a_bounded_number_of_times(registry: Registry) -> None:
    """Packing them again at each level would double the time with each."""
    nested: Any = Point(1)
    for _ in range(40):
        nested = Point(nested)
    assert round_trip([nested], registry) == [nested]
    row: Any = 1
    make = sqlalchemy.engine.result_tuple(["a"])
    for _ in range(40):
        row = make([row])
    assert round_trip([row, 1], registry) == [row, 1]


def test_rows_with_a_list_that_holds_itself_are_an_error(registry: Registry) -> None:
    looped: list[Any] = [Point(1)]
    looped += [looped] * 10
    with pytest.raises(UnsupportedTypeError, match="refers to itself"):
        registry.encode(looped)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ([Point(1), Point(2, [object()])], "value[1].y[0]"),  # type: ignore[arg-type]
        ({"a": [Point(1), Point(object())]}, "value['a'][1].x"),  # type: ignore[arg-type]
        ([sqlalchemy.engine.result_tuple(["count(*)"])([object()])], "value[0]['count(*)']"),
        ([sqlalchemy.engine.result_tuple(["a", "a"])([1, object()])], "value[0].a"),
        (sqlalchemy.engine.result_tuple(["a"])([object()]), "value.a"),
    ],
)
def test_what_no_codec_takes_is_named_by_row_and_column(registry: Registry, value: Any, path: str) -> None:
    with pytest.raises(UnsupportedTypeError, match="object") as caught:
        registry.encode(value)
    assert f"At {path}: " in str(caught.value)


def test_a_library_that_is_not_here_is_named_with_the_version_that_wrote(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry(entry_points=False)
    encoded = registry.encode(DATABASE_ROWS["sqlalchemy"])
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with pytest.raises(MissingDependencyError, match=re.escape(sqlalchemy.__version__)) as caught:
        registry.decode(encoded.codec, contiguous(encoded), encoded.params)
    assert "pip install sqlalchemy" in str(caught.value)


def test_a_codec_for_a_class_of_another_package_has_its_rows_in_lists_too(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it has single ones."""
    assert registry.encode([Point(1)]).codec == "rows"
    monkeypatch.setattr(registry, "_plugins", {"points": (Points(), "acme")})
    assert round_trip([Point(1), Point(2)], registry) == [Point(-1), Point(-2)]


class Points:
    """A codec that turns points round."""

    id = "points"

    def accepts(self, value: object) -> bool:
        return type(value) is Point

    def encode(self, value: Any) -> Encoded:
        return Encoded(self.id, (str(-value.x).encode(),))

    def decode(self, payload: Any, params: Any) -> Point:
        return Point(int(bytes(payload)))


@pytest.mark.parametrize(
    "body",
    [
        ["rows", "sqlite3.Row", {"a": [1], "b": [1, 2]}],
        ["rows", "sqlite3.Row", {"a": 5}],
        ["rows", "sqlite3.Row", {"a": "text"}],
        ["rows", "sqlite3.Row", {}],
        ["rows", "sqlite3.Row", {"a\0b": [1]}],
        ["rows", "sqlite3.Row", {1: [1]}],
        ["rows", "sqlite3.Row", [["a"]]],
        ["rows", "sqlite3.Row", {f"c{n}": [1] for n in range(40_000)}],
        ["row", "sqlite3.Row", 7],
        ["rows", "Row", {"a b": [1]}],
        ["rows", "Row", [["a", [1]], ["a", [2]]]],
        ["rows", 7, {"a": [1]}],
        ["column", "Row", {"a": [1]}],
        ["rows", "google.cloud.bigquery.table.Row", [["a", [1]], ["a", [2]]]],
        ["rows", "asyncpg.protocol.record.Record", [["a", [1]], ["a", [2]]]],
        ["rows", "Row"],
        7,
    ],
    ids=lambda body: str(body)[:60],
)
def test_forged_rows_are_a_decode_error(registry: Registry, body: Any) -> None:
    with pytest.raises(DecodeError):
        registry.decode("rows", registry.tree.pack(body), {})


def test_columns_that_share_a_part_claim_no_more_than_the_payload_holds(registry: Registry) -> None:
    """A thousand columns that are one."""
    inner = registry.encode({"rows": [Point(n) for n in range(100_000)]})
    params = dict(inner.params)
    payload = bytes(contiguous(inner))
    head = payload[: len(payload) - params["tree_bytes"] - params["table_bytes"]]
    columns = b"".join(registry.tree.pack(f"f{n}") + b"\xd4\x30\x00" for n in range(1000))
    tree = b"\x93\xa4rows\xa3Row\xde" + (1000).to_bytes(2, "big") + columns
    table = payload[len(payload) - params["table_bytes"] :]
    params["tree_bytes"] = len(tree)
    with pytest.raises(DecodeError, match="fewer values than it claims"):
        registry.decode("rows", head + tree + table, params)
