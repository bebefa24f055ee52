"""pandas values come back exactly: compared by pandas' own strict assertions, and by dtype and type of each part."""

from __future__ import annotations

import datetime as dt
import decimal
import importlib
import zoneinfo
from collections.abc import Sequence
from typing import Any

import dateutil.tz
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.pandas import column, data_frames, range_indexes

from xcargo.codecs import Codec, Registry, ipc
from xcargo.codecs.base import contiguous
from xcargo.codecs.source import BytesSource
from xcargo.errors import DecodeError, UnsupportedTypeError
from xcargo.model.settings import Settings
from xcargo.testing import CodecTests, round_trip_in_fresh_process

REGISTRY = Registry(entry_points=False)
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
DAYS = pd.date_range("2026-01-01", periods=3, freq="D")
NAN_AND_NA = pd.arrays.FloatingArray(np.array([np.nan, 1.0]), np.array([False, True]))  # as pandas 2 divides 0 by 0
MORNINGS = pd.date_range("2020-11-01 05:00", periods=3, freq="D", tz="UTC").tz_convert("America/New_York")
"""Their frequency is one that pandas 2 would not set: it keeps it."""
HALVES = pd.interval_range(pd.Timestamp("2026-01-01", tz="Europe/Berlin"), periods=2)


def texts() -> list[Any]:
    """Every kind of text column that this pandas has."""
    if not hasattr(pd.StringDtype("python"), "na_value") or pd.__version__ < "2.3":
        return [pd.StringDtype("python"), pd.StringDtype("pyarrow"), pd.StringDtype("pyarrow_numpy")]
    return [pd.StringDtype(storage, na_value=na) for storage in ("python", "pyarrow") for na in (pd.NA, np.nan)]


def strict(left: Any, right: Any) -> bool:
    """Whether two pandas values are the same in every respect that pandas can tell."""
    assert type(left) is type(right)
    if isinstance(right, pd.DataFrame):
        pd.testing.assert_frame_equal(left, right, check_freq=True, check_flags=True)
        for n in range(right.shape[1]):
            objects(left.iloc[:, n], right.iloc[:, n])
        strict(left.index, right.index)
        strict(left.columns, right.columns)
        assert left.attrs == right.attrs
    elif isinstance(right, pd.Series):
        pd.testing.assert_series_equal(left, right, check_freq=True, check_flags=True)
        objects(left, right)
        strict(left.index, right.index)
        assert left.attrs == right.attrs
        assert type(left.name) is type(right.name)
    elif isinstance(right, pd.Index):
        pd.testing.assert_index_equal(left, right, exact=True)
        assert getattr(left, "freq", None) == getattr(right, "freq", None)
        objects(left, right)
    elif isinstance(right, pd.api.extensions.ExtensionArray):
        pd.testing.assert_extension_array_equal(left, right)
        assert repr(left.dtype) == repr(right.dtype)
    elif right is pd.NaT or right is pd.NA:
        assert left is right
    else:
        assert left == right
        assert repr(left) == repr(right)
        assert getattr(left, "unit", None) == getattr(right, "unit", None)
    return True


def objects(left: Any, right: Any) -> None:
    if right.dtype == object:
        assert [type(x) for x in left] == [type(x) for x in right]
        assert [getattr(x, "fold", 0) for x in left] == [getattr(x, "fold", 0) for x in right]


