"""Built-in types beyond JSON, each under a number of its own inside a tree.

``EXTENSIONS`` maps an exact type to its tag and to a function that gives what to pack; ``RESTORE`` maps a tag back.
Tags are append-only. Nothing here imports a name that is in a payload.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import pathlib
import re
import sys
import time
import types
import uuid
import zoneinfo
from array import array
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

from xcargo.codecs import times
from xcargo.errors import UnsupportedTypeError

__all__ = ["EXTENSIONS", "RESTORE", "Tag", "extension_of"]


class Tag:
    """Extension numbers of MessagePack, 0 to 127."""

    CODEC = 0
    TUPLE = 1
    SET = 2
    FROZENSET = 3
    INT = 4
    COMPLEX = 5
    TEXT = 6
    BYTEARRAY = 7
    DECIMAL = 8
    FRACTION = 9
    DATETIME = 10
    DATE = 11
    TIME = 12
    TIMEDELTA = 13
    UUID = 14
    PAIRS = 15
    NESTED = 16
    RANGE = 17
    SLICE = 18
    DEQUE = 19
    ORDERED_DICT = 20
    COUNTER = 21
    PATH = 22
    IP = 23
    PATTERN = 24
    TIMEZONE = 25
    PENDULUM = 26
    ELLIPSIS = 27
    DEFAULT_DICT = 28
    MEMORYVIEW = 29
    PENDULUM_DATE = 30
    PENDULUM_TIME = 31
    PENDULUM_DURATION = 32
    PENDULUM_INTERVAL = 33
    ARRAY = 34
    NAMESPACE = 35
    STRUCT = 36
    PART = 48


_PATHS: tuple[type[pathlib.PurePath], ...] = (
    pathlib.PurePosixPath,
    pathlib.PureWindowsPath,
    pathlib.PosixPath,
    pathlib.WindowsPath,
)
_IPS: tuple[type, ...] = (
    ipaddress.IPv4Address,
    ipaddress.IPv6Address,
    ipaddress.IPv4Network,
    ipaddress.IPv6Network,
    ipaddress.IPv4Interface,
    ipaddress.IPv6Interface,
)
_STRUCTS: tuple[Any, ...] = (time.struct_time, os.stat_result, os.terminal_size, getattr(os, "statvfs_result", None))
"""Classes of the interpreter that are a tuple with more fields behind it."""


def _big_int(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 8) // 8, "little", signed=True)


def _restore_path(fields: Any) -> pathlib.PurePath:
    number, text = fields
    foreign = pathlib.PosixPath if sys.platform == "win32" else pathlib.WindowsPath
    if _PATHS[number] is foreign:
        number -= 2  # the other system's path comes back in its pure form
    path: pathlib.PurePath = _PATHS[number](text)
    return path


_FACTORIES: tuple[Any, ...] = (
    *(None, list, dict, set, tuple, int, float, str, bool, deque, Counter, OrderedDict),
    *(defaultdict, frozenset, bytes, bytearray, complex, Decimal, Fraction),
)


def _default_dict(mapping: defaultdict[Any, Any]) -> list[Any]:
    for number, factory in enumerate(_FACTORIES):
        if mapping.default_factory is factory:
            return [number, list(mapping.keys()), list(mapping.values())]
    raise UnsupportedTypeError(
        "A defaultdict whose default_factory is not a built-in type cannot be stored",
        hint="Return dict(value).",
    )


def _pairs(mapping: OrderedDict[Any, Any] | Counter[Any]) -> list[Any]:
    if vars(mapping):
        raise UnsupportedTypeError(
            "A dictionary with attributes beside its items cannot be stored", hint="Return the attributes beside it."
        )
    return [list(mapping.keys()), list(mapping.values())]


def _memoryview(view: memoryview) -> list[Any]:
    shape = list(view.shape or ())
    if not re.fullmatch("[cbBhHiIlLqQnNfdP?]", view.format.removeprefix("@")) or (len(shape) > 1 and 0 in shape):
        raise UnsupportedTypeError(
            f"A memoryview of format {view.format!r} and shape {tuple(shape)} cannot be rebuilt from bytes",
            hint="Return bytes(value), or the object it is a view of.",
        )
    return [view.tobytes(), view.format, shape, view.readonly]


def _restore_memoryview(fields: Any) -> memoryview:
    data, format_, shape, readonly = fields
    view = memoryview(data if readonly else bytearray(data))
    if len(shape) == 1:
        return view if format_ == "B" else view.cast(format_)
    return view.cast(format_, shape)


def _restore_array(fields: Any) -> array[Any]:
    typecode, itemsize, data = fields
    if array(typecode).itemsize != itemsize:  # the size of a C type is the machine's
        raise ValueError(typecode)
    return array(typecode, data)


def _namespace(value: types.SimpleNamespace) -> dict[Any, Any]:
    fields = vars(value)
    if not all(isinstance(name, str) for name in fields):
        raise UnsupportedTypeError("An attribute of a SimpleNamespace is not text", hint="Return vars(value).")
    return fields


def _struct(value: Any) -> list[Any]:
    values, more = value.__reduce__()[1]
    return [_STRUCTS.index(type(value)), list(values), more]


def _restore_struct(fields: Any) -> Any:
    number, values, more = fields
    if type(values) is not list or type(more) is not dict:
        raise TypeError(number)
    return _STRUCTS[number](values, more)


EXTENSIONS: dict[type, tuple[int, Callable[[Any], Any]]] = {
    tuple: (Tag.TUPLE, list),
    set: (Tag.SET, list),
    frozenset: (Tag.FROZENSET, list),
    int: (Tag.INT, _big_int),
    complex: (Tag.COMPLEX, lambda c: [c.real, c.imag]),
    bytearray: (Tag.BYTEARRAY, bytes),
    Decimal: (Tag.DECIMAL, str),  # exact: digits, exponent, sign, NaN payload
    Fraction: (Tag.FRACTION, lambda f: [f.numerator, f.denominator]),
    dt.datetime: (Tag.DATETIME, times.pack_datetime),
    dt.date: (Tag.DATE, dt.date.toordinal),
    dt.time: (Tag.TIME, times.pack_time),
    dt.timedelta: (Tag.TIMEDELTA, lambda d: [d.days, d.seconds, d.microseconds]),
    dt.timezone: (Tag.TIMEZONE, times.pack_timezone),
    zoneinfo.ZoneInfo: (Tag.TIMEZONE, times.pack_timezone),
    uuid.UUID: (Tag.UUID, lambda u: [u.bytes, u.is_safe.value]),
    range: (Tag.RANGE, lambda r: [r.start, r.stop, r.step]),
    slice: (Tag.SLICE, lambda s: [s.start, s.stop, s.step]),
    deque: (Tag.DEQUE, lambda d: [list(d), d.maxlen]),
    OrderedDict: (Tag.ORDERED_DICT, _pairs),
    Counter: (Tag.COUNTER, _pairs),
    re.Pattern: (Tag.PATTERN, lambda p: [p.pattern, p.flags]),
    defaultdict: (Tag.DEFAULT_DICT, _default_dict),
    memoryview: (Tag.MEMORYVIEW, _memoryview),
    type(...): (Tag.ELLIPSIS, lambda _: None),
    array: (Tag.ARRAY, lambda a: [a.typecode, a.itemsize, a.tobytes()]),
    types.SimpleNamespace: (Tag.NAMESPACE, _namespace),
    **{cls: (Tag.PATH, lambda p, n=n: [n, str(p)]) for n, cls in enumerate(_PATHS)},  # type: ignore[misc]
    **{cls: (Tag.STRUCT, _struct) for cls in _STRUCTS if cls is not None},
    **{cls: (Tag.IP, lambda a, n=n: [n, str(a)]) for n, cls in enumerate(_IPS)},  # type: ignore[misc]
}
"""Exact type -> (tag, function giving what is packed under it)."""

_PENDULUM: dict[str, tuple[int, Callable[[Any], Any]]] = {
    "DateTime": (Tag.PENDULUM, times.pack_datetime),
    "Date": (Tag.PENDULUM_DATE, dt.date.toordinal),
    "Time": (Tag.PENDULUM_TIME, times.pack_time),
    "Duration": (Tag.PENDULUM_DURATION, times.pack_duration),
    "Interval": (Tag.PENDULUM_INTERVAL, times.pack_interval),
    "Period": (Tag.PENDULUM_INTERVAL, times.pack_interval),
}
"""The same for pendulum, by the name of the class, so that nothing imports it."""

RESTORE: dict[int, Callable[[Any], Any]] = {
    Tag.TUPLE: tuple,
    Tag.SET: set,
    Tag.FROZENSET: frozenset,
    Tag.INT: lambda b: int.from_bytes(b, "little", signed=True),
    Tag.COMPLEX: lambda f: complex(*f),
    Tag.TEXT: lambda b: b.decode("utf-8", "surrogatepass"),
    Tag.BYTEARRAY: bytearray,
    Tag.DECIMAL: Decimal,
    Tag.FRACTION: lambda f: Fraction(*f),
    Tag.DATETIME: times.restore_datetime,
    Tag.DATE: dt.date.fromordinal,
    Tag.TIME: times.restore_time,
    Tag.TIMEDELTA: lambda f: dt.timedelta(*f),
    Tag.UUID: lambda f: uuid.UUID(bytes=f[0], is_safe=uuid.SafeUUID(f[1])),
    Tag.PAIRS: lambda f: dict(zip(f[0], f[1], strict=True)),
    Tag.NESTED: lambda value: value,
    Tag.RANGE: lambda f: range(*f),
    Tag.SLICE: lambda f: slice(*f),
    Tag.DEQUE: lambda f: deque(f[0], f[1]),
    Tag.ORDERED_DICT: lambda f: OrderedDict(zip(f[0], f[1], strict=True)),
    Tag.COUNTER: lambda f: Counter(dict(zip(f[0], f[1], strict=True))),
    Tag.PATH: _restore_path,
    Tag.IP: lambda f: _IPS[f[0]](f[1]),
    Tag.PATTERN: lambda f: re.compile(f[0], f[1]),
    Tag.TIMEZONE: times.restore_timezone,
    Tag.PENDULUM: times.restore_pendulum,
    Tag.ELLIPSIS: lambda _: ...,
    Tag.DEFAULT_DICT: lambda f: defaultdict(_FACTORIES[f[0]], zip(f[1], f[2], strict=True)),
    Tag.MEMORYVIEW: _restore_memoryview,
    Tag.PENDULUM_DATE: times.restore_pendulum_date,
    Tag.PENDULUM_TIME: times.restore_pendulum_time,
    Tag.PENDULUM_DURATION: times.restore_duration,
    Tag.PENDULUM_INTERVAL: times.restore_interval,
    Tag.ARRAY: _restore_array,
    Tag.STRUCT: _restore_struct,
    Tag.NAMESPACE: lambda state: types.SimpleNamespace(**state),
}


def extension_of(value: object) -> tuple[int, Callable[[Any], Any]] | None:
    """Tag and pack function of a value's exact type, or None. Time zones count of whatever class they are."""
    extension = EXTENSIONS.get(type(value))
    if extension is not None:
        return extension
    cls = type(value)
    if issubclass(cls, dt.tzinfo):
        return Tag.TIMEZONE, times.pack_timezone
    return _PENDULUM.get(cls.__name__) if str(cls.__module__).startswith("pendulum.") else None
