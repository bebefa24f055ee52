"""bytes, numpy and tables."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from xcargo.codecs import Codec, Registry, ipc
from xcargo.codecs.arrow import ArrowCodec, ArrowStreamCodec
from xcargo.codecs.base import contiguous
from xcargo.codecs.stream import BytesCodec
from xcargo.errors import DecodeError, MissingDependencyError, UnsupportedTypeError
from xcargo.model.settings import Settings
from xcargo.testing import CodecTests

NUMPY = Registry(entry_points=False).codec("numpy")


class TestBytes(CodecTests):
    """bytes and bytearray."""

    VALUES: Sequence[Any] = (b"", b"\0\xff", bytearray(b"abc"))

    @pytest.fixture
    def codec(self) -> Codec:
        return BytesCodec()


def memory_file(file: Any, position: int, **attributes: Any) -> Any:
    file.seek(position)
    vars(file).update(attributes)
    return file


class TestMemoryFiles(CodecTests):
    """BytesIO and StringIO with every way to end a line."""

    VALUES: Sequence[Any] = (
        memory_file(io.BytesIO(b""), 0),
        memory_file(io.BytesIO(b"\0\xff"), 1),
        memory_file(io.BytesIO(b"ab"), 9, name="a.xlsx", more=(1, {2})),
        memory_file(io.StringIO("ü\ud800"), 1, name="a.txt"),
        *(memory_file(io.StringIO("a\r\nb\rc\n", newline), 2) for newline in (None, "", "\n", "\r", "\r\n")),
    )

    @pytest.fixture
    def codec(self) -> Codec:
        return Registry(entry_points=False).codec("memory-file")

    def equal(self, left: Any, right: Any) -> bool:
        return type(left) is type(right) and left.__getstate__() == right.__getstate__() and vars(left) == vars(right)


def test_a_file_in_memory_can_be_read_and_written_on() -> None:
    """From its position, and translating line ends as before; a closed one is refused."""
    file = memory_file(io.StringIO("a\n", "\r\n"), 3)
    encoded = (codecs := Registry(entry_points=False)).encode({"a": file})
    back = codecs.decode(encoded.codec, contiguous(encoded), encoded.params)["a"]
    back.write("b\n")
    assert back.getvalue() == "a\r\nb\r\n"
    file.close()
    with pytest.raises(UnsupportedTypeError, match="closed"):
        codecs.encode(file)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"position": -1},
        {"position": "x"},
        {"position": 2**70},
        {"position": 0, "newline": ["x"]},
        {"position": 0, "newline": 1},
        {"position": 0, "tail_bytes": "x"},
        {"position": 0, "tail_bytes": -1},
        {"position": 0, "tail_bytes": 2},
        {"position": 0, "tail_bytes": 1},
    ],
)
def test_a_forged_file_in_memory_is_an_error(params: dict[str, Any]) -> None:
    """Whatever its params say."""
    with pytest.raises(DecodeError):
        Registry(entry_points=False).decode("memory-file", b"a", params)


def test_the_attributes_of_a_file_in_memory_are_part_of_its_payload() -> None:
    """The params are in the row, which is not encrypted and has a limit."""
    encoded = Registry(entry_points=False).encode(memory_file(io.BytesIO(b"content"), 0, name="secret"))
    assert "c2VjcmV0" not in str(encoded.params)
    assert b"secret" in contiguous(encoded)
    assert set(encoded.params) == {"position", "tail_bytes"}


def test_bytes_are_not_copied_to_encode_them() -> None:
    """The payload of bytes is the very object."""
    value = b"x" * 1000
    (part,) = BytesCodec().encode(value).parts
    assert part is value


class TestNumpy(CodecTests):
    """Arrays and scalars of every kind of dtype."""

    VALUES: Sequence[Any] = (
        np.arange(12, dtype="<i8").reshape(3, 4),
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.arange(10)[::2],
        np.array(5.0),
        np.zeros((0, 3), dtype="f4"),
        np.array([True, False]),
        np.array(["2026-01-01", "NaT"], dtype="datetime64[ns]"),
        np.array([1, 2], dtype="timedelta64[s]"),
        np.array(["a", "bc"]),
        np.array([b"a", b"bc"]),
        np.array([1 + 2j]),
        np.array([(1, 2.0, [3, 4])], dtype=[("a", "i4"), ("b", ">f8"), ("c", "i2", (2,))]),
        np.array([1, 2], dtype=">u2"),
        np.float32(1.5),
        np.int64(-1),
        np.datetime64("2026-01-01T00:00"),
        np.bool_(True),
        np.arange(5)[::-1],
        np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
        np.broadcast_to(np.arange(3), (2, 3)),
        np.array(["2026", "NaT"], "M8[25m]"),
        np.timedelta64("NaT", "s"),
        np.array([1, 2], "g"),
        np.longdouble(1) / 3,
        np.ones(2, "q"),
        np.longlong(3),
        np.arange(3, dtype=">c16"),
        np.str_(""),
        np.bytes_(b""),
        np.bytes_(b"a\0"),
        np.str_("a\0"),
        np.void(b"ab"),
        np.zeros(2, np.dtype([("a", "i1"), ("b", "i8"), ("c", "S3", (2,))], align=True)),
        np.ones(2, np.dtype([(("Title", "a"), "i4"), ("b", "f8")])),
        np.ones(2, np.dtype({"names": ["a", "b"], "formats": ["i4", "i2"], "offsets": [0, 2], "itemsize": 8})),
        np.ones(3, np.dtype({"names": ["a", "b"], "formats": ["i4", "i4"], "offsets": [4, 0]})),
        np.zeros((2, 2), np.dtype([("x", [("y", "<i2"), ("z", "U3", (2, 2))]), ("w", ">f8")])),
        np.zeros(1, np.dtype([("a", "i1"), ("b", "i8")], align=True))[0],
        np.rec.array([(1, "a")], dtype=[("x", "i4"), ("y", "U2")]),
        np.rec.array([(1, "a")], dtype=[("x", "i4"), ("y", "U2")])[0],
        np.arange(4).reshape(2, 2).view(np.matrix),
        np.array([1, "a", None, (1, 2), [3], Decimal("1.0"), np.float32(1), {"k": {1}}], dtype=object),
        np.asfortranarray(np.array([[1, "a", None], [2, 3, 4]], dtype=object)),
        np.array({"a": (1,)}, dtype=object),
        np.empty((0, 3), object),
        np.array(["a", "longer\0"], np.dtypes.StringDType()),
        np.array([["a", None]], np.dtypes.StringDType(na_object=None, coerce=False)),
        np.array(["a", np.nan], np.dtypes.StringDType(na_object=np.nan)),
        np.array(["a", pd.NA], np.dtypes.StringDType(na_object=pd.NA)),
        np.ma.array([1, 2, 3], mask=[False, True, False]),
        np.ma.array([1.5]),
        np.ma.array([1, 2], mask=[True, False], fill_value=-1, hard_mask=True),
        np.ma.array(np.asfortranarray(np.arange(6).reshape(2, 3)), mask=np.asfortranarray(np.eye(2, 3, dtype=bool))),
        np.ma.array([(1, 2.0)], mask=[(False, True)], dtype=[("a", "i4"), ("b", "f8")]),
        np.ma.array(5, mask=True),
        np.ma.array(np.array(["2020"], "M8[D]"), fill_value=np.datetime64("2021")),
        np.ma.masked,
        np.array([(1, [2], 0.5), (3, None, 1.5)], [("a", "i1"), ("o", "O"), ("b", "f4")]),
        np.array([(1, ({2}, "x"))], np.dtype([("a", "i1"), ("n", [("o", "O"), ("s", "U3")])], align=True)),
        np.array([(["a", 1],)], [("o", "O", (2,))])[0],
        np.rec.array([(1, (2,))], dtype=[("a", "i4"), ("o", "O")]),
        np.array([[1, "a"]], dtype=object).view(np.matrix),
        np.ma.array([1, "a", (2,)], mask=[False, True, False], dtype=object, fill_value="none"),
        np.ma.array([(1, [2])], mask=[(False, True)], dtype=[("a", "i4"), ("o", "O")]),
        np.dtype("datetime64[25m]"),
        np.dtypes.StringDType(na_object=np.nan, coerce=False),
        np.dtype([("a", ">i4"), ("o", "O")]),
    )

    @pytest.fixture
    def codec(self) -> Codec:
        return Registry(entry_points=False).codec("numpy")

    def equal(self, left: Any, right: Any) -> bool:
        if isinstance(right, np.dtype):
            return bool(left == right) and repr(left) == repr(right)
        if type(left) is not type(right) or right is np.ma.masked:
            return left is right
        if (left.dtype, left.shape, left.dtype.type) != (right.dtype, right.shape, right.dtype.type):
            return False
        if (left.dtype.isalignedstruct, repr(left.dtype)) != (right.dtype.isalignedstruct, repr(right.dtype)):
            return False
        if np.ndim(right) > 1 and (left.flags.f_contiguous, right.flags.f_contiguous).count(True) == 1:
            return not right.flags.c_contiguous  # neither order: it comes back as C
        if isinstance(right, np.ma.MaskedArray):
            state = lambda array: (repr(array.data.tolist()), repr(array.mask), repr(array._fill_value), array.hardmask)  # noqa: E731
            return bool(state(left) == state(right))
        if right.dtype.kind in "OT":
            return [(type(x), repr(x)) for x in left.flat] == [(type(x), repr(x)) for x in right.flat]
        if right.dtype.names is not None:  # what lies between fields is nobody's
            return repr(left.tolist()) == repr(right.tolist())
        if right.dtype.char in "gG":  # nor what fills up its sixteen bytes
            return repr(left.tolist()) == repr(right.tolist())
        return bool(left.tobytes() == right.tobytes())


def test_an_array_comes_back_writable() -> None:
    """Users change arrays in place."""
    encoded = NUMPY.encode(np.arange(3))
    back = NUMPY.decode(contiguous(encoded), encoded.params)
    back[0] = 7
    assert back.tolist() == [7, 1, 2]


def test_a_contiguous_array_is_not_copied_to_encode_it() -> None:
    """The payload is the array's own memory, in C and in Fortran order."""
    for array in (np.arange(6.0).reshape(2, 3), np.asfortranarray(np.arange(6.0).reshape(2, 3))):
        (part,) = NUMPY.encode(array).parts
        assert np.shares_memory(np.frombuffer(part, dtype=np.uint8), array)