def frame(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame(columns)


def with_attrs() -> pd.DataFrame:
    value = frame(a=[1])
    value.attrs = {"source": ("s3", 1), "when": dt.date(2026, 1, 1)}
    return value


def labelled(labels: Any) -> pd.DataFrame:
    value = pd.DataFrame(np.arange(2 * len(labels)).reshape(2, -1))
    value.columns = labels
    return value


D_TZ = DAYS.as_unit("us").tz_localize(dateutil.tz.gettz("Europe/Paris"))


class TestPandas(CodecTests):
    """One value of each kind that loses something in Arrow alone, or in JSON."""

    VALUES: Sequence[Any] = (
        frame(i=np.array([1, 2, 3], "i1"), u=np.array([1, 2, 3], "u8"), f=np.array([1.5, np.nan, -0.0], "f4")),
        frame(b=[True, False], h=np.array([1, 2], "f2"), c=[1 + 2j, 3]),
        frame(
            n=pd.array([1, None], "Int8"),
            x=pd.array([1.5, None], "Float32"),
            y=NAN_AND_NA,
            b=pd.array([True, None], "boolean"),
        ),
        frame(s=["a", None, "ü"], t=pd.array(["x", None, ""], "string")),
        frame(o=pd.Series([1, None, "x", 2.5, True], dtype=object)),
        frame(o=pd.Series([1, None], dtype=object), p=pd.Series([None, None], dtype=object)),
        frame(o=pd.Series(["a", None], dtype=object), n=pd.Series(["a", np.nan], dtype=object)),
        frame(o=[[1, 2], [3]], t=[(1,), (2, 3)], d=[{"k": 1}, {}], s=[{1}, set()], y=[b"x", b""]),
        frame(o=[decimal.Decimal("1.10"), decimal.Decimal(2)], d=[dt.date(2026, 1, 1), dt.date(2026, 1, 2)]),
        frame(
            o=pd.Series([np.arange(2), np.arange(3)]), p=pd.Series([pd.Timestamp("2026-01-01"), pd.NaT], dtype=object)
        ),
        frame(t=DAYS, z=DAYS.tz_localize(BERLIN), u=DAYS.tz_localize("UTC"), d=DAYS - DAYS[0]),
        frame(
            t=pd.to_datetime(["2026-01-01", None]).as_unit("s"), m=pd.to_timedelta([1, None], unit="s").as_unit("ms")
        ),
        frame(z=pd.to_datetime(["2026-10-25 00:30", "2026-10-25 01:30"]).tz_localize("UTC").tz_convert(BERLIN)),
        frame(z=DAYS.tz_localize(dt.timezone(dt.timedelta(hours=2)))),
        frame(
            c=pd.Categorical(["x", None, "y"], categories=["y", "x", "z"], ordered=True), e=pd.Categorical([1, 2, 1])
        ),
        frame(p=pd.period_range("2026-01", periods=2, freq="M"), i=pd.interval_range(0, 2)),
        frame(
            a=pd.array([1, None], pd.ArrowDtype(pa.int32())),
            l=pd.array([["x"], []], pd.ArrowDtype(pa.list_(pa.string()))),
        ),
        pd.DataFrame(),
        pd.DataFrame(index=[1, 2]),
        pd.DataFrame(columns=["a", "b"]),
        frame(a=[1.0, 2.0]).iloc[:0],
        frame(a=[1, 2, 3]).iloc[::2],
        with_attrs(),
        frame(a=[1]).set_flags(allows_duplicate_labels=False),
        labelled(["a", "a", "b"]),
        labelled([0, 1]),
        labelled([1, "a", None]),
        labelled(pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["x", None])),
        labelled(pd.date_range("2026-01-01", periods=2)),
        labelled(pd.Index(["a", "b"], name="labels")),
        frame(a=[1, 2]).set_index(pd.Index([0.5, 1.5], name=("t", 1))),
        frame(a=[1, 2, 3]).set_index(DAYS),
        frame(a=[1, 2]).set_index(pd.MultiIndex.from_tuples([(1, "a"), (1, None)], names=["n", "l"])),
        frame(a=[1, 2, 3]).set_index(pd.RangeIndex(5, 11, 2, name="r")),
        pd.Series([1, 2], name="n", index=["a", "b"]),
        pd.Series(["x"], name=7),
        pd.Series([1.5], name=("a", 1)),
        pd.Series([], dtype="float64"),
        pd.Series([1, "x"], index=pd.CategoricalIndex(["p", "q"])),
        pd.Index([1, 2, 3]),
        pd.Index(["a", None], name="i"),
        pd.RangeIndex(3),
        DAYS,
        pd.timedelta_range("1D", periods=3, freq="D"),
        pd.period_range("2026", periods=2, freq="Y"),
        pd.interval_range(0, 3, closed="left"),
        pd.MultiIndex.from_product([[1, 2], ["a"], DAYS]),
        pd.Timestamp("2026-10-26 02:30:00.123456789", tz="Europe/Berlin"),
        pd.Timestamp("2026-10-25 01:30", tz="UTC").tz_convert(BERLIN),
        pd.Timestamp("2026-01-01").as_unit("s"),
        pd.Timedelta("1D 00:00:00.000000001"),
        pd.Period("2026-03", "M"),
        pd.Interval(0, 1.5, closed="both"),
        pd.NaT,
        pd.NA,
        frame(s=pd.arrays.SparseArray([0, 0, 1, np.nan]), n=[1, 2, 3, 4]),
        pd.Series(pd.arrays.SparseArray([1, 1, 2], fill_value=1)),
        pd.Series(pd.arrays.SparseArray([True, False], fill_value=False)),
        pd.Series(pd.arrays.SparseArray([1.0, np.nan, np.nan, 2.0, 3.0], kind="block")),
        pd.Series(pd.arrays.SparseArray([np.nan, np.nan])),
        frame(a=[1, 2, 3]).set_index(
            pd.date_range("2026-01-01", periods=3, freq=pd.offsets.CustomBusinessDay(holidays=["2026-01-02"]))
        ),
        pd.date_range("2026-01-01", periods=3, freq=pd.DateOffset(months=1, day=3)),
        pd.date_range("2026-01-01", periods=3, freq=pd.offsets.BusinessHour(start="08:00", end="12:00")),
        pd.date_range("2026-03-28", periods=3, freq="D", tz="Europe/Berlin"),
        pd.date_range("2026-01-03", periods=3, freq="-1D"),
        pd.offsets.MonthEnd(2),
        pd.offsets.CustomBusinessDay(holidays=["2026-01-02"]),
        pd.Series(np.array([1, 2], ">i4")),
        pd.Series(D_TZ),
        pd.Series(pd.Categorical([(1, 2), (3, 4)])),
        pd.cut(pd.Series([1, 2, 3]), 2),
        pd.PeriodIndex(["2026-01", None], freq="M"),
        pd.IntervalIndex.from_tuples([(0, 1), np.nan]),
        pd.CategoricalIndex(["a", None], ordered=True, categories=["a", "z"]),
        pd.Index([1, "a", None, (1, 2)], dtype=object),
        pd.Index([1, None], dtype="Int64"),
        pd.Index([(1, 2), (3,)], tupleize_cols=False),
        pd.MultiIndex.from_product([[1, 2], ["a", "b"]])[:1],
        pd.MultiIndex.from_arrays([[1.0, np.nan], [None, "x"]]),
        pd.MultiIndex.from_arrays([[], []], names=["a", "b"]),
        frame(s=pd.Series(["a", "b"], dtype=pd.ArrowDtype(pa.dictionary(pa.int8(), pa.string())))),
        frame(s=pd.Series([None], dtype=pd.ArrowDtype(pa.null()))),
        pd.DataFrame([[1]], columns=pd.Index(["\ud800"], dtype=object)),
        pd.DataFrame([[1, 2]], columns=["a\0", "b\n<script>"]),
        frame(o=pd.Series([pd.NaT, pd.NA, None, np.nan, 1, "x", b"y", np.int64(3), {"a": (1,)}], dtype=object)),
        pd.Categorical(["a", None], ordered=True),
        pd.array([1, None], dtype="Int8"),
        pd.array(["a", None], dtype="string"),
        *(
            make(pd.arrays.StringArray(np.array(["a", pd.NA], dtype=object)))
            for make in (pd.Series, pd.Index, pd.array)
        ),
        DAYS.array,
        DAYS.tz_localize("UTC").array,
        DAYS.tz_localize("UTC").array.reshape(3, 1),
        pd.array([1, None, 3, 4], dtype="Int8").reshape(2, 2).T,
        pd.period_range("2026", periods=2, freq="Y").array.reshape(1, 2),
        pd.arrays.SparseArray([0, 1]),
        pd.arrays.IntervalArray.from_breaks([0, 1, 2]),
        pd.period_range("2026", periods=2, freq="Y").array,
        pd.arrays.ArrowExtensionArray(pa.chunked_array([[1], [2]])),
        *(pd.Index(["A", None], dtype=kind, name="t") for kind in texts()),
        *(pd.Series([1, 2], index=pd.Index(["A", None], dtype=kind)) for kind in texts()),
        *(pd.MultiIndex.from_arrays([pd.Index(["A", None], dtype=kind), [1, 2]]) for kind in texts()),
        *(pd.DataFrame([[1]], columns=pd.Index(["A"], dtype=kind)) for kind in texts()),
        *(pd.array(values, dtype=kind) for kind in texts() for values in ([], ["A", None])),
        *texts(),
        pd.DataFrame([[99, 1, 10], [88, 2, 20]], columns=["a", "b", "b"]).groupby("a").describe(),
        pd.concat([frame(a=[1]), frame(a=[2])], axis=1, keys=["k", "k"]),
        pd.MultiIndex.from_arrays([[1], [2]], names=[np.nan, "x"]),
        frame(a=[1]).set_index(pd.MultiIndex.from_arrays([[1], [2]], names=[np.nan, None])),
        pd.RangeIndex(3, name=np.nan),
        MORNINGS,
        pd.Series([1, 2, 3], index=MORNINGS),
        pd.date_range("2020-11-01 05:00", periods=3, freq="MS", tz="UTC").tz_convert("America/New_York"),
        pd.date_range("2020-11-01 01:00", periods=1, freq="D").tz_localize("America/New_York", ambiguous=[False]),
        pd.date_range("2026-01-01", periods=3, freq=pd.offsets.Easter()),
        HALVES,
        frame(i=HALVES, n=[1, 2]),
        HALVES.insert(1, np.nan).array[:0],
        pd.arrays.IntervalArray.from_tuples([(D_TZ[0], D_TZ[1]), np.nan], closed="neither"),
        pd.Series([1, 2]).groupby(pd.cut(pd.Series(DAYS[:2].tz_localize("UTC")), 2), observed=True).sum(),
        pd.cut(pd.Series(DAYS.tz_localize(BERLIN)), 2),
        pd.Series([1, 2, 2.5]).value_counts(bins=2),
        frame(p=pd.period_range("2026-01", periods=2, freq="M"), v=[1, 2]).groupby("p").sum(),
        *(pd.Period("2026-01-05", freq=freq) for freq in ("min", "D", "W-TUE", "Q-JAN", "3M")),
    )

    @pytest.fixture
    def codec(self) -> Codec:
        return REGISTRY.codec("pandas")

    def equal(self, left: Any, right: Any) -> bool:
        return strict(left, right)


