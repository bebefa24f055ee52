"""Built-in and standard types at their edges."""

from __future__ import annotations

import datetime as dt
import importlib.resources
import io
import json
import pathlib
import struct
import types
import zoneinfo
from collections import defaultdict
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import dateutil.tz
import numpy as np
import pytest

from xcargo.codecs import Registry
from xcargo.codecs.base import contiguous
from xcargo.errors import UnsupportedTypeError, XCargoError
from xcargo.model.settings import Settings
from xcargo.transfer.description import preview

REGISTRY = Registry(entry_points=False)
HUGE = 10**100_000
"""More digits than Python writes out."""


def round_trip(value: Any, *, strict_types: bool = False) -> Any:
    encoded = REGISTRY.encode(value, Settings(root=None, strict_types=strict_types))
    assert preview(value, 160) is not None
    return REGISTRY.decode(encoded.codec, bytes(contiguous(encoded)), json.loads(json.dumps(dict(encoded.params))))


def bits(number: float) -> bytes:
    return struct.pack("<d", number)


@pytest.mark.parametrize(
    "value",
    [HUGE, -HUGE, [HUGE], {HUGE: 1}, Fraction(HUGE, 3), range(-(2**100), 2**100, 2**90), slice(HUGE, None, (1, 2))],
    ids=["int", "negative", "list", "key", "fraction", "range", "slice"],
)
def test_numbers_of_any_size(value: Any) -> None:
    """Also those that Python refuses to write out in decimal."""
    back = round_trip(value)
    assert type(back) is type(value)
    assert back == value


def test_an_error_beside_a_huge_key_still_has_its_path() -> None:
    """The path to the culprit leaves out what cannot be shown, and runs no code of a key's class."""

    class Evil:
        def __repr__(self) -> str:
            raise RuntimeError

        def __hash__(self) -> int:
            return 1

    with pytest.raises(UnsupportedTypeError, match=r"value\[…\]\['a'\]"):
        round_trip({HUGE: {"a": Evil()}})
    with pytest.raises(UnsupportedTypeError, match="Evil"):
        round_trip({Evil(): 1})


@pytest.mark.parametrize(
    "text", ["sNaN123", "-NaN", "-0", "0E-10", "1E+999999999999", "-Infinity", "1E-999999999999", "1." + "3" * 5000]
)
def test_decimals_keep_every_digit_sign_and_payload(text: str) -> None:
    """What ``==`` does not see too."""
    assert round_trip(Decimal(text)).as_tuple() == Decimal(text).as_tuple()


@pytest.mark.parametrize("pattern", [0x7FF8DEAD0000BEEF, 0xFFF8000000000000, 0xFFF0000000000001])
def test_nan_keeps_its_bits(pattern: int) -> None:
    """Payload, sign and signalling, alone and in a complex number."""
    (nan,) = struct.unpack("<d", struct.pack("<Q", pattern))
    assert bits(round_trip(nan)) == bits(nan)
    assert bits(round_trip({"a": [nan]})["a"][0]) == bits(nan)
    back = round_trip(complex(nan, -0.0))
    assert (bits(back.real), bits(back.imag)) == (bits(nan), bits(-0.0))


def test_keys_that_are_equal_across_types_keep_their_type() -> None:
    """True is not 1, and 1.0 is neither."""
    for key in (True, 1, 1.0, False, 0, -0.0, (1, True), frozenset({1})):
        (back,) = round_trip({key: "x"})
        assert repr(back) == repr(key)


@pytest.mark.parametrize(
    "make",
    [
        lambda: np.arange(4, dtype="i4").reshape(2, 2).data,
        lambda: np.array(5).data,
        lambda: np.zeros(0, "i4").data,
        lambda: memoryview(b"abcd")[::2],
        lambda: memoryview(bytearray(b"ab")),
        lambda: np.zeros(2, "?").data,
    ],
)
def test_memoryviews_keep_format_and_shape(make: Callable[[], memoryview]) -> None:
    """Of every format that bytes can be cast to."""
    view = make()
    back = round_trip(view)
    assert back == view
    assert (back.format, back.shape, back.readonly) == (view.format, view.shape, view.readonly)


def numbered() -> types.SimpleNamespace:
    namespace = types.SimpleNamespace()
    namespace.__dict__[1] = 2  # type: ignore[index]
    return namespace


def tzdata_file(name: str) -> Any:
    return io.BytesIO(importlib.resources.files("tzdata").joinpath("zoneinfo").joinpath(name).read_bytes())


def released() -> memoryview:
    view = memoryview(b"a")
    view.release()
    return view


@pytest.mark.parametrize(
    "value",
    [
        np.arange(3, dtype=">i4").data,
        np.zeros((0, 3)).data,
        {"a": [defaultdict(lambda: 1)]},
        type("Text", (str,), {})("a"),
        {type("Text", (str,), {})("a"): 1},
        [type("Number", (int,), {})(1)],
        type("Rows", (list,), {})(),
        {"x": type("Table", (dict,), {})()},
        type("MyPath", (pathlib.PurePosixPath,), {})("a"),
        NotImplemented,
        numbered(),
        zoneinfo.ZoneInfo.from_file(tzdata_file("Asia/Tokyo"), key="Europe/Paris"),
        [released()],
    ],
    ids=[
        *("endian", "empty", "factory", "str", "key", "int", "list", "dict", "path", "singleton"),
        *("attribute", "zone", "released"),
    ],
)
def test_what_would_come_back_otherwise_is_refused_at_the_push(value: Any) -> None:
    """Never at the pull, when the value is gone. (Otherwise subclasses come back as what they equal.)"""
    with pytest.raises(UnsupportedTypeError):
        round_trip(value, strict_types=True)


def test_a_zone_that_only_a_file_knows_is_refused() -> None:
    """There is nothing to write that finds it again."""
    with pytest.raises(UnsupportedTypeError, match="time zone"):
        round_trip(dt.datetime(2026, 1, 1, tzinfo=dateutil.tz.tzlocal()))


def test_a_forged_zone_opens_no_file() -> None:
    """dateutil would read any path that it is given."""
    from xcargo.codecs.times import restore_timezone

    for name in ("/etc/passwd", "../../etc/passwd", "Europe/../../x"):
        with pytest.raises(XCargoError):
            restore_timezone(["dateutil", name])