@pytest.mark.parametrize(
    "value",
    [
        np.array([object()]),
        np.array([(object(),)], [("a", "O")]),
        np.zeros(9, np.dtype({"names": ["a"], "formats": ["O"], "offsets": [0], "itemsize": 4096})),
        np.zeros(2, []),
        np.zeros(1).view(type("Mine", (np.ndarray,), {})),
        type("Mine", (np.float64,), {})(1),
        np.zeros(1, [("\ud800", "i4")]),
    ],
    ids=["object", "field", "gaps", "empty", "subclass", "scalar", "surrogate"],
)
def test_arrays_that_would_not_come_back_are_refused(value: Any) -> None:
    """Objects that no codec takes, fields that are objects, subclasses."""
    with pytest.raises(UnsupportedTypeError):
        Registry(entry_points=False).encode(value, Settings(root=None, strict_types=True))


def test_metadata_of_a_dtype_is_dropped_without_a_word() -> None:
    """numpy itself does not compare it, and warns when it saves."""
    plain = np.dtype("i4", metadata={"k": 1})
    for dtype in (plain, np.dtype([("a", plain)])):
        encoded = NUMPY.encode(np.zeros(2, dtype))
        assert NUMPY.decode(contiguous(encoded), encoded.params).dtype == dtype


@pytest.mark.parametrize(
    "params",
    [
        {"dtype": "<i8", "shape": [2**60, 2**60]},
        {"dtype": "<i8", "shape": [-1]},
        {"dtype": "|O", "shape": [1]},
        {"dtype": "rubbish", "shape": [1]},
        {"dtype": [["a"]], "shape": [1]},
        {"shape": [1]},
        {"dtype": "<i8", "shape": [1] * 100},
        {"dtype": "<i8", "shape": [float("inf")]},
        {"dtype": "<i8", "shape": [1], "class": "memmap"},
        {"dtype": "<i8", "shape": [1], "class": "MaskedArray", "mask": True, "fill": True, "hard": False},
        {"dtype": {"names": ["a"], "formats": [["<i8", []]], "offsets": [2**60], "itemsize": 8}, "shape": [1]},
        {"dtype": "<U0", "shape": [2**60]},
        {"dtype": "|O", "shape": [2**60]},
        {"dtype": "T", "shape": [1]},
    ],
)
def test_a_forged_shape_or_dtype_is_refused_without_allocating(params: dict[str, Any]) -> None:
    """Claims beyond the payload raise DecodeError."""
    with pytest.raises(DecodeError):
        Registry(entry_points=False).codec("numpy").decode(b"12345678", params)


