"""Rows: named tuples, whose names and fields suffice to make an equal class where their own cannot be had."""

from __future__ import annotations

import logging
import sys
from collections import namedtuple
from collections.abc import Hashable, Sequence
from functools import lru_cache
from typing import Any, cast

from xcargo.codecs.class_names import ClassNames, attribute
from xcargo.errors import DecodeError, UnsupportedTypeError

__all__ = ["equal_class", "find_class", "is_named_tuple", "make_row", "stored_name"]

log = logging.getLogger(__name__)

_MOST_FIELDS = 10_000


def is_named_tuple(cls: type) -> bool:
    """Whether instances are tuples with a name for each field."""
    return issubclass(cls, tuple) and hasattr(cls, "_fields") and hasattr(cls, "_make")


def stored_name(cls: Any, classes: ClassNames) -> str:
    """The name of a class of named tuples: ``module:qualified name`` of one that can be imported, else without module.

    Raises UnsupportedTypeError for a class of which `equal_class` makes no equal.
    """
    if attribute(sys.modules.get(cls.__module__), cls.__qualname__) is cls:
        return classes.name_of(cls)
    try:
        equal_class(cls.__name__, cls._fields)
    except DecodeError as error:
        raise UnsupportedTypeError(
            f"{cls.__qualname__} cannot be imported from {cls.__module__}, and is not like any named tuple",
            hint="Define the class at the top of a module.",
        ) from error
    return str(cls.__name__)


def find_class(name: str, fields: Sequence[str], *, classes: ClassNames | None) -> Any:
    """The class of a stored name, if it may be rebuilt here; else an equal one of these fields.

    Raises DecodeError if the class has other fields now.
    """
    cls: Any = None
    if ":" in name and classes is not None:
        try:
            cls = classes.class_of(name)
            if cls is None:
                _log_refused(name, cast(Hashable, classes))
        except DecodeError as error:
            _log_equal(name, error.hint or "")
    if cls is None:
        return equal_class(name.rpartition(":")[2].rpartition(".")[2], fields)
    if not is_named_tuple(cls) or list(cls._fields) != list(fields):
        now = f"it has {list(cls._fields)}" if is_named_tuple(cls) else "it is no named tuple"
        raise DecodeError(
            f"The class {name} has changed since the value was stored: it had the fields {list(fields)}, {now}",
            hint="Run the task that pushed the value again.",
        )
    return cls


def equal_class(name: Any, fields: Sequence[Any]) -> Any:
    """A class of named tuples; the same one each time. Raises DecodeError for what cannot be one."""
    if type(name) is not str or len(fields) > _MOST_FIELDS or not all(type(field) is str for field in fields):
        raise DecodeError("The value holds no named tuple")
    return _equal_class(name, tuple(fields))


@lru_cache(maxsize=256)
def _equal_class(name: str, fields: tuple[str, ...]) -> Any:
    define: Any = namedtuple  # noqa: PYI024 - its fields are known now
    try:
        # Such a class may have been made with rename, which calls a field by its position if need be: _1.
        cls = define(name, fields, rename=True, module=__name__)
    except (SyntaxError, ValueError) as error:
        raise DecodeError(f"The value holds no named tuple: {error}") from error
    if cls._fields != fields:
        raise DecodeError("The value holds a named tuple with a field that cannot have its name")
    cls.__reduce__ = lambda row: (make_row, (name, fields, tuple(row)))  # so that it can be pickled and copied
    return cls


def make_row(name: str, fields: Sequence[str], values: Sequence[Any]) -> Any:
    """An instance of `equal_class`."""
    return equal_class(name, fields)._make(values)


@lru_cache(maxsize=256)
def _log_refused(name: str, classes: Any) -> None:
    _log_equal(name, classes.refusal([name]).hint or "")


@lru_cache(maxsize=256)
def _log_equal(name: str, hint: str) -> None:
    """Log it at the first time."""
    log.warning("A named tuple equal to %s was made, without the methods of that class. %s", name, hint)
