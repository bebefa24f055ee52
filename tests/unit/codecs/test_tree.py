"""The tree codec: nested Python values, exactly."""

from __future__ import annotations

import array
import datetime as dt
import ipaddress
import pathlib
import re
import sqlite3
import types
import uuid
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from types import SimpleNamespace
from typing import Any, TypedDict

import dateutil.tz
import numpy as np
import pandas as pd
import pendulum
import pytest
import pytz
from hypothesis import given
from hypothesis import strategies as st

from xcargo.codecs import Codec, Registry
from xcargo.codecs.base import contiguous
from xcargo.codecs.tree import Streaming
from xcargo.errors import DecodeError, UnsupportedTypeError
from xcargo.testing import CodecTests

REGISTRY = Registry(entry_points=False)


def round_trip(value: Any, registry: Registry = REGISTRY) -> Any:
    encoded = registry.encode(value)
    return registry.decode(encoded.codec, bytes(contiguous(encoded)), dict(encoded.params))


def same(left: Any, right: Any) -> bool:
    """Equal in value, type, order and, at every depth, the type of each part; NaN equals itself."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return len(left) == len(right) and all(
            same(a, b) and same(left[a], right[b]) for a, b in zip(left, right, strict=True)
        )
    if isinstance(left, (list, tuple, deque)):
        return len(left) == len(right) and all(same(a, b) for a, b in zip(left, right, strict=True))
    if isinstance(left, (set, frozenset)):
        return left == right and {type(x) for x in left} == {type(x) for x in right}
    return bool(left == right) if isinstance(left, sqlite3.Row) else repr(left) == repr(right)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**200), 2**200),
    st.floats(),
    st.complex_numbers(),
    st.text(st.characters(exclude_categories=[])),
    st.binary(),
    st.binary().map(bytearray),
    st.decimals(allow_nan=False),
    st.fractions(),
    st.datetimes(timezones=st.none() | st.just(dt.timezone.utc) | st.timezones()),
    st.datetimes(timezones=st.builds(dt.timezone, st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23)))),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.uuids(),
    st.ip_addresses(),
)
HASHABLE = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.binary(), st.dates(), st.uuids()),
    lambda inner: st.tuples(inner) | st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=4,
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.lists(inner, max_size=4).map(deque),
        st.dictionaries(st.text(), inner, max_size=4),
        st.dictionaries(HASHABLE, inner, max_size=4),
        st.dictionaries(st.text(), inner, max_size=3).map(OrderedDict),
        st.sets(HASHABLE, max_size=3),
    ),
    max_leaves=20,
)


@given(VALUES)
def test_any_nesting_of_builtin_values_comes_back_exactly(value: Any) -> None:
    """Equal, of the same types at every depth, in the same order."""
    assert same(round_trip(value), value)


SUMMER = pytz.timezone("Europe/Berlin").localize(dt.datetime(2026, 7, 1))


class Row(TypedDict):
    b: int
    a: tuple[int, ...]


class TestTreeCodec(CodecTests):
    """The shipped suite, over one value of each kind."""

    VALUES: Sequence[Any] = (
        None,
        {"a": [1, 2.5, "x", None, True]},
        (1, (2, [3])),
        {1: "a", (1, 2): "b", None: 3},
        2**200,
        -(2**63) - 1,
        1e300,
        -0.0,
        "\ud800 and \0",
        {"k": bytearray(b"x")},
        Decimal("3.141592653589793238462643383279502884197"),
        Decimal("0.10"),
        Decimal("-Infinity"),
        Fraction(1, 3),
        dt.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
        dt.datetime(2026, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=2), "X")),
        dt.time(1, 2, 3, 4, tzinfo=dt.timezone.utc),
        dt.timedelta(days=-1, microseconds=1),
        dt.timezone.utc,
        zoneinfo.ZoneInfo("Asia/Tokyo"),
        uuid.UUID(int=5),
        range(0, 10, 3),
        slice(1, None),
        deque([1, 2], maxlen=3),
        OrderedDict(b=1, a=2),
        Counter("abca"),
        pathlib.PurePosixPath("/a/b"),
        pathlib.PureWindowsPath("C:\\a"),
        pathlib.Path("x"),
        re.compile("a+", re.IGNORECASE),
        ipaddress.ip_network("10.0.0.0/8"),
        ipaddress.ip_interface("::1/64"),
        ...,
        pendulum.datetime(2026, 7, 1, tz="Europe/Paris"),
        SUMMER,
        SUMMER.replace(month=1),  # still of the offset of summer
        SUMMER.timetz(),
        SUMMER.tzinfo,
        dt.datetime(2026, 7, 1, tzinfo=pytz.timezone("Europe/Berlin")),  # of the first offset that the zone had
        pytz.timezone("Europe/Berlin"),
        pytz.UTC,
        pytz.FixedOffset(90),
        Row(b=1, a=(1,)),
        OrderedDict([("b", 1), ("a", {2: 3})]),
        deque(maxlen=0),
        defaultdict(None, a=1),
        defaultdict(defaultdict, a=defaultdict(frozenset)),
        re.compile(r"(?i)a"),
        re.compile(rb"a", re.LOCALE),
        re.compile("ü", re.ASCII | re.VERBOSE | re.DOTALL | re.MULTILINE),
        dt.timezone(dt.timedelta(0), "UTC"),
        dt.timezone(dt.timedelta(microseconds=-1)),
        dt.datetime(2026, 1, 1, fold=1),
        pathlib.PurePosixPath("//a/../b"),
        pathlib.PurePosixPath("a\udcff"),
        pathlib.PureWindowsPath("C:a"),
        ipaddress.ip_address("fe80::1%eth0"),
        ipaddress.ip_network("::/0"),
        ipaddress.ip_interface("1.2.3.4/8"),
        array.array("d", [1.5, float("inf")]),
        types.SimpleNamespace(a=1, b=(2,)),
        dateutil.tz.tzutc(),
        dt.datetime(2026, 1, 1, tzinfo=dateutil.tz.tzoffset("X", 3600)),
        dt.datetime(2026, 7, 1, tzinfo=dateutil.tz.gettz("Europe/Paris")),
        pendulum.date(2026, 1, 1),
        pendulum.time(1, 2, 3, 4),
        pendulum.duration(years=1, months=2, days=3, hours=-1, microseconds=7),
        pendulum.datetime(2026, 1, 1) - pendulum.datetime(2027, 1, 1),
        pendulum.naive(2026, 1, 1),
        pendulum.datetime(2026, 1, 1, tz=2),
    )

    @pytest.fixture
    def codec(self) -> Codec:
        return REGISTRY.codec("msgpack")

    def equal(self, left: Any, right: Any) -> bool:
        return same(left, right)


@pytest.mark.parametrize("depth", [254, 255, 256, 400])
def test_deep_nesting_is_carried(depth: int) -> None:
    """Deeper than the packer's own limit, lists, dicts and tuples."""
    value: Any = []
    for n in range(depth):
        value = [value] if n % 3 else {"k": value}
    assert round_trip(value) == value