FRAME = pd.DataFrame({"a": [1, 2], "s": ["x", None]})


NAMED = pa.schema([pa.field("a", pa.int64(), metadata={"ARROW:extension:name": "geoarrow.wkb"})])
EXTENSIONS = [
    pa.table({"p": pa.array(pd.period_range("2026-01", periods=2, freq="M"))}),
    pa.table({"l": pa.ListArray.from_arrays([0, 1, 2], pa.array(pd.interval_range(0, 2)))}),
    pa.table({"a": [1]}).cast(NAMED),
    *([pa.table({"u": pa.array([b"0" * 16, None], pa.uuid())})] if hasattr(pa, "uuid") else []),
]
"""Types that pandas registers at first use, at any depth; one that was not registered at the push; pyarrow's own."""


class TestArrow(CodecTests):
    """Tables of the three libraries."""

    VALUES: Sequence[Any] = (
        pl.DataFrame({"a": [1, None], "b": [["x"], []], "c": [{"k": 1}, {"k": 2}]}),
        pl.Series("s", [1.5, None]),
        pa.table({"a": [1, None], "b": ["x", "y"]}),
        pa.record_batch({"a": [1, 2]}),
        pa.record_batch({"a": pa.array([], pa.int8())}),
        *EXTENSIONS,
        pl.DataFrame(),
        pl.Schema(),
        pl.Schema({"a": pl.Int64, "b": pl.List(pl.Enum(["x"])), "c": pl.Datetime("us", "Europe/Paris")}),
        *(pl.Int64, pl.Int64(), pl.List, pl.Datetime, pl.Utf8, pl.Object, pl.Categorical),
        *(pl.List(pl.Int8), pl.Datetime("ms", "UTC"), pl.Enum(["a", "b"]), pl.Struct({"a": pl.Duration("ns")})),
        *(pl.Array(pl.Int8, (2, 3)), pl.Decimal(10, 2), pl.Categorical(pl.Categories("mine")), pl.Null()),
        pl.DataFrame(
            {
                "category": pl.Series(["a", "b"], dtype=pl.Categorical),
                "enum": pl.Series(["x", None], dtype=pl.Enum(["x", "y"])),
                "decimal": pl.Series(["1.10", "2"]).cast(pl.Decimal(10, 2)),
                "array": pl.Series([[1, 2], [3, 4]], dtype=pl.Array(pl.Int8, 2)),
                "nested": [[{"a": [1]}], []],
                "time": pl.Series([1, 2]).cast(pl.Time),
                "zoned": pl.Series([1, 2]).cast(pl.Datetime("us", "Europe/Paris")),
                "wide": pl.Series([1, 2**100], dtype=pl.Int128),
                "null": [None, None],
                "binary": [b"a", b""],
            }
        ),
        pl.DataFrame(),
        pl.DataFrame(schema={"a": pl.Int8, "l": pl.List(pl.Categorical)}),
        pl.concat([pl.DataFrame({"a": ["x"]}), pl.DataFrame({"a": ["y"]})], rechunk=False),
        pl.Series("", []),
        pa.table({"a": [1], "b": [2]}).rename_columns(["a", "a"]).replace_schema_metadata({"k": "v"}),
        pa.table(
            {"d": pa.chunked_array([pa.array(["a", "b"]).dictionary_encode(), pa.array(["c"]).dictionary_encode()])}
        ),
        pa.table({"u": pa.array([{"a": 1}, None]), "m": pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int8()))}),
        pa.table({"v": pa.array(["a", "b"], pa.string_view()), "e": pa.RunEndEncodedArray.from_arrays([1, 2], [1, 2])}),
        pa.array([1, None, 3]),
        pa.array([]),
        pa.array(["a", "b", "a"]).dictionary_encode(),
        pa.array([[1], None])[1:],
        pa.ExtensionArray.from_storage(pa.json_(), pa.array(["{}"])),
        pa.chunked_array([[1], [2, 3]]),
        pa.chunked_array([], pa.int8()),
        pa.scalar(5),
        pa.scalar(None, pa.string()),
        pa.scalar({"a": [1]}),
        pa.schema([pa.field("a", pa.int8(), nullable=False, metadata={"k": "v"})], metadata={"m": "n"}),
        pa.field("x", pa.list_(pa.decimal128(5, 2))),
        pa.timestamp("us", "Europe/Paris"),
        pa.sparse_union([pa.field("a", pa.int8())]),
    )

    @pytest.fixture
    def codec(self) -> Codec:
        return ArrowCodec()

    def equal(self, left: Any, right: Any) -> bool:
        if type(left) is not type(right):
            return False
        if not hasattr(right, "equals"):  # types and schemas of polars
            return bool(left == right) and repr(left) == repr(right)
        if isinstance(right, (pa.Schema, pa.Field)):
            return bool(left.equals(right, check_metadata=True))
        if getattr(left, "type", 0) != getattr(right, "type", 0) or getattr(left, "name", 0) != getattr(
            right, "name", 0
        ):
            return False
        if isinstance(right, pa.Table) and left.to_pylist() == right.to_pylist():
            return bool(left.schema.equals(right.schema, check_metadata=True))  # its dictionaries are made one
        return bool(left.equals(right)) and getattr(left, "schema", 0) == getattr(right, "schema", 0)


