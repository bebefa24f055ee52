"""Pages of tables: the rows that were asked for, equal to what Arrow itself reads, and little else read."""

from __future__ import annotations

import csv
import datetime as dt
import io
import re
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.explorer.kit import REGISTRY, bytes_payload, preview, stored
from xcargo.codecs.base import contiguous
from xcargo.errors import DecodeError, UnsupportedTypeError, XCargoError
from xcargo.explorer.limits import TooLargeError
from xcargo.explorer.table import Table

N = 1000


def gaps(values: list[Any]) -> list[Any]:
    """The same with every seventh missing."""
    return [None if n % 7 == 3 else value for n, value in enumerate(values)]


EVERY_TYPE = pa.table(
    {
        "int": gaps(list(range(N))),
        "bool": gaps([n % 3 == 0 for n in range(N)]),
        "text": gaps(["é" * (n % 5) for n in range(N)]),
        "large": pa.array([str(n) for n in range(N)], pa.large_string()),
        "float": pa.array(np.arange(N) / 3, pa.float32()),
        "list": gaps([list(range(n % 4)) for n in range(N)]),
        "struct": gaps([{"a": n, "b": [str(n)]} for n in range(N)]),
        "map": pa.array([[("k", n)] * (n % 3) for n in range(N)], pa.map_(pa.string(), pa.int32())),
        "decimal": pa.array([Decimal(n) / 10 for n in range(N)], pa.decimal128(10, 2)),
        "time": gaps([dt.datetime(2026, 1, 1) + dt.timedelta(hours=n) for n in range(N)]),
        "pair": pa.array([[n, n + 1] for n in range(N)], pa.list_(pa.int16(), 2)),
        "null": pa.nulls(N),
        "word": pa.array([f"w{n % 5}" for n in range(N)]).dictionary_encode(),
        "bin": pa.array([bytes([n % 256]) * 3 for n in range(N)]),
        "half": pa.array(np.arange(N) % 100, pa.float16()),
        "fixed": pa.array([bytes([n % 256]) * 3 for n in range(N)], pa.binary(3)),
        "lists": pa.array([[[n], []] for n in range(N)], pa.large_list(pa.list_(pa.int64()))),
        "date": gaps([dt.date(2026, 1, 1) + dt.timedelta(days=n) for n in range(N)]),
        "view": pa.array(gaps([f"a text longer than twelve {n}" for n in range(N)])).cast(pa.string_view()),
        "views": pa.array([[{"views": str(n)}] for n in range(N)], pa.list_(pa.struct([("views", pa.string_view())]))),
    }
)


@given(st.integers(0, 1500), st.integers(0, 40))
@pytest.mark.parametrize("batches", [1, 3])
def test_any_rows_of_any_type_are_what_arrow_reads(batches: int, start: int, count: int) -> None:
    """Slices begin and end anywhere, also across batches and beyond the end; single rows come in any order."""
    table = pa.concat_tables([EVERY_TYPE] * batches)
    value = preview(table)
    rows = value.table().rows
    unknown = Table(value.payload, {}).rows  # as of a reader, whose envelope does not give the number of rows
    assert (rows.count, unknown.count) == (table.num_rows, table.num_rows)
    for number, name in enumerate(table.column_names):
        expected = table.column(name).slice(min(start, table.num_rows), count).to_pylist()
        assert rows.column(number, start, start + count).to_pylist() == expected, name
        assert unknown.column(number, start, start + count).to_pylist() == expected, name
        some = [row for row in (start + 3, 2, start, start + 3) if row < table.num_rows]
        assert rows.at(number, some).to_pylist() == [table.column(name)[row].as_py() for row in some], name