OBJECTS: dict[str, list[Any]] = {
    "text": ["a", "b", "ü"],
    "missing-text": ["a", None, ""],
    "nan-text": ["a", float("nan"), ""],
    "two-kinds-of-missing-text": ["a", float("nan"), None],
    "text-and-number": ["a", 1.5, "b"],
    "numpy-number": ["a", np.float64("nan"), "b"],
    "numbers": [1.5, float("nan"), 2.5],
    "nan": [float("nan")] * 3,
    "none": [None] * 3,
    "half-a-character": ["a", "\ud800", "b"],
    "days": [dt.date.min, dt.date(2026, 1, 1), dt.date.max],
    "missing-day": [dt.date(2026, 1, 1), None, dt.date(2026, 1, 3)],
    "texts-that-differ-behind-a-nul": ["a\0b", "a\0c", "a"],
    "times": [dt.datetime.min, None, dt.datetime.max],
    "times-of-day": [dt.time.min, None, dt.time.max],
    "times-with-a-zone": [
        dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc),
        dt.datetime(2026, 1, 1, tzinfo=BERLIN),
        None,
    ],
    "some-times-with-a-zone": [dt.datetime(2026, 1, 1), dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc), None],
    "times-of-day-with-a-zone": [dt.time(5, tzinfo=dt.timezone.utc), None, dt.time(6)],
    "the-second-of-two-times": [dt.datetime(2026, 10, 25, 2, 30), dt.datetime(2026, 10, 25, 2, 30, fold=1), None],
    "timestamps": [pd.Timestamp("2026-01-01"), pd.Timestamp("2026-01-02"), pd.NaT],
    "day-and-time": [dt.date(2026, 1, 1), dt.datetime(2026, 1, 1, 5), None],
}
"""Columns of objects: some go through Arrow in one pass, others that look alike must not."""