def test_a_table_without_columns_keeps_its_rows() -> None:
    """Their number, that is."""
    encoded = ArrowCodec().encode(pa.table({"a": [1, 2]}).select([]))
    assert ArrowCodec().decode(contiguous(encoded), encoded.params).shape == (2, 0)


def test_a_column_that_cannot_be_stored_is_named() -> None:
    """Of polars and of pyarrow."""
    with pytest.raises(UnsupportedTypeError, match="column 'strange' of type Object"):
        ArrowCodec().encode(pl.DataFrame({"fine": [1], "strange": pl.Series([object()], dtype=pl.Object)}))
    empty = pl.Series([[[], []]], dtype=pl.List(pl.Array(pl.Int8, 0)))  # which polars writes and does not read
    with pytest.raises(UnsupportedTypeError, match="column 'strange' of type List"):
        ArrowCodec().encode(pl.DataFrame({"fine": [1], "strange": empty}))
    for column in (pl.Series([object()], dtype=pl.Object), empty):  # before it is computed
        with pytest.raises(UnsupportedTypeError, match="column 'strange' of type"):
            ArrowStreamCodec().encode(pl.LazyFrame({"fine": [1], "strange": column}))
    with pytest.raises(UnsupportedTypeError, match="column 'strange' of type Object"):
        ArrowCodec().encode(pl.Schema({"fine": pl.Int8(), "strange": pl.Object()}))
    with pytest.raises(UnsupportedTypeError, match="Polars does not store Unknown as it is"):
        ArrowCodec().encode(pl.Unknown())