@pytest.mark.skipif(not hasattr(pa, "uuid"), reason="an older pyarrow")
def test_extension_types_inside_a_list_are_shown_by_their_storage() -> None:
    """pyarrow ends the process if the types of a list and of its items are not the same."""
    uuids = pa.array([[bytes(16)], []], pa.list_(pa.binary(16))).cast(pa.list_(pa.uuid()))
    assert preview(pa.table({"u": uuids})).table().rows.column(0, 0, 2).to_pylist() == [[bytes(16)], []]


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table])
def test_what_is_not_on_the_screen_is_not_read(make: Any) -> None:
    """Of 32 megabytes a block for each buffer; a column that is too large to sort by is refused before it is read."""
    value, file = stored(make({"id": np.arange(2_000_000), "price": np.arange(2_000_000) / 2}), max_bytes=4 << 20)
    table = value.table()
    assert table.page(0, 2, [0, 1])["cells"] == [["0", "1"], ["0.0", "0.5"]]
    assert table.page(1_999_998, 100, [0])["cells"] == [["1999998", "1999999"]]
    with pytest.raises(TooLargeError, match="max_preview_bytes"):
        table.sort(0)
    assert file.taken < 4 << 20


def test_filters_and_order_are_those_of_the_whole_table() -> None:
    """Filters of several columns together, sorted down, the missing last."""
    frame = pd.DataFrame(
        {
            "city": pd.Categorical(["Rome", "Oslo", "Rome", None, "Bonn"] * 100),
            "price": [1.5, float("nan"), 3.0, 2.0, 9.0] * 100,
            "n": range(500),
        }
    )
    value = preview(frame)
    table = value.table()
    assert table.columns[0]["type"] == "category"
    rome = [{"column": 0, "operator": "equal", "value": "Rome"}, {"column": 2, "operator": "less", "value": "10"}]
    page = table.page(0, 100, [0, 1, 2], table.sort(1, descending=True, rows=table.filter(rome)))
    assert page["cells"] == [["Rome"] * 4, ["3.0", "3.0", "1.5", "1.5"], ["2", "7", "0", "5"]]
    assert (page["total"], page["rows"]) == (4, 500)
    missing = table.filter([{"column": 1, "operator": "null"}])
    assert len(missing) == 100
    with pytest.raises(UnsupportedTypeError, match="cannot be compared"):
        table.filter([{"column": 2, "operator": "equal", "value": "x"}])
    with pytest.raises(DecodeError, match="no filter"):
        table.filter([{"column": 2, "operator": "__class__"}])


DAY = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)