@pytest.mark.parametrize("values", OBJECTS.values(), ids=OBJECTS)
@pytest.mark.parametrize("times", [1, 2000], ids=["few", "repeated"])
def test_objects_keep_their_types_and_what_is_missing(values: list[Any], times: int) -> None:
    """Whether their column is long enough to be stored as codes or not."""
    value = frame(o=pd.Series(values * times, dtype=object), i=pd.Series([values[0]] * len(values) * times))
    assert strict(round_trip(value), value)


def test_texts_that_repeat_are_codes_and_read_by_column() -> None:
    """They take a byte a row, and come back by `columns` as in the whole."""
    value = pd.DataFrame({"n": range(6000), "o": pd.Series(["x" * 100, "y", None] * 2000, dtype=object)})
    encoded = REGISTRY.encode(value)
    payload = contiguous(encoded)
    assert len(payload) < 6000 * (8 + 2)
    codec: Any = REGISTRY.codec("pandas")
    assert strict(codec.columns(BytesSource(payload), encoded.params, ["o"]), value[["o"]])


@pytest.mark.parametrize(
    "forged",
    [
        pa.DictionaryArray.from_arrays(pa.array([0] * 6000, pa.int8()), pa.nulls(2**31 - 1)),
        pa.DictionaryArray.from_arrays(pa.array([5] * 6000, pa.int8()), pa.array(["a"]), safe=False),
        pa.DictionaryArray.from_arrays(pa.array([-1] * 6000, pa.int8()), pa.array(["a"]), safe=False),
    ],
    ids=["of-nothing", "beyond", "before"],
)
def test_codes_of_no_texts_are_refused(forged: Any) -> None:
    """A dictionary of other values, that may take any memory, and codes outside it."""
    encoded = REGISTRY.encode(pd.DataFrame({"o": pd.Series(["x", "y", None] * 2000, dtype=object)}))
    table = pa.ipc.open_file(pa.py_buffer(contiguous(encoded))).read_all()
    assert pa.types.is_dictionary(table.schema.types[0])
    forgery = pa.table({"o": forged}).replace_schema_metadata(table.schema.metadata)
    with pytest.raises(DecodeError):
        REGISTRY.decode("pandas", b"".join(ipc.write(forgery)), encoded.params)