def test_a_class_that_is_no_type_of_polars_is_refused() -> None:
    """A forged name gets nothing else out of the module."""
    encoded = ArrowCodec().encode(pl.List)
    for name in ("read_csv", "Expr", "DataFrame", None, 1, "absent"):
        with pytest.raises(DecodeError, match="has no type"):
            ArrowCodec().decode(contiguous(encoded), {**encoded.params, "class": name})


def test_an_enum_that_an_older_polars_reads_as_a_categorical_is_an_error() -> None:
    """Polars 1.32 does so in a table without rows, such as this one. A type is therefore stored with a row."""
    empty = ArrowCodec().encode(pl.Series("e", [], dtype=pl.Categorical))
    with pytest.raises(DecodeError, match="the Enum 'e' as a Categorical"):
        ArrowCodec().decode(contiguous(empty), {**empty.params, "columns": {"e": "Enum"}})
    assert pl.read_ipc(io.BytesIO(contiguous(ArrowCodec().encode(pl.Enum(["x"]))))).height == 1


@pytest.mark.skipif(not hasattr(pl, "BaseExtension"), reason="This polars has no extension types")
def test_an_extension_type_of_polars_is_refused() -> None:
    """Another process would get the storage, or another type."""
    mine: Any = type("Mine", (pl.BaseExtension,), {"ext_from_params": classmethod(lambda cls, *params: cls(*params))})
    kind = mine("tests.mine", pl.Int64(), None)
    pl.register_extension_type("tests.mine", mine)
    try:
        for value in (
            pl.List(kind),
            pl.Schema({"a": kind}),
            pl.DataFrame(schema={"a": kind}),
            pl.Series([], dtype=kind),
        ):
            with pytest.raises(UnsupportedTypeError, match="does not know where its type is registered"):
                ArrowCodec().encode(value)
    finally:
        pl.unregister_extension_type("tests.mine")


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_arrow_data_that_is_compressed_by_itself_is_refused(compression: str) -> None:
    """A few bytes of it may claim any amount of memory; nothing is decompressed to find out."""
    table = pa.table({"a": ["x" * 1000] * 1000, "d": pa.array(["q"] * 1000).dictionary_encode()})
    options = pa.ipc.IpcWriteOptions(compression=compression)
    for new, read in ((pa.ipc.new_file, ipc.read), (pa.ipc.new_stream, ipc.read_stream)):
        sink = pa.BufferOutputStream()
        with new(sink, table.schema, options=options) as file:
            file.write(table)
        with pytest.raises(DecodeError, match="compressed by itself"):
            read(memoryview(sink.getvalue()))
    written = io.BytesIO()
    pl.from_arrow(table).write_ipc(written, compression=compression)
    with pytest.raises(DecodeError, match="compressed by itself"):
        ArrowCodec().decode(written.getvalue(), {"type": "polars.DataFrame"})