@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: {"k": v}, lambda v: (v,)], ids=["list", "dict", "tuple"])
def test_a_value_of_too_many_levels_is_refused(wrap: Any) -> None:
    """10,000 levels raise UnsupportedTypeError and nothing worse."""
    deep: Any = 0
    for _ in range(10_000):
        deep = wrap(deep)
    with pytest.raises(UnsupportedTypeError, match="nested too deeply"):
        round_trip(deep)


def test_frames_and_arrays_live_inside_other_values() -> None:
    """Every codec works at any depth, in its own format."""
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", None]})
    array = np.arange(6, dtype="<i2").reshape(2, 3)
    back = round_trip({"parts": [(frame, array)], "blob": b"\0\1", "scalar": np.float32(1.5)})
    pd.testing.assert_frame_equal(back["parts"][0][0], frame)
    np.testing.assert_array_equal(back["parts"][0][1], array)
    assert back["parts"][0][1].dtype == array.dtype
    assert back["blob"] == b"\0\1"
    assert type(back["scalar"]) is np.float32


@pytest.mark.parametrize(
    "value",
    [
        SimpleNamespace(a=bytearray(b"x")),
        [SimpleNamespace(a=SimpleNamespace(b=[bytearray(b"x")]))],
        {"s": slice(None, bytearray(b"x"))},
        OrderedDict(a=(bytearray(b"x"),)),
        [defaultdict[int, Any](list, {1: bytearray(b"x")})],
        deque([{"a": memoryview(b"x")}]),
        {(1, 2): bytearray(b"x")},
        {"numbers": [n / 7 for n in range(5000)], "raw": (b"x", [bytearray(b"x")])},
    ],
    ids=lambda value: type(value).__name__,
)
def test_bytearrays_are_found_in_every_container(value: Any) -> None:
    """The packer takes them for bytes; they come back as what they are."""
    address = re.compile(" at 0x[0-9a-f]+")  # in the text of a memoryview
    assert address.sub("", repr(round_trip(value))) == address.sub("", repr(value))