def round_trip(value: Any) -> Any:
    encoded = REGISTRY.encode(value)
    return REGISTRY.decode(encoded.codec, bytes(contiguous(encoded)), dict(encoded.params))


@given(
    data_frames(
        [
            column("i", dtype="int64"),
            column("f", dtype="float32"),
            column("b", dtype=bool),
            column("t", dtype="datetime64[ns]"),
            column("o", elements=st.none() | st.text(max_size=5) | st.integers() | st.booleans(), dtype=object),
        ],
        index=range_indexes(max_size=8),
    )
)
def test_any_frame_comes_back_exactly(value: pd.DataFrame) -> None:
    """Values, dtypes, index, and the type of every object."""
    assert strict(round_trip(value), value)


def test_a_frame_comes_back_writable_and_its_own() -> None:
    """Users change frames in place."""
    value = frame(a=[1, 2], s=["x", "y"])
    back = round_trip(value)
    back.loc[0, "a"] = 7
    back["s"] = back["s"] + "!"
    assert back["a"].tolist() == [7, 2]
    assert value["a"].tolist() == [1, 2]


def test_the_object_is_an_ordinary_arrow_file() -> None:
    """Other tools read columns by their names."""
    encoded = REGISTRY.encode(frame(number=[1, 2], text=["a", "b"]))
    table = pa.ipc.open_file(pa.py_buffer(contiguous(encoded))).read_all()
    assert table.column_names == ["number", "text"]
    assert table.column("number").to_pylist() == [1, 2]