def test_the_envelope_has_a_table_s_columns_and_shape() -> None:
    """The XCom tab shows what a frame is without reading it."""
    params = ArrowCodec().encode(pa.table({"a": [1], "b": ["x"]})).params
    assert params["columns"] == {"a": "int64", "b": "string"}
    assert params["shape"] == [1, 2]


@pytest.mark.parametrize(("library", "value"), [("pandas", "pandas.DataFrame"), ("polars", "polars.DataFrame")])
def test_a_missing_library_is_named_with_its_install_command(library: str, value: str) -> None:
    """On a worker without the library the error says what to install."""
    encoded = Registry(entry_points=False).encode({"pandas": FRAME, "polars": pl.DataFrame({"a": [1]})}[library])
    script = (
        f"import sys; sys.modules[{library!r}] = None\n"
        "from xcargo.codecs import Registry\n"
        f"Registry().decode({encoded.codec!r}, sys.stdin.buffer.read(), {dict(encoded.params)!r})"
    )
    payload = contiguous(encoded)
    done = subprocess.run([sys.executable, "-c", script], input=payload, capture_output=True, check=False)
    assert f"pip install 'airflow-provider-xcargo[{library}]'" in done.stderr.decode()


def test_encoding_ordinary_values_imports_no_heavy_library() -> None:
    """numpy, pandas, pyarrow and polars load only where their values are."""
    script = (
        "import sys\nfrom xcargo.codecs import Registry\n"
        "r = Registry(); e = r.encode({'a': [1, (2,), b'x']}); r.decode(e.codec, e.parts[0], {})\n"
        "print([m for m in ('numpy', 'pandas', 'pyarrow', 'polars', 'fsspec') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class Celsius(pa.ExtensionType):  # type: ignore[misc]
    """A type that only this module could register."""

    def __init__(self) -> None:
        super().__init__(pa.float64(), "tests.celsius")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage: Any, serialized: bytes) -> Any:
        return cls()