@pytest.mark.parametrize(
    ("column", "missing", "low", "high", "bins"),
    [
        (pa.array([1, 2, 2, None]), 1, "1.0", "2.0", [1, 2]),
        (pa.array([0.5, float("nan"), float("inf"), 9.5]), 1, "0.5", "9.5", [1] + [0] * 18 + [1]),
        (pa.array([1, 2**64 - 1], pa.uint64()), 0, "1.0", repr(float(2**64)), [1] + [0] * 18 + [1]),
        (pa.array([dt.date(2026, 1, 1), None, dt.date(2026, 1, 3)]), 1, "2026-01-01", "2026-01-03", [1, 0, 1]),
        (pa.array([dt.time(1), dt.time(2)]), 0, "01:00:00", "02:00:00", [1] + [0] * 18 + [1]),
        (pa.array([dt.timedelta(1)] * 2), 0, "1 day, 0:00:00", "1 day, 0:00:00", [2]),
        (pa.array([DAY, DAY], pa.timestamp("us", "UTC")), 0, str(DAY), str(DAY), [2]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else None,
)
def test_numbers_and_times_are_spread_over_a_histogram(
    column: Any, missing: int, low: str, high: str, bins: Any
) -> None:
    """Missing ones are counted, what is not finite is left out; a few whole numbers have a bar each."""
    spread = preview(pa.table({"c": column})).table().distribution(0)
    assert (spread["missing"], spread["min"], spread["max"], spread["bins"]) == (missing, low, high, bins)


def test_other_values_are_spread_by_how_often_they_occur() -> None:
    """Texts, booleans, decimals, categories and lists by the most frequent ones."""
    words = preview(pd.DataFrame({"word": pd.Categorical(["a"] * 60 + ["b"] * 40 + [None])})).table().distribution(0)
    assert (words["top"], words["missing"]) == ([{"value": "a", "count": 60}, {"value": "b", "count": 40}], 1)
    others = preview(pa.table({"b": [True, True], "d": [Decimal("1.5")] * 2, "l": [[1], [1]]})).table()
    assert [others.distribution(n)["top"][0]["value"] for n in range(3)] == ["True", "1.5", "[1]"]


def test_a_long_text_is_cut_and_a_huge_one_is_not_read() -> None:
    """A page shows the beginning of each text; of fifty megabytes of text it reads a few."""
    value, file = stored(pa.table({"t": ["x" * 5_000_000] * 10}))
    page = value.table().page(0, 10, [0])
    assert {len(cell) for cell in page["cells"][0]} == {201}
    assert file.taken <= 12 * 1024 * 1024


def test_columns_of_python_objects_are_counted_not_unpacked() -> None:
    """The rest of the frame is shown."""
    value = preview(pd.DataFrame({"a": [1, 2], "o": [{1: 2}, {3: 4}]}))
    table = value.table()
    assert [column["name"] for column in table.columns] == ["a"]
    assert table.hidden == 1


@given(st.data())
def test_damaged_files_raise_our_error(data: st.DataObject) -> None:
    """Bytes changed anywhere: an XCargoError or some cells, never a crash and never memory that is not there."""
    payload = bytearray(contiguous(REGISTRY.encode(EVERY_TYPE.slice(0, 20))))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        table = Table(bytes_payload(payload, max_bytes=16 << 20), {})
        table.page(0, 20, range(len(table.columns)))
    except (XCargoError, UnicodeDecodeError, ValueError, OverflowError):
        pass


def test_a_series_and_an_index_are_tables_too() -> None:
    """Whatever the pandas codec stores as Arrow."""
    for made in (pd.Series([1, 2], name="s"), pd.Index(["a", "b"])):
        assert preview(made).describe()["rows"] == 2
    assert preview(pd.Timestamp("2026-01-01")).describe()["kind"] == "tree"


MONTHS = pd.period_range("2024-01", periods=3, freq="M")
ZONED = pd.date_range("2024-01-01", periods=3, tz="Europe/Rome")


@pytest.mark.parametrize(
    "make", [lambda v: pd.DataFrame({"c": v}), lambda v: pd.DataFrame(index=v), pd.Series, pd.array]
)
@pytest.mark.parametrize(
    ("values", "type_"),
    [
        (MONTHS.insert(3, pd.NaT), "period[M]"),
        (pd.interval_range(0, 4, closed="left"), "interval[int64, left]"),
        (pd.IntervalIndex.from_breaks(ZONED), "interval[timestamp[.s, tz=Europe/Rome], right]"),
        (ZONED, "timestamp[.s, tz=Europe/Rome]"),
        (pd.Categorical(["a", None, "b"]), "category"),
        *((pd.Categorical(labels), "category") for labels in (MONTHS, ZONED, pd.cut([1, 5], 2), [1, "x"], range(3))),
    ],
    ids=str,
)
def test_values_of_pandas_are_shown_as_pandas_prints_them(values: Any, type_: str, make: Any) -> None:
    """Not as ordinals, codes, ends or times of another zone; in columns, indexes, series and arrays alike."""
    table = preview(make(values)).table()
    assert re.sub(r"\[.s,", "[.s,", table.columns[0]["type"]) == type_
    assert table.columns[0]["align"] == "start"
    assert table.page(0, 9, [0])["cells"] == [[None if pd.isna(value) else str(value) for value in values]]


@pytest.mark.parametrize(
    ("values", "operator", "typed", "found"),
    [
        (MONTHS, "greater", "2024-02", "2024-03"),
        (MONTHS, "contains", "-01", "2024-01"),
        (pd.interval_range(0, 3), "equal", "(1, 2]", "(1, 2]"),
        (ZONED, "less", "2024-01-02", str(ZONED[0])),
        (ZONED, "equal", "2024-01-01T23:00:00Z", str(ZONED[1])),
        (pd.Categorical(MONTHS), "equal", "2024-02", "2024-02"),
    ],
)
def test_filters_take_what_is_shown(values: Any, operator: str, typed: str, found: str) -> None:
    """A time without an offset is of the column's zone; what is no value of the column is refused in words."""
    table = preview(pd.DataFrame({"c": values})).table()
    assert table.sort(0, descending=True).to_pylist() == [2, 1, 0]
    order = table.filter([{"column": 0, "operator": operator, "value": typed}])
    assert table.page(0, 9, [0], order)["cells"] == [[found]]
    assert table.distribution(0)["missing"] == 0
    if not isinstance(values, pd.Categorical) and operator != "contains" and "interval" not in str(values.dtype):
        with pytest.raises(UnsupportedTypeError, match="cannot be compared"):
            table.filter([{"column": 0, "operator": operator, "value": "x"}])


@pytest.mark.parametrize("missing", [None, float("nan")], ids=str)
def test_texts_that_repeat_are_shown_as_texts(missing: object) -> None:
    """Objects of a few texts are stored as codes: a table is paged, sorted and filtered as if they were not."""
    values = pd.Series(["Rome", "Oslo", missing, "Bonn"] * 1500, dtype=object)
    table = preview(pd.DataFrame({"city": values, "n": range(6000)})).table()
    assert table.columns[0]["type"] == "string"
    assert table.page(5999, 3, [0, 1])["cells"] == [["Bonn"], ["5999"]]
    few = [{"column": 1, "operator": "less", "value": "8"}]
    order = table.sort(0, descending=False, rows=table.filter(few))
    assert table.page(0, 9, [0], order)["cells"] == [["Bonn"] * 2 + ["Oslo"] * 2 + ["Rome"] * 2 + [None] * 2]
    greater = table.filter([*few, {"column": 0, "operator": "greater", "value": "P"}])
    assert table.page(0, 9, [0], greater)["cells"] == [["Rome"] * 2]
    assert table.distribution(0)["missing"] == 1500


def test_an_index_has_its_names() -> None:
    """Levels without one are counted, as pandas does when they become columns."""
    index = pd.MultiIndex.from_product([["a"], MONTHS], names=[None, "month"])
    table = preview(pd.DataFrame({"n": range(3)}, index=index)).table()
    assert [column["name"] for column in table.columns if column.get("index")] == ["level_0", "month"]
    assert table.page(2, 1, [1, 2])["cells"] == [["a"], ["2024-03"]]
    order = table.sort(2, descending=True)
    assert table.page(0, 1, [0], order)["cells"] == [["2"]]


def test_a_distribution_behind_a_filter_counts_its_rows_only() -> None:
    """A chart beside filtered rows is of these rows, of many in samples too."""
    table = preview(pa.table({"n": np.arange(50_000), "half": np.arange(50_000) % 2})).table()
    order = table.filter([{"column": 1, "operator": "equal", "value": "1"}])
    spread = table.distribution(0, order)
    assert (spread["rows"], spread["sampled"], spread["min"], spread["max"]) == (25_000, 10_000, "1.0", "49999.0")


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20"])
def test_no_text_of_an_exported_table_is_a_formula(sign: str) -> None:
    """Neither a cell nor the name of a column, of text or of anything that is written as text."""
    formula = f"{sign}HYPERLINK(1)"
    frame = pd.DataFrame({formula: [formula], "c": pd.Categorical([formula])})
    exported = b"".join(preview(frame).table().export("csv")).decode()
    assert list(csv.reader(io.StringIO(exported, newline=""))) == [[f"'{formula}", "c"], [f"'{formula}"] * 2]


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_table_is_exported_in_batches(form: str) -> None:
    """Every row once, as text where a format has no type for it; in CSV no text is a formula of a spreadsheet."""
    frame = pd.DataFrame({"c": pd.Categorical(["x", None, "y"]), "p": pd.period_range("2024", periods=3, freq="Y")})
    frame["l"] = pd.Series([[1], None, [2, 3]], dtype=pd.ArrowDtype(pa.list_(pa.int64())))
    frame["t"] = ["=1+1", "-1.5", "@x"]
    exported = b"".join(preview(frame).table().export(form))
    if form == "csv":
        lines = ['"c","p","l","t"', '"x","2024","[1]","\'=1+1"', ',"2025",,"-1.5"', '"y","2026","[2, 3]","\'@x"']
        assert exported.decode().splitlines() == lines
    else:
        read = pa.parquet.read_table(io.BytesIO(exported)).to_pydict()
        columns = {"c": ["x", None, "y"], "p": ["2024", "2025", "2026"], "l": [[1], None, [2, 3]]}
        assert read == {**columns, "t": ["=1+1", "-1.5", "@x"]}


@pytest.mark.parametrize(
    ("values", "cells"),
    [
        (pa.array([10**7, 0, None], pa.date32()), ["29349-01-26", "1970-01-01", None]),
        (pa.array([0, None], pa.timestamp("s", "No/Zone")), ["<timestamp[s, tz=No/Zone]>", None]),
        (pa.array([10**15, 1, None], pa.duration("s")), ["1000000000000000", "0:00:01", None]),
        (pa.array([1, 1000, 0, None], pa.time64("ns")), ["00:00:00.000000001", "00:00:00.000001", "00:00:00", None]),
    ],
    ids=["year", "zone", "duration", "nanoseconds"],
)
def test_times_that_python_has_no_object_for_are_shown(values: Any, cells: list[str | None]) -> None:
    """One far date, as databases write for never, hides no page; and times that differ by nanoseconds look so."""
    table = preview(pa.table({"t": values})).table()
    assert table.page(0, 9, [0])["cells"] == [cells]
    assert table.distribution(0)["missing"] == 1


UNION = pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array([1, 2]), pa.array(["a", "b"])])
DENSE = pa.UnionArray.from_dense(
    pa.array([0, 1], pa.int8()), pa.array([0, 0], pa.int32()), [pa.array([1]), pa.array(["b"])]
)
CODES_AND_VIEWS = pa.StructArray.from_arrays(
    [pa.array(["a", "b"]).dictionary_encode(), pa.array(["c", "d" * 30]).cast(pa.string_view())], names=["x", "y"]
)