def test_a_column_that_arrow_cannot_hold_is_named() -> None:
    """With its dtype and the way out."""

    class Strange(pd.api.extensions.ExtensionDtype):  # type: ignore[misc]
        name = "strange"
        type = object

    class StrangeArray(pd.api.extensions.ExtensionArray):  # type: ignore[misc]
        dtype = Strange()

        def __len__(self) -> int:
            return 1

        def copy(self) -> Any:
            return self

        def __arrow_array__(self, **_: Any) -> Any:
            raise pa.ArrowNotImplementedError("no")

    with pytest.raises(UnsupportedTypeError, match=r"Column 'odd' of dtype strange"):
        REGISTRY.encode(frame(fine=[1], odd=pd.Series(StrangeArray())))


def test_times_of_foreign_byte_order_are_refused() -> None:
    """pandas would make a column of this machine's byte order of them."""
    value = frame(fine=[1, 2])
    value["odd"] = pd.Series(np.array([1, 2], "m8[s]")).array.view(">m8[s]")
    with pytest.raises(UnsupportedTypeError, match="Column 'odd' of dtype >m8"):
        REGISTRY.encode(value)


class ForeignArray(pd.arrays.IntegerArray):  # type: ignore[misc]
    """An array of a package whose dtypes no task knows to register."""

    dtype = property(lambda self: Foreign())


class Foreign(pd.api.extensions.ExtensionDtype):  # type: ignore[misc]
    name = "foreign"
    type = int


def test_a_dtype_of_an_unknown_package_is_refused() -> None:
    """Another process would not know what to import; the error names column, dtype and package."""
    with pytest.raises(UnsupportedTypeError, match=r"Column 'f' of dtype foreign .* does not know to import tests"):
        REGISTRY.encode(frame(f=pd.Series(ForeignArray(np.array([1, 2]), np.zeros(2, bool)))))


def test_columns_of_db_dtypes_come_back_in_another_process() -> None:
    """What BigQuery returns; nothing there has imported the package."""
    importlib.import_module("db_dtypes")
    days = pd.Series([dt.date(2024, 1, 1), None, dt.date(1700, 1, 1)], dtype="dbdate")
    times = pd.Series([dt.time(1, 2, 3, 4), None], dtype="dbtime", index=["a", "b"])
    both = [
        frame(d=days, n=[1, 2, 3]),
        times,
        days[:0],
        pd.Index(days),
        days.array,
        days.dtype,
        days.groupby(days).count(),
    ]
    json = pd.Series(['{"a": 1}', None], dtype="dbjson")
    for back, value in zip(
        round_trip_in_fresh_process(REGISTRY.codec("pandas"), [*both, json]), [*both, json], strict=True
    ):
        assert strict(back, value)


class Sales(pd.DataFrame):  # type: ignore[misc]
    """A frame that adds methods, and an attribute of its own."""

    _metadata = ("region",)

    @property
    def _constructor(self) -> Any:
        return Sales

    def __getitem__(self, key: Any) -> Any:
        raise AssertionError("its own methods are not asked")


class Track(pd.Series):  # type: ignore[misc]
    @property
    def _constructor(self) -> Any:
        return Track


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Sales({"a": [1]}).__finalize__(with_attrs()), with_attrs()),
        (
            Sales({"a": [1]}).set_flags(allows_duplicate_labels=False),
            frame(a=[1]).set_flags(allows_duplicate_labels=False),
        ),
        (Track([1, 2], name="t", index=DAYS[:2]), pd.Series([1, 2], name="t", index=DAYS[:2])),
    ],
    ids=["frame", "flags", "series"],
)
def test_a_subclass_comes_back_as_the_plain_class(value: Any, plain: Any, caplog: pytest.LogCaptureFixture) -> None:
    """By itself and inside other values, and the log says so; with strict_types it is refused."""
    assert strict(round_trip(value), plain)
    assert strict(round_trip({"a": [value, value]})["a"][1], plain)
    assert all(f"{type(value).__name__} as {type(plain).__name__}" in line for line in caplog.messages)
    assert len(caplog.messages) == 2
    with pytest.raises(UnsupportedTypeError, match="strict_types"):
        REGISTRY.encode(value, settings=Settings(root=None, strict_types=True))


def test_times_of_the_machine_s_own_zone_are_refused() -> None:
    """Where the value is pulled, that may be another zone."""
    with pytest.raises(UnsupportedTypeError, match=r"column 't'.*own time zone.*tz_convert"):
        REGISTRY.encode(frame(t=DAYS.tz_localize(dateutil.tz.tzlocal())))