@given(st.integers(0, 127), st.binary(max_size=40))
def test_hostile_extensions_raise_only_decode_errors(tag: int, body: bytes) -> None:
    """A forged extension of any number does no more."""
    payload = b"\xc7" + bytes([len(body), tag]) + body
    try:
        REGISTRY.decode("msgpack", payload, {})
    except (DecodeError, ImportError):  # an unknown codec id is a missing dependency
        return


STREAMED = Registry(entry_points=False)
"""Packs lists and dictionaries of four items or more while they are stored, two or so at a time."""
STREAMED.tree.streaming = Streaming(least_items=4, sample_items=4, least_bytes=0, chunk_bytes=20)


@given(st.lists(VALUES, min_size=4) | st.dictionaries(st.text() | HASHABLE, VALUES, min_size=4))
def test_long_values_that_are_packed_in_chunks_come_back_exactly(value: Any) -> None:
    """As in one piece; whatever their items are, and their keys."""
    assert same(round_trip(value, STREAMED), value)


@pytest.mark.parametrize("count", [16, 65_535, 65_536])
def test_a_payload_packed_in_chunks_is_the_one_packed_at_once(count: int) -> None:
    """Byte for byte, for every length that the packer writes in another way; and it is taken piece by piece."""
    for value in ([{"n": n} for n in range(count)], {str(n): n for n in range(count)}):
        encoded = STREAMED.encode(value)
        assert encoded.size_bytes is None
        pieces = list(encoded.parts)
        assert len(pieces) > 2
        assert b"".join(pieces) == REGISTRY.tree.pack(value)


def test_an_error_in_a_later_chunk_has_the_path_in_the_whole() -> None:
    """Not in the chunk."""
    for value, path in (
        ([*range(9), [object()]], r"value\[9\]\[0\]"),
        ({**{str(n): n for n in range(9)}, "x": object()}, r"value\['x'\]"),
    ):
        with pytest.raises(UnsupportedTypeError, match=path):
            list(STREAMED.encode(value).parts)
    endless: list[Any] = list(range(9))
    endless.append(endless)
    with pytest.raises(UnsupportedTypeError, match=r"itself|deep"):
        list(STREAMED.encode(endless).parts)


def test_a_list_that_grows_while_it_is_stored_is_refused() -> None:
    """Its payload would not hold what it says."""
    value: list[int] = list(range(9))
    pieces = iter(STREAMED.encode(value).parts)
    next(pieces)
    value.append(9)
    with pytest.raises(UnsupportedTypeError, match="changed its size"):
        list(pieces)
