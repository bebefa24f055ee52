"""Tables read in part, readers and lazy frames, and the handle over them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import polars.testing
import pyarrow as pa
import pyarrow.dataset
import pytest

import xcargo
from tests.unit.conftest import HERE, make_pipeline
from xcargo.codecs.arrow import ArrowStreamCodec
from xcargo.codecs.base import contiguous
from xcargo.codecs.registry import Registry
from xcargo.codecs.table_file import TableFile
from xcargo.codecs.table_file import dataset as make_dataset
from xcargo.errors import DecodeError, IntegrityError, ObjectNotFoundError, UnsupportedTypeError
from xcargo.pipeline.pipeline import Pipeline
from xcargo.stores.local import buckets
from xcargo.testing import CodecTests, CountingStore, chunked

ROWS = 400_000


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def frame(rows: int = ROWS) -> pl.DataFrame:
    random = np.random.default_rng(7)
    return pl.DataFrame(
        {
            "n": np.arange(rows),
            "x": random.random(rows),
            "y": random.random(rows),
            "s": [f"text {n % 1000}" for n in range(rows)],
        }
    )


class TestArrowStreamCodec(CodecTests):
    """Lazy frames, by the shipped suite."""

    VALUES = (
        pl.LazyFrame({"a": [1, None, 3], "b": ["x", "y", None], "c": [[1], [], None]}),
        pl.LazyFrame({"a": []}, schema={"a": pl.Int8}),
        pl.LazyFrame({"wide": [[{"a": 2**100}]]}, schema={"wide": pl.List(pl.Struct({"a": pl.Int128}))}),
        pl.LazyFrame({"codes": [["x", "y"], None]}, schema={"codes": pl.List(pl.Categorical)}),
        frame(1000)
        .lazy()
        .with_columns(
            pl.col("s").cast(pl.Categorical).alias("c"),
            pl.lit(1.5).cast(pl.Decimal(10, 2)).alias("d"),
            pl.datetime(2026, 1, 1, time_zone="Europe/Berlin").alias("t"),
            pl.struct("n", "x").alias("z"),
            pl.lit(b"\0").alias("raw"),
            pl.lit("a").cast(pl.Enum(["a", "b"])).alias("e"),
            pl.duration(seconds=5).alias("u"),
        ),
    )

    @pytest.fixture
    def codec(self) -> ArrowStreamCodec:
        return ArrowStreamCodec()

    def equal(self, left: Any, right: Any) -> bool:
        return (
            type(left) is type(right)
            and left.collect_schema() == right.collect_schema()
            and left.collect().equals(right.collect())
        )


class Kit:
    """A pipeline, and the MiB that it fetches."""

    def __init__(self) -> None:
        self.fetched_bytes = 0
        self.pipeline: Pipeline = make_pipeline(wrap=self._wrap, compression="none", part_bytes=5 * 1024 * 1024)

    def _wrap(self, store: Any) -> CountingStore:
        kit = self

        class Metered(CountingStore):
            def get(self, key: str, *, start: int = 0, end: int | None = None) -> Any:
                data = super().get(key, start=start, end=end)
                kit.fetched_bytes += len(data)
                return data

        return Metered(store)

    def cost(self, work: Callable[[], Any]) -> tuple[Any, float]:
        """What the work gives, and how many MiB it fetched."""
        self.fetched_bytes = 0
        return work(), self.fetched_bytes / 2**20


def batches(table: pa.Table, rows: int = 50_000) -> pa.RecordBatchReader:
    return pa.RecordBatchReader.from_batches(table.schema, iter(table.to_batches(max_chunksize=rows)))


def test_a_reader_comes_back_as_a_reader_of_the_same_batches() -> None:
    """In the row, in an object, twice in a nested value; each can be read once."""
    table = frame(3000).to_arrow()
    for threshold in (-1, 0):
        pipeline = make_pipeline(threshold_bytes=threshold)
        back = pipeline.pull(pipeline.push(batches(table, 1000), HERE))
        assert type(back) is pa.RecordBatchReader
        got = list(back)
        assert [batch.num_rows for batch in got] == [1000, 1000, 1000]
        assert pa.Table.from_batches(got) == table
        reader = batches(table)
        one, other = pipeline.pull(pipeline.push({"a": reader, "b": [reader]}, HERE)).values()
        assert one.read_all() == other[0].read_all() == table


def test_a_reader_that_fails_or_does_not_fit_stores_nothing() -> None:
    """Its own error is passed on; dictionaries that differ from batch to batch are refused."""

    def failing() -> Iterator[pa.RecordBatch]:
        yield pa.record_batch({"a": np.arange(10**6)})
        raise LookupError("mine")

    kinds = pa.schema([("a", pa.dictionary(pa.int32(), pa.string()))])
    different = (pa.record_batch([pa.array([name]).dictionary_encode()], schema=kinds) for name in ("x", "y"))
    pipeline = make_pipeline()
    with pytest.raises(LookupError, match="mine"):
        pipeline.push(pa.RecordBatchReader.from_batches(pa.schema([("a", pa.int64())]), failing()), HERE)
    with pytest.raises(UnsupportedTypeError, match="batch of the reader"):
        pipeline.push(pa.RecordBatchReader.from_batches(kinds, different), HERE)
    assert not buckets.get("test/xcom")


def test_a_lazy_frame_s_query_fetches_the_columns_it_needs() -> None:
    """Two of four columns cost fewer requests than all; head() few; predicates and slices give what polars gives."""
    kit = Kit()
    lazy = frame().lazy()
    back = kit.pipeline.pull(kit.pipeline.push(lazy, HERE))
    whole, full = kit.cost(back.collect)
    assert whole.equals(lazy.collect())
    for query in (
        lambda f: f.select(pl.len()),
        lambda f: f.select("x").sum(),
        lambda f: f.filter(pl.col("n") == ROWS - 1).select("x"),
        lambda f: f.filter(pl.col("s") == "text 5").head(3),
        lambda f: f.head(7).filter(pl.col("n") > 3),
        lambda f: f.tail(3).select("s", "n"),
        lambda f: f.slice(100, 5),
        lambda f: f.group_by("s").agg(pl.col("n").max()).sort("s").head(5),
        lambda f: f.join(f.head(3), on="n").select("n", "s_right").sort("n"),
    ):
        pl.testing.assert_frame_equal(query(back).collect(), query(lazy).collect())
    assert full >= 12
    assert kit.cost(lambda: back.select(pl.len()).collect())[1] <= full
    assert kit.cost(lambda: back.head(5).collect())[1] <= 12


def test_airflow_can_show_a_lazy_frame_among_a_task_s_arguments() -> None:
    """Airflow 3.3 calls serialize() of an argument: it gives a text, fetches nothing and needs no pickle."""
    kit = Kit()
    back = kit.pipeline.pull(kit.pipeline.push(frame().lazy(), HERE))
    text, cost = kit.cost(lambda: (back.serialize(), repr(back), str(back)))
    assert text[0] == "<polars.LazyFrame of columns n, x, y, s>"
    assert cost == 0


@pytest.mark.parametrize("make", [lambda: frame(), lambda: frame().to_arrow(), lambda: batches(frame().to_arrow())])
def test_a_handle_of_a_table_takes_columns_and_rows(make: Callable[[], Any]) -> None:
    """to_arrow and scan give what the whole would; one column costs less than all."""
    kit = Kit()
    handle = kit.pipeline.handle(kit.pipeline.push(make(), HERE))
    assert set(handle.columns or ()) == {"n", "x", "y", "s"}
    expected = frame().to_arrow()
    whole, full = kit.cost(handle.to_arrow)
    assert pl.from_arrow(whole).equals(frame())
    part, cost = kit.cost(lambda: handle.to_arrow(["x", "n"]))
    assert part.column_names == ["x", "n"]
    assert part.column("n").to_pylist() == expected.column("n").to_pylist()
    assert cost <= full
    for rows in (slice(0, 3), slice(ROWS - 2, None), slice(49_999, 50_001), slice(5, 3), slice(ROWS, ROWS + 1)):
        assert handle.to_arrow(["n"], rows).column("n").to_pylist() == list(range(ROWS))[rows]
    assert handle.scan().filter(pl.col("n") == 7).select("s").collect().item() == "text 7"
    assert handle.scan("pyarrow").count_rows() == ROWS
    wrong: Any
    for wrong in (slice(0, 10, 2), slice(-5, None), 5):
        with pytest.raises(ValueError, match="slice"):
            handle.to_arrow(rows=wrong)
    with pytest.raises(KeyError, match=r"no column 'z'.*n, x, y, s"):
        handle.to_arrow(["z"])


@pytest.mark.parametrize("make", [lambda: frame(), lambda: batches(frame().to_arrow())])
def test_pyarrow_and_duckdb_query_a_handle(make: Callable[[], Any]) -> None:
    """A Dataset and a relation: each query fetches what it needs, as often as it is run."""
    kit = Kit()
    handle = kit.pipeline.handle(kit.pipeline.push(make(), HERE))
    _, full = kit.cost(handle.to_arrow)
    field = pa.dataset.field
    dataset, opening = kit.cost(lambda: handle.scan("pyarrow"))
    assert isinstance(dataset, pa.dataset.Dataset)
    assert opening <= 4
    for _ in range(2):
        found, cost = kit.cost(lambda: dataset.to_table(columns=["n"], filter=field("n") >= ROWS - 3))
        assert found.column("n").to_pylist() == list(range(ROWS))[-3:]
        assert cost <= full
    assert pl.from_arrow(dataset.to_table()).equals(frame())
    relation = handle.scan("duckdb")
    for _ in range(2):
        assert relation.filter("n < 3").project("n, s").fetchall() == [(n, f"text {n}") for n in range(3)]
        assert relation.aggregate("sum(n)").fetchall() == [(sum(range(ROWS)),)]
    with pytest.raises(ValueError, match="'sqlite'"):
        handle.scan("sqlite")  # type: ignore[arg-type]


def test_a_dataset_checks_each_batch_before_it_is_read() -> None:
    """A batch that claims more than it has is refused when a scan comes to it, and the file cannot be written."""
    sink = pa.BufferOutputStream()
    table = pa.table({"a": np.arange(1000)})
    with pa.ipc.new_file(sink, table.schema) as file:
        file.write_table(table, max_chunksize=100)
    sound = sink.getvalue().to_pybytes()
    source = chunked(sound)
    dataset = make_dataset(TableFile(source))
    assert dataset.to_table().equals(table)
    start, end = TableFile(source).batch_ranges[7]
    forged = bytearray(sound)
    at = forged.index((800).to_bytes(8, "little"), start, end)  # length of a buffer
    forged[at : at + 8] = (1 << 60).to_bytes(8, "little")
    with pytest.raises(DecodeError, match="Arrow data"):
        make_dataset(TableFile(chunked(bytes(forged)))).to_table()
    with pytest.raises(OSError, match="cannot be changed"):
        dataset.filesystem.delete_file("table.arrow")


def test_a_pandas_frame_gives_single_columns_exactly() -> None:
    """Categories, time zones, objects, any index and labels: as in the whole, without the other columns."""
    kit = Kit()
    whole = pd.DataFrame(
        {
            "n": np.arange(ROWS),
            "x": np.random.default_rng(1).random(ROWS),
            "c": pd.Categorical(["u", "v"] * (ROWS // 2)),
            "t": pd.date_range("2026-01-01", periods=ROWS, freq="s", tz="Europe/Berlin"),
        },
        index=pd.Index(np.arange(ROWS) * 2, name="i"),
    )
    handle = kit.pipeline.handle(kit.pipeline.push(whole, HERE))
    assert (handle.type, handle.shape) == ("pandas.DataFrame", (ROWS, 4))
    part = handle.to_arrow(["c", "t"], slice(5))
    assert part.to_pandas().equals(whole[["c", "t"]].iloc[:5])
    with pytest.raises(KeyError, match="no column 'z'"):
        handle.to_arrow(["z"])
    with pytest.raises(UnsupportedTypeError, match="to_arrow"):
        handle.scan()
    twice = pd.DataFrame([[1, 2]], columns=["a", "a"])
    sparse = pd.DataFrame({"a": pd.arrays.SparseArray([0, 0, 1])})
    for other in (pd.DataFrame({"o": [1, "x", b""] * 3000}), pd.DataFrame({"a": [10**30]}), twice, sparse):
        with pytest.raises(UnsupportedTypeError, match="Arrow"):
            kit.pipeline.handle(kit.pipeline.push(other, HERE)).to_arrow()


@pytest.mark.parametrize("value", [{"a": 1}, b"x" * 9000, np.arange(9000), pd.Series([1.0] * 900), pa.schema([])])
def test_a_handle_of_anything_else_loads_and_opens(value: Any) -> None:
    """What is no table says so; load gives what a pull gives, open the payload."""
    kit = Kit()
    handle = kit.pipeline.handle(kit.pipeline.push(value, HERE))
    assert type(handle.load()) is type(value)
    assert len(handle.open().read()) == handle.size_bytes
    if not isinstance(value, pa.Schema):
        with pytest.raises(UnsupportedTypeError, match="load"):
            handle.to_arrow()


WIDE = {f"c{n}": np.random.default_rng(n).random(250_000) for n in range(24)}


@pytest.mark.parametrize(
    ("make", "query"),
    [
        (pl.DataFrame, lambda handle: handle.to_arrow(["c17"]).column("c17").to_numpy().sum()),
        (pd.DataFrame, lambda handle: handle.to_arrow(["c17"]).column("c17").to_numpy().sum()),
        (pa.table, lambda handle: handle.to_arrow(["c17"]).column("c17").to_numpy().sum()),
        (pa.table, lambda handle: handle.scan("pyarrow").to_table(columns=["c17"]).column("c17").to_numpy().sum()),
        (pa.table, lambda handle: handle.scan("duckdb").aggregate("sum(c17)").fetchall()[0][0]),
    ],
    ids=["polars", "pandas", "pyarrow", "dataset", "duckdb"],
)
def test_one_column_of_a_wide_table_costs_little(make: Any, query: Callable[[Any], float]) -> None:
    """Of 24 columns of 2 MiB, one costs its own bytes and the chunks that it shares with others."""
    kit = Kit()
    handle = kit.pipeline.handle(kit.pipeline.push(make(WIDE), HERE))
    total, cost = kit.cost(lambda: query(handle))
    assert total == pytest.approx(WIDE["c17"].sum())
    assert cost <= 24


def test_a_table_that_only_polars_reads_is_not_called_damaged() -> None:
    """Integers of 128 bits: each way to read a part of it says that the whole can be loaded."""
    kit = Kit()
    table = pl.DataFrame({"wide": [2**100], "n": [1]}, schema={"wide": pl.Int128, "n": pl.Int8})
    handle = kit.pipeline.handle(kit.pipeline.push(table, HERE))
    for way in (handle.scan, lambda: handle.to_arrow(["n"])):
        with pytest.raises(DecodeError, match=r"pyarrow does not read .* load\(\) all of it"):
            way()
    assert handle.load().equals(table)


def test_a_handle_is_not_mistaken_for_the_value() -> None:
    """Iterating, indexing, measuring and pickling it say to load() it first; it costs nothing by itself."""
    kit = Kit()
    handle, cost = kit.cost(lambda: kit.pipeline.handle(kit.pipeline.push([1] * 9000, HERE)))
    assert handle
    assert "list" in repr(handle)
    import pickle

    for use in (len, iter, list, lambda h: h[0], pickle.dumps):
        with pytest.raises(UnsupportedTypeError):
            use(handle)
    assert cost == 0


def test_a_missing_or_altered_object_raises_on_each_way_to_read_it() -> None:
    """Not as a bad Arrow file: ObjectNotFoundError and IntegrityError keep their kinds through Arrow and polars."""
    kit = Kit()
    handle = kit.pipeline.handle(kit.pipeline.push(frame(), HERE))
    lazy = kit.pipeline.pull(kit.pipeline.push(frame().lazy(), HERE))
    ways = (handle.load, handle.to_arrow, lambda: handle.to_arrow(["y"]), lambda: handle.scan("pyarrow").to_table())
    for key, (data, when) in list(buckets["test/xcom"].items()):
        middle = len(data) // 2
        buckets["test/xcom"][key] = (data[:middle] + os.urandom(4_000_000) + data[middle + 4_000_000 :], when)
    for way in ways:
        with pytest.raises(IntegrityError):
            way()
    with pytest.raises((IntegrityError, pl.exceptions.ComputeError), match="checksum"):
        lazy.collect()
    buckets["test/xcom"].clear()
    for way in ways:
        with pytest.raises(ObjectNotFoundError):
            way()
    with pytest.raises((ObjectNotFoundError, pl.exceptions.ComputeError), match="not there"):
        lazy.collect()


def _compressed() -> bytes:
    sink = pa.BufferOutputStream()
    table = pa.table({"a": pa.array(np.zeros(10**6))})
    with pa.ipc.new_file(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as file:
        file.write(table)
    written: bytes = sink.getvalue().to_pybytes()
    return written


def test_hostile_tables_are_decode_errors() -> None:
    """Compressed batches, altered offsets and cut files are refused wherever they are read in part."""
    with pytest.raises(DecodeError, match="compressed"):
        list(TableFile(chunked(_compressed())).batches())
    good = bytes(contiguous(Registry(entry_points=False).encode(pa.table({"s": ["a", "bb", "c" * 50] * 20}))))
    random = np.random.default_rng(3)
    for _ in range(400):
        bad = bytearray(good)
        for at in random.integers(0, len(bad), random.integers(1, 6)):
            bad[at] = random.integers(0, 256)
        try:
            file = TableFile(chunked(bytes(bad)))
            list(file.batches())
            file.table(file.schema.names[:1], slice(2, 9))
        except (DecodeError, KeyError, UnicodeDecodeError):
            continue
    for end in range(0, len(good), 7):
        with pytest.raises(DecodeError):
            list(TableFile(chunked(good[:end] or b"\0")).batches())


def test_a_value_of_parts_is_not_misled_by_its_table() -> None:
    """A table of parts that nobody wrote: outside the payload, part of itself, of no codec, of wrong types."""
    registry = Registry(entry_points=False)
    encoded = registry.encode([np.arange(20_000), 1])
    payload, params = bytes(contiguous(encoded)), dict(encoded.params)
    whole = registry.decode("msgpack", payload, params)
    assert whole[0][-1] == 19_999
    table_bytes = params["table_bytes"]
    for table in (
        b"[]",
        b"{}",
        b"null",
        b"[[]]",
        b"[" * 5000,
        b"\xff",
        b'[["bytes",{},-5,10]]',
        b'[["bytes",{},0,1e9]]',
        b'[["bytes",{},0,99999999]]',
        b'[["bytes",{},"0","1"]]',
        b'[["bytes",[],0,1]]',
        b'[["none such",{},0,1]]',
        b'[["msgpack",{},0,%d]]' % len(payload),
        b'[["file",{"name":"../../x"},5,2]]',
    ):
        with pytest.raises((DecodeError, xcargo.MissingDependencyError)):
            registry.decode("msgpack", payload[:-table_bytes] + table, {**params, "table_bytes": len(table)})
    for change in (
        {"tree_bytes": 10**12},
        {"tree_bytes": -1},
        {"table_bytes": -1},
        {"table_bytes": 2**70},
        {"tree_bytes": "7"},
    ):
        with pytest.raises(DecodeError):
            registry.decode("msgpack", payload, {**params, **change})


def test_a_value_that_occurs_twice_is_stored_once() -> None:
    """And is one object again."""
    array = np.random.default_rng(1).random(100_000)
    pipeline = make_pipeline()
    row: Any = pipeline.push({"a": array, "b": (array, [array])}, HERE)
    assert row["size_bytes"] < 1.1 * array.nbytes
    back = pipeline.pull(row)
    assert back["a"] is back["b"][0] is back["b"][1][0]
    np.testing.assert_array_equal(back["a"], array)