def test_an_open_dtype_is_refused() -> None:
    """One without categories would come back with none: another dtype."""
    with pytest.raises(UnsupportedTypeError, match="leaves something open"):
        REGISTRY.encode(pd.CategoricalDtype())


def test_codes_outside_their_level_are_refused() -> None:
    """pandas would read memory that is not its own."""
    codec = REGISTRY.codec("pandas")
    encoded = codec.encode(pd.MultiIndex.from_tuples([(1, "a"), (2, "b")]))
    table = pa.ipc.open_file(pa.py_buffer(contiguous(encoded))).read_all()
    forged = table.set_column(0, table.schema.names[0], pa.array([0, 100], table.column(0).type))
    with pytest.raises(DecodeError, match="outside its level"):
        codec.decode(b"".join(ipc.write(forged)), encoded.params)


@pytest.mark.parametrize("forge", [lambda n: pa.nulls(n), lambda n: pa.RunEndEncodedArray.from_arrays([n], [1])])
def test_a_column_of_a_type_that_takes_up_more_than_its_bytes_is_refused(forge: Any) -> None:
    """A terabyte of nothing in a few bytes of Arrow."""
    codec = REGISTRY.codec("pandas")
    for value in (frame(a=[1]), frame(s=pd.Series(["x"], dtype=object)), frame(n=pd.array([1], "Int64"))):
        encoded = codec.encode(value)
        table = pa.ipc.open_file(pa.py_buffer(contiguous(encoded))).read_all()
        huge = pa.table({table.schema.names[0]: forge(2**31 - 1)}).replace_schema_metadata(table.schema.metadata)
        with pytest.raises(DecodeError):
            codec.decode(b"".join(ipc.write(huge)), encoded.params)


def test_the_envelope_has_a_table_s_columns_and_shape() -> None:
    """The XCom tab shows what a frame is, without reading it; a wide one does not flood the row."""
    params = REGISTRY.encode(frame(a=[1], t=DAYS[:1])).params
    assert params["shape"] == [1, 2]
    assert params["columns"]["a"] == "int64"
    assert len(REGISTRY.encode(pd.DataFrame(np.zeros((1, 500)))).params["columns"]) == 64


@pytest.mark.parametrize("pack", [bytearray, bytes], ids=["writable", "read-only"])
def test_a_large_frame_can_be_written_to_wherever_its_columns_lie(pack: Any) -> None:
    """Numbers stay in a download's own memory; from other memory they are copied. Neither is the pushed frame's."""
    rows = 150_000
    value = frame(
        n=np.arange(rows),
        x=np.arange(rows) / 2,
        t=pd.date_range("2026-01-01", periods=rows, freq="s"),
        b=np.arange(rows) % 2 == 0,
        k=pd.array(np.arange(rows), "Int64"),
        c=pd.Categorical(["a", "b"] * (rows // 2)),
        s=["x"] * rows,
        none=np.full(rows, np.nan),
    )
    before = value.copy(deep=True)
    encoded = REGISTRY.encode(value)
    payload = pack(b"".join(encoded.parts))
    back = REGISTRY.decode(encoded.codec, memoryview(payload), encoded.params)
    pd.testing.assert_frame_equal(back, value)
    for name in back.columns:
        back.loc[0, name] = back.loc[1, name]
        column = REGISTRY.decode("pandas", memoryview(pack(b"".join(REGISTRY.encode(value[name]).parts))), {})
        column.iloc[0] = column.iloc[1]
        assert column.iloc[0] == column.iloc[1] or name == "none"
    assert back["x"].sum() == value["x"].sum() + 0.5
    pd.testing.assert_frame_equal(value, before)


def test_the_pieces_of_a_large_frame_are_its_columns_own_memory() -> None:
    """Nothing is copied to push it."""
    column = np.arange(200_000)
    pieces = list(REGISTRY.encode(pd.DataFrame({"n": column}, copy=False)).parts)
    largest = np.frombuffer(max(pieces, key=len), dtype=column.dtype)
    assert np.shares_memory(largest, column)
