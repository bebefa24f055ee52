"""pandas values come back exactly: compared by pandas' own strict assertions, and by dtype and type of each part."""

from __future__ import annotations

import datetime as dt
import decimal
import zoneinfo
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.pandas import column, data_frames, range_indexes

from xcargo.codecs import Codec, Registry
from xcargo.codecs.base import contiguous
from xcargo.errors import DecodeError, UnsupportedTypeError
from xcargo.testing import CodecTests

REGISTRY = Registry(entry_points=False)
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
DAYS = pd.date_range("2026-01-01", periods=3, freq="D")


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


class TestPandas(CodecTests):
    """One value of each kind that loses something in Arrow alone, or in JSON."""

    VALUES: Sequence[Any] = (
        frame(i=np.array([1, 2, 3], "i1"), u=np.array([1, 2, 3], "u8"), f=np.array([1.5, np.nan, -0.0], "f4")),
        frame(b=[True, False], h=np.array([1, 2], "f2"), c=[1 + 2j, 3]),
        frame(n=pd.array([1, None], "Int8"), x=pd.array([1.5, None], "Float32"), b=pd.array([True, None], "boolean")),
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
    )

    @pytest.fixture
    def codec(self) -> Codec:
        return REGISTRY.codec("pandas")

    def equal(self, left: Any, right: Any) -> bool:
        return strict(left, right)


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


def test_an_object_that_nothing_can_store_is_named_with_its_column() -> None:
    """The path leads into the frame."""
    with pytest.raises(UnsupportedTypeError, match=r"object"):
        REGISTRY.encode(frame(fine=[1, 2], strange=[object(), 1]))


def test_sparse_columns_are_refused_by_name() -> None:
    """With the way out."""
    with pytest.raises(UnsupportedTypeError, match=r"'s'.*to_dense"):
        REGISTRY.encode(frame(s=pd.arrays.SparseArray([0, 0, 1])))


def test_a_table_tells_its_columns_and_shape_in_the_envelope() -> None:
    """The XCom tab shows what a frame is, without reading it; a wide one does not flood the row."""
    params = REGISTRY.encode(frame(a=[1], t=DAYS[:1])).params
    assert params["shape"] == [1, 2]
    assert params["columns"]["a"] == "int64"
    assert len(REGISTRY.encode(pd.DataFrame(np.zeros((1, 500)))).params["columns"]) == 64


@pytest.mark.parametrize("cut", [0, 1, 10, 100, -1, -50])
def test_a_damaged_table_is_a_decode_error(cut: int) -> None:
    """Truncated Arrow data raises nothing of Arrow's own."""
    encoded = REGISTRY.encode(frame(a=[1, 2], s=["x", None]))
    with pytest.raises(DecodeError):
        REGISTRY.decode(encoded.codec, bytes(contiguous(encoded))[:cut], encoded.params)