CELSIUS = pa.ExtensionArray.from_storage(Celsius(), pa.array([1.5]))
MONTHS = pa.array(pd.period_range("2026-01", periods=2, freq="M"))


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (pa.table({"c": CELSIUS}), "'tests.celsius' of the package tests"),
        (pa.table({"c": CELSIUS}).to_reader(), "'tests.celsius' of the package tests"),
        (pa.table({"s": pa.StructArray.from_arrays([CELSIUS], names=["c"])}), "Column 's' .*'tests.celsius'"),
        (pd.Series(pd.arrays.ArrowExtensionArray(pa.chunked_array([CELSIUS]))), "'tests.celsius'"),
        (pd.Index(pd.arrays.ArrowExtensionArray(pa.chunked_array([CELSIUS]))), "'tests.celsius'"),
        (pd.DataFrame([[1]], columns=pd.arrays.ArrowExtensionArray(pa.chunked_array([CELSIUS]))), "'tests.celsius'"),
        (pa.table({"d": pa.DictionaryArray.from_arrays([0, 1], MONTHS)}), "does not read"),
        (pa.DictionaryArray.from_arrays([0], pa.array(["x"]).dictionary_encode()), "does not read"),
    ],
    ids=["table", "reader", "struct", "series", "index", "labels", "dictionary", "dictionaries"],
)
def test_extension_types_that_a_pull_could_not_register_are_refused(value: Any, why: str) -> None:
    """Another process would get their storage in their place, or nothing."""
    with pytest.raises(UnsupportedTypeError, match=why):
        Registry(entry_points=False).encode(value)


@pytest.mark.parametrize("kind", ["string", "large_string"])
@pytest.mark.parametrize("rows", [10, 2_500_000], ids=["small", "large"])
def test_forged_texts_are_refused(kind: str, rows: int) -> None:
    """Also where all of them are ASCII, and only where one begins is wrong; and a character that two texts share."""
    texts = pa.array(["x" * 8] * rows, kind)
    width = np.int32 if kind == "string" else np.int64
    starts = np.frombuffer(texts.buffers()[1], width)
    back, beyond = starts.copy(), starts.copy()
    back[5], beyond[5] = 3, 2**30
    shared = bytearray(texts.buffers()[2])
    shared[15:17] = "ü".encode()
    for forged in ((back, texts.buffers()[2]), (beyond, texts.buffers()[2]), (starts, shared)):
        column = pa.Array.from_buffers(texts.type, rows, [None, *map(pa.py_buffer, forged)])
        with pytest.raises(DecodeError):
            ipc.read(b"".join(ipc.write(pa.table({"s": column}))))


NOT_UTF8 = pa.array([b"\xff"]).view(pa.string())


@pytest.mark.parametrize(
    "value",
    [
        NOT_UTF8,
        pa.table({"a": [1], "s": pa.chunked_array([["fine"], NOT_UTF8])[1:]}),
        pa.table({"s": NOT_UTF8}).to_reader(),
        pa.DictionaryArray.from_arrays([5], ["a"], safe=False),
        pa.array([1]).view(pa.date64()),
        pd.Series(pd.arrays.ArrowExtensionArray(pa.chunked_array([NOT_UTF8]))),
        pd.DataFrame({"s": pd.Series(pd.array(pa.chunked_array([NOT_UTF8]), "string[pyarrow]"))}),
    ],
    ids=["array", "table", "reader", "code", "day", "series", "frame"],
)
def test_values_that_a_pull_would_refuse_are_refused_by_the_push(value: Any) -> None:
    """A file of others may hold text that is not UTF-8, and Arrow reads it without a word."""
    with pytest.raises(UnsupportedTypeError, match=r"none of its type|cannot be stored"):
        list(Registry(entry_points=False).encode(value).parts)


@pytest.mark.parametrize("params", [{}, {"extensions": ["tests.celsius"]}, {"extensions": 7}])
def test_an_extension_type_that_is_not_registered_is_an_error(params: dict[str, Any]) -> None:
    """Arrow itself would give the storage in its stead, without a word."""
    payload = b"".join(ipc.write(pa.table({"c": CELSIUS})))
    with pytest.raises(MissingDependencyError, match=r"'c'.*'tests\.celsius'"):
        ArrowCodec().decode(payload, {"type": "pyarrow.Table", **params})