@pytest.mark.parametrize(
    ("values", "cells"),
    [
        (UNION, ["1", "b"]),
        (DENSE, ["1", "b"]),
        (pa.array([[1], [2, 3]], pa.list_view(pa.int64())), ["[1]", "[2, 3]"]),
        (pa.RunEndEncodedArray.from_arrays([1, 2], ["a", "b"]), ["a", "b"]),
        (CODES_AND_VIEWS, ["{'x': 'a', 'y': 'c'}", f"{{'x': 'b', 'y': '{'d' * 30}'}}"]),
        (
            pa.array([(1, 2, 3), None], pa.month_day_nano_interval()),
            ["MonthDayNano(months=1, days=2, nanoseconds=3)", None],
        ),
    ],
    ids=["union", "dense", "list_view", "run_end_encoded", "codes and views", "interval"],
)
def test_columns_of_rare_types_are_shown_too(values: Any, cells: list[str | None]) -> None:
    """They hide neither themselves nor the columns beside them."""
    table = preview(pa.table({"before": ["x", "y"], "rare": values, "after": pa.array(["z", None])})).table()
    assert table.page(0, 9, [0, 1, 2])["cells"] == [["x", "y"], cells, ["z", None]]
    order = table.sort(0, descending=True)
    assert table.page(0, 9, [1, 2], order)["cells"] == [cells[::-1], [None, "z"]]
    assert {one["value"] for one in table.distribution(1, order)["top"]} == {cell for cell in cells if cell}
    exported = b"".join(table.export("csv")).decode()
    assert [row[1] for row in csv.reader(io.StringIO(exported))] == ["rare", *(cell or "" for cell in cells)]


def test_nan_is_missing_and_nothing_else() -> None:
    """A cell passes one of the two filters."""
    table = preview(pa.table({"n": [1.0, float("nan"), None]})).table()
    found = {op: table.filter([{"column": 0, "operator": op}]).to_pylist() for op in ("null", "not_null")}
    assert found == {"null": [1, 2], "not_null": [0]}


def test_a_file_that_cannot_hold_a_column_is_refused() -> None:
    """In words, before anything of it is sent."""
    table = preview(pa.table({"interval": pa.array([(1, 2, 3)], pa.month_day_nano_interval())})).table()
    with pytest.raises(UnsupportedTypeError, match="cannot write as parquet"):
        next(table.export("parquet"))
