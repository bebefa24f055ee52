"""Dates, times and time zones as plain numbers and names, of the standard library, pendulum, pytz and dateutil."""

from __future__ import annotations

import datetime as dt
import re
import zoneinfo
from functools import lru_cache
from importlib import import_module
from pickle import PicklingError
from typing import Any

from xcargo.errors import DecodeError, MissingDependencyError, UnsupportedTypeError

__all__ = [
    "pack_datetime",
    "pack_duration",
    "pack_interval",
    "pack_time",
    "pack_timezone",
    "restore_datetime",
    "restore_duration",
    "restore_interval",
    "restore_pendulum",
    "restore_pendulum_date",
    "restore_pendulum_time",
    "restore_time",
    "restore_timezone",
]

_ZONE_NAME = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")


def pack_timezone(zone: dt.tzinfo | None) -> list[Any] | None:
    """The name of a time zone in the tz database, or its fixed offset, with the library that it is of."""
    if zone is None:
        return None
    if type(zone) is zoneinfo.ZoneInfo:
        return _pack_zoneinfo(zone)
    kind = f"{type(zone).__module__}.{type(zone).__qualname__}"
    if isinstance(zone, dt.timezone):
        offset = zone.utcoffset(None)
        name = zone.tzname(None)
        unnamed = zone is dt.timezone.utc or repr(zone) == repr(dt.timezone(offset))
        return ["offset", _microseconds(offset), None if unnamed else name]
    if kind.startswith("pendulum."):
        if kind.endswith(".FixedTimezone"):
            return ["pendulum-offset", _microseconds(zone.utcoffset(None)) // 1_000_000]
        return ["pendulum", getattr(zone, "name", None) or str(zone)]
    if kind.startswith("pytz"):
        key = getattr(zone, "zone", None)
        if not key:
            return ["pytz-offset", _microseconds(zone.utcoffset(None)) // 60_000_000]
        if zone is _library("pytz").timezone(key):
            return ["pytz", key]
        return ["pytz", *zone.__reduce__()[1]]  # each instance is one offset of its zone
    if kind.startswith("pydantic_core."):  # of the datetimes that pydantic reads out of text
        return ["pydantic-offset", _microseconds(zone.utcoffset(None)) // 1_000_000]
    packed = _pack_dateutil(zone, kind) if kind.startswith("dateutil.tz") else None
    if kind.endswith("tz.tzlocal"):
        raise UnsupportedTypeError(
            "The machine's own time zone (dateutil's tzlocal) may be another one where the value is pulled",
            hint="Convert the times to a named zone: tz_convert('UTC'), astimezone(timezone.utc).",
        )
    if packed is None:
        raise UnsupportedTypeError(
            f"A time zone of type {kind} has no name or fixed offset to store",
            hint="Use zoneinfo.ZoneInfo, datetime.timezone or pendulum.",
        )
    return packed


@lru_cache(maxsize=64)
def _pack_zoneinfo(zone: zoneinfo.ZoneInfo) -> list[Any]:
    try:
        zone.__reduce__()
    except PicklingError:
        raise UnsupportedTypeError(
            "A time zone that was read from a file has no name by which another task finds it",
            hint="Use zoneinfo.ZoneInfo(key).",
        ) from None
    return ["zone", zone.key]


def _pack_dateutil(zone: Any, kind: str) -> list[Any] | None:
    cls = kind.rpartition(".")[2]
    if cls == "tzutc":
        return ["dateutil-utc"]
    if cls == "tzoffset":
        return ["dateutil-offset", zone.tzname(None), _microseconds(zone.utcoffset(None))]
    if cls == "tzfile":  # has the path of its file, which its pickle holds, and no name
        name = str(zone.__reduce__()[1][1])
        for folder in (*zoneinfo.TZPATH, *getattr(_library("dateutil.tz"), "TZPATHS", ())):  # 3.0 has none
            name = name.removeprefix(f"{folder}/")
        return ["dateutil", name] if _ZONE_NAME.fullmatch(name) else None
    return None


def restore_timezone(spec: Any) -> dt.tzinfo | None:
    """The time zone of `pack_timezone`."""
    if spec is None:
        return None
    kind, *args = spec
    if kind == "offset":
        offset = dt.timedelta(microseconds=args[0])
        return dt.timezone(offset) if args[1] is None else dt.timezone(offset, args[1])
    if kind == "zone":
        try:
            return zoneinfo.ZoneInfo(args[0])
        except zoneinfo.ZoneInfoNotFoundError as error:
            raise _unknown_zone(args[0]) from error
    if kind == "pytz":
        return _library("pytz.tzinfo").unpickler(*args)  # type: ignore[no-any-return]
    if kind == "pytz-offset":
        return _library("pytz").FixedOffset(args[0])  # type: ignore[no-any-return]
    if kind == "pendulum-offset":
        return _library("pendulum").timezone(int(args[0]))  # type: ignore[no-any-return]
    if kind == "pendulum":
        return _library("pendulum").timezone(args[0])  # type: ignore[no-any-return]
    if kind == "pydantic-offset":
        return _library("pydantic_core").TzInfo(args[0])  # type: ignore[no-any-return]
    if kind == "dateutil-utc":
        return _library("dateutil.tz").tzutc()  # type: ignore[no-any-return]
    if kind == "dateutil-offset":
        return _library("dateutil.tz").tzoffset(args[0], dt.timedelta(microseconds=args[1]))  # type: ignore[no-any-return]
    if kind == "dateutil" and _ZONE_NAME.fullmatch(args[0]):
        zone = _library("dateutil.tz").gettz(args[0])
        if zone is None:
            raise _unknown_zone(args[0])
        return zone  # type: ignore[no-any-return]
    raise DecodeError(f"Unknown kind of time zone {kind!r}")


def _unknown_zone(name: Any) -> MissingDependencyError:
    return MissingDependencyError(
        f"The time zone {name!r} is not known on this machine", hint="Run: pip install tzdata"
    )


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        package = {"dateutil.tz": "python-dateutil"}.get(name, name.partition(".")[0])
        raise MissingDependencyError(
            f"The value needs the package {package!r}, which is not installed here", hint=f"Run: pip install {package}"
        ) from error


def _microseconds(delta: dt.timedelta | None) -> int:
    return 0 if delta is None else delta // dt.timedelta(microseconds=1)


def pack_datetime(moment: dt.datetime) -> list[Any]:
    """Fields, fold and zone."""
    return [
        moment.year,
        moment.month,
        moment.day,
        moment.hour,
        moment.minute,
        moment.second,
        moment.microsecond,
        moment.fold,
        pack_timezone(moment.tzinfo),
    ]


def restore_datetime(fields: Any) -> dt.datetime:
    """The datetime of `pack_datetime`."""
    *parts, fold, zone = fields
    naive = dt.datetime(*parts, fold=fold)  # noqa: DTZ001 - its zone is set below
    return naive.replace(tzinfo=restore_timezone(zone))


def pack_time(moment: dt.time) -> list[Any]:
    """Fields, fold and zone."""
    zone = pack_timezone(moment.tzinfo)
    return [moment.hour, moment.minute, moment.second, moment.microsecond, moment.fold, zone]


def restore_time(fields: Any) -> dt.time:
    """The time of `pack_time`."""
    hour, minute, second, microsecond, fold, zone = fields
    return dt.time(hour, minute, second, microsecond, restore_timezone(zone), fold=fold)


def restore_pendulum(fields: Any) -> Any:
    """A pendulum.DateTime from `pack_datetime`."""
    *parts, fold, zone = fields
    return _library("pendulum").DateTime(*parts, tzinfo=restore_timezone(zone), fold=fold)


def restore_pendulum_date(ordinal: Any) -> Any:
    """A pendulum.Date from its ordinal."""
    return _library("pendulum").Date.fromordinal(ordinal)


def restore_pendulum_time(fields: Any) -> Any:
    """A pendulum.Time from `pack_time`."""
    *parts, fold, zone = fields
    return _library("pendulum").Time(*parts, restore_timezone(zone), fold=fold)


def pack_duration(duration: Any) -> list[int]:
    """Years and months, which have no fixed length, and the rest in microseconds."""
    years, months = duration.years, duration.months
    rest = _microseconds(duration.as_timedelta()) - (years * 365 + months * 30) * 86_400_000_000
    return [years, months, rest]


def restore_duration(fields: Any) -> Any:
    """The pendulum.Duration of `pack_duration`."""
    years, months, rest = fields
    return _library("pendulum").Duration(years=years, months=months, microseconds=rest)


def pack_interval(interval: Any) -> list[Any]:
    """Both ends, and whether it counts forwards only."""
    start, end, absolute = interval.__reduce__()[1]  # as a pickle of it: no attribute has the last one
    return [start, end, bool(absolute)]


def restore_interval(fields: Any) -> Any:
    """The pendulum.Interval of `pack_interval` (called Period by pendulum 2)."""
    pendulum = _library("pendulum")
    cls: Any = getattr(pendulum, "Interval", None) or pendulum.Period
    return cls(*fields)
