"""Built-in types beyond JSON, each under a number of its own inside a tree.

``EXTENSIONS`` maps an exact type to its tag and to a function that gives what to pack; ``RESTORE`` maps a tag back.
Tags are append-only. Nothing here imports a name that it finds in a payload.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import pathlib
import re
import sys
import uuid
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

from xcargo.errors import DecodeError, MissingDependencyError, UnsupportedTypeError

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


def _big_int(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 8) // 8, "little", signed=True)


def _timezone(zone: dt.tzinfo | None) -> list[Any] | None:
    """A time zone as what rebuilds it: its name in the tz database, or its fixed offset."""
    if zone is None:
        return None
    kind = f"{type(zone).__module__}.{type(zone).__qualname__}"
    if isinstance(zone, dt.timezone):
        offset = zone.utcoffset(None)
        name = zone.tzname(None)
        plain = dt.timezone(offset).tzname(None)
        return ["offset", _microseconds(offset), None if name == plain else name]
    if isinstance(zone, zoneinfo.ZoneInfo) and kind.startswith("zoneinfo") and zone.key:
        return ["zone", zone.key]
    if kind.startswith("pendulum."):
        if kind.endswith(".FixedTimezone"):
            return ["pendulum-offset", _microseconds(zone.utcoffset(None)) // 1_000_000]
        return ["pendulum", getattr(zone, "name", None) or str(zone)]
    if kind.startswith("pytz"):
        place = getattr(zone, "zone", None)
        return ["pytz", place] if place else ["pytz-offset", _microseconds(zone.utcoffset(None)) // 60_000_000]
    raise UnsupportedTypeError(
        f"A time zone of type {kind} has no name or fixed offset to store",
        hint="Use zoneinfo.ZoneInfo, datetime.timezone or pendulum.",
    )


def _restore_timezone(spec: Any) -> dt.tzinfo | None:
    if spec is None:
        return None
    kind, *args = spec
    if kind == "offset":
        offset = dt.timedelta(microseconds=args[0])
        if args[1] is not None:
            return dt.timezone(offset, args[1])
        return dt.timezone(offset) if offset else dt.timezone.utc
    if kind == "zone":
        try:
            return zoneinfo.ZoneInfo(args[0])
        except zoneinfo.ZoneInfoNotFoundError as error:
            raise MissingDependencyError(
                f"The time zone {args[0]!r} is not known on this machine", hint="Run: pip install tzdata"
            ) from error
    if kind == "pytz":
        return _library("pytz").timezone(args[0])  # type: ignore[no-any-return]
    if kind == "pytz-offset":
        return _library("pytz").FixedOffset(args[0])  # type: ignore[no-any-return]
    pendulum = _library("pendulum")
    if kind == "pendulum-offset":
        return pendulum.timezone(int(args[0]))  # type: ignore[no-any-return]
    if kind == "pendulum":
        return pendulum.timezone(args[0])  # type: ignore[no-any-return]
    raise DecodeError(f"Unknown kind of time zone {kind!r}")


def _library(name: str) -> Any:
    try:
        return __import__(name)
    except ImportError as error:
        raise MissingDependencyError(
            f"The value needs the package {name!r}, which is not installed here", hint=f"Run: pip install {name}"
        ) from error


def _microseconds(delta: dt.timedelta | None) -> int:
    return 0 if delta is None else delta // dt.timedelta(microseconds=1)


def _datetime(moment: dt.datetime) -> list[Any]:
    zone = _timezone(moment.tzinfo)
    if zone is not None and zone[0] == "pytz":  # each pytz instance is one offset of its zone: keep the instant
        zone = [*zone, _microseconds(moment.utcoffset())]
    return [
        moment.year,
        moment.month,
        moment.day,
        moment.hour,
        moment.minute,
        moment.second,
        moment.microsecond,
        moment.fold,
        zone,
    ]


def _restore_datetime(fields: Any) -> dt.datetime:
    *parts, fold, zone = fields
    naive = dt.datetime(*parts, fold=fold)  # noqa: DTZ001 - its zone is set below
    if zone is not None and zone[0] == "pytz":
        tz: Any = _restore_timezone(zone[:2])
        return tz.fromutc(naive - dt.timedelta(microseconds=zone[2]))  # type: ignore[no-any-return]
    return naive.replace(tzinfo=_restore_timezone(zone))


def _restore_pendulum(fields: Any) -> Any:
    *parts, fold, zone = fields
    return _library("pendulum").DateTime(*parts, tzinfo=_restore_timezone(zone), fold=fold)


def _time(moment: dt.time) -> list[Any]:
    return [moment.hour, moment.minute, moment.second, moment.microsecond, moment.fold, _timezone(moment.tzinfo)]


def _restore_time(fields: Any) -> dt.time:
    hour, minute, second, microsecond, fold, zone = fields
    return dt.time(hour, minute, second, microsecond, _restore_timezone(zone), fold=fold)


def _restore_path(fields: Any) -> pathlib.PurePath:
    number, text = fields
    foreign = pathlib.PosixPath if sys.platform == "win32" else pathlib.WindowsPath
    if _PATHS[number] is foreign:
        number -= 2  # the other system's path comes back in its pure form
    path: pathlib.PurePath = _PATHS[number](text)
    return path


_FACTORIES: tuple[Any, ...] = (None, list, dict, set, tuple, int, float, str, bool, deque, Counter, OrderedDict)


def _default_dict(mapping: defaultdict[Any, Any]) -> list[Any]:
    if mapping.default_factory not in _FACTORIES:
        raise UnsupportedTypeError(
            "A defaultdict whose default_factory is not a built-in type cannot be stored",
            hint="Return dict(value).",
        )
    return [_FACTORIES.index(mapping.default_factory), list(mapping.keys()), list(mapping.values())]


def _memoryview(view: memoryview) -> list[Any]:
    return [view.tobytes(), view.format, list(view.shape or ()), view.readonly]


def _restore_memoryview(fields: Any) -> memoryview:
    data, format_, shape, readonly = fields
    view = memoryview(data if readonly else bytearray(data))
    if format_ == "B" and len(shape) == 1:
        return view
    return view.cast(format_, shape) if shape else view.cast(format_)


def _pattern(pattern: re.Pattern[Any]) -> list[Any]:
    return [pattern.pattern, pattern.flags]


def _decimal(number: Decimal) -> str:
    return str(number)  # str() is exact for every Decimal: digits, exponent, sign, NaN payload


EXTENSIONS: dict[type, tuple[int, Callable[[Any], Any]]] = {
    tuple: (Tag.TUPLE, list),
    set: (Tag.SET, list),
    frozenset: (Tag.FROZENSET, list),
    int: (Tag.INT, _big_int),
    complex: (Tag.COMPLEX, lambda c: [c.real, c.imag]),
    bytearray: (Tag.BYTEARRAY, bytes),
    Decimal: (Tag.DECIMAL, _decimal),
    Fraction: (Tag.FRACTION, lambda f: [f.numerator, f.denominator]),
    dt.datetime: (Tag.DATETIME, _datetime),
    dt.date: (Tag.DATE, dt.date.toordinal),
    dt.time: (Tag.TIME, _time),
    dt.timedelta: (Tag.TIMEDELTA, lambda d: [d.days, d.seconds, d.microseconds]),
    dt.timezone: (Tag.TIMEZONE, _timezone),
    zoneinfo.ZoneInfo: (Tag.TIMEZONE, _timezone),
    uuid.UUID: (Tag.UUID, lambda u: [u.bytes, u.is_safe.value]),
    range: (Tag.RANGE, lambda r: [r.start, r.stop, r.step]),
    slice: (Tag.SLICE, lambda s: [s.start, s.stop, s.step]),
    deque: (Tag.DEQUE, lambda d: [list(d), d.maxlen]),
    OrderedDict: (Tag.ORDERED_DICT, lambda d: [list(d.keys()), list(d.values())]),
    Counter: (Tag.COUNTER, lambda d: [list(d.keys()), list(d.values())]),
    re.Pattern: (Tag.PATTERN, _pattern),
    defaultdict: (Tag.DEFAULT_DICT, _default_dict),
    memoryview: (Tag.MEMORYVIEW, _memoryview),
    type(...): (Tag.ELLIPSIS, lambda _: None),
    **{cls: (Tag.PATH, lambda p, n=n: [n, str(p)]) for n, cls in enumerate(_PATHS)},  # type: ignore[misc]
    **{cls: (Tag.IP, lambda a, n=n: [n, str(a)]) for n, cls in enumerate(_IPS)},  # type: ignore[misc]
}
"""Exact type -> (tag, function giving what is packed under it)."""

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
    Tag.DATETIME: _restore_datetime,
    Tag.DATE: dt.date.fromordinal,
    Tag.TIME: _restore_time,
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
    Tag.TIMEZONE: _restore_timezone,
    Tag.PENDULUM: _restore_pendulum,
    Tag.ELLIPSIS: lambda _: ...,
    Tag.DEFAULT_DICT: lambda f: defaultdict(_FACTORIES[f[0]], zip(f[1], f[2], strict=True)),
    Tag.MEMORYVIEW: _restore_memoryview,
}


def extension_of(value: object) -> tuple[int, Callable[[Any], Any]] | None:
    """Tag and pack function of a value's exact type, or None. Time zones count of whatever class they are."""
    found = EXTENSIONS.get(type(value))
    if found is not None:
        return found
    if isinstance(value, dt.tzinfo):
        return Tag.TIMEZONE, _timezone
    if isinstance(value, dt.datetime) and str(type(value).__module__).startswith("pendulum."):
        return Tag.PENDULUM, _datetime
    return None
