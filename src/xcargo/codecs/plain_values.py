"""Which built-in value an instance of another class equals: of a subclass of dict the dict, of a view the list.

Content is taken by the built-in type's own methods. Where a class overrides these, what it shows must equal it.
"""

from __future__ import annotations

import re
import uuid
from collections import ChainMap, OrderedDict, UserDict, UserList, UserString, deque
from collections.abc import Callable, ItemsView, KeysView, ValuesView
from dataclasses import is_dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from types import MappingProxyType, SimpleNamespace
from typing import Any

from xcargo.errors import UnsupportedTypeError

__all__ = ["class_name", "converter_of", "holds_mutable_buffer", "shown_name", "way_out"]


def class_name(cls: type) -> str:
    """Module and qualified name of a class, of a built-in one the name alone."""
    return f"{cls.__module__}.{cls.__qualname__}".removeprefix("builtins.")


_DAG_FILE = re.compile(r"unusual_prefix_[0-9a-f]{40}_")
"""Airflow begins the name of a Dag file's module like this, which says nothing to people."""


def shown_name(cls: type) -> str:
    """The same for people to read."""
    return _DAG_FILE.sub("", class_name(cls))


def converter_of(cls: type) -> Callable[[Any], Any] | None:
    """What gives the built-in value that an instance equals, of a library's class the plain one of the library.

    None if there is no such value, or if an instance has fields beside it.
    """
    return _builtin_converter(cls) or _library_converter(cls)


_WAYS_OUT = {
    "awkward": "value.to_list()",
    "dask": "value.compute()",
    "duckdb": "value.to_arrow_table()",
    "httpx": "value.json() or value.content",
    "ibis": "value.to_pyarrow()",
    "jax": "numpy.asarray(value)",
    "jaxlib": "numpy.asarray(value)",
    "lxml": "lxml.etree.tostring(value)",
    "networkx": "networkx.node_link_data(value)",
    "pint": "(value.magnitude, str(value.units))",
    "pyspark": "value.toPandas(), or write it and return where",
    "requests": "value.json() or value.content",
    "shapely": "value.wkb",
    "torch": "value.state_dict()",
}
"""Library -> what to return in place of what it makes most."""


def way_out(value: object) -> str:
    """What to return in place of a value that cannot be stored."""
    if isinstance(value, BaseException):
        return "str(value), or raise it"
    library = str(type(value).__module__).partition(".")[0]
    return _WAYS_OUT.get(library, "one of the documented types (dict(value), dataclasses.asdict(value) ...)")


def holds_mutable_buffer(value: Any) -> bool:
    """Whether a value, or what is stored in its place, holds a bytearray or memoryview, which is packed like bytes.

    No option of the packer tells them apart, but orjson passes each one to ``default``. Records of 10 MB encode in
    123 ms with this pass, in 542 ms with a walk in Python instead. It may say yes without need: the value is then
    packed in the exact way, which only takes longer.
    """
    import orjson

    options = orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
    try:
        orjson.dumps(value, default=_probe, option=options)
    except (TypeError, RecursionError):
        return True
    return False


def _probe(value: Any) -> Any:
    if isinstance(value, (bytearray, memoryview)):
        raise TypeError
    if isinstance(value, dict):
        return [list(value), list(value.values())]
    if isinstance(value, SimpleNamespace):
        return [list(vars(value).values())]
    if isinstance(value, slice):
        return [value.start, value.stop, value.step]
    if isinstance(value, (list, tuple, set, frozenset, deque)):
        return list(value)
    cls: Any = type(value)
    convert = None if cls in _ITSELF else _builtin_converter(cls)
    return None if convert is None else convert(value)


_EVERYTHING = slice(None)

_PLAIN: dict[type, Callable[[Any], Any]] = {
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
    complex: complex.__pos__,
    bytes: lambda value: bytes.__getitem__(value, _EVERYTHING),
    bytearray: lambda value: bytearray.__getitem__(value, _EVERYTHING),
    uuid.UUID: lambda value: uuid.UUID(bytes=value.bytes, is_safe=value.is_safe),
    UserString: lambda value: str.__str__(value.data),
}
"""Type -> the instance of exactly this type that an instance of a subclass holds."""

_DICT = ("__iter__", "__getitem__", "__len__", "items", "keys", "values")
_LIST = ("__iter__", "__getitem__", "__len__")
_SET = ("__iter__", "__len__")

_CONTAINERS: dict[type, tuple[Callable[[Any], Any], Callable[[Any], Any], tuple[str, ...]]] = {
    OrderedDict: (lambda value: dict(OrderedDict.items(value)), lambda value: dict(value.items()), _DICT),
    dict: (lambda value: dict(dict.items(value)), lambda value: dict(value.items()), _DICT),
    list: (list.copy, list, _LIST),
    tuple: (lambda value: tuple.__getitem__(value, _EVERYTHING), tuple, _LIST),
    set: (lambda value: set(set.__iter__(value)), set, _SET),
    frozenset: (lambda value: frozenset(frozenset.__iter__(value)), frozenset, _SET),
    deque: (lambda value: deque(deque.__iter__(value), value.maxlen), lambda value: deque(value, value.maxlen), _LIST),
    UserDict: (lambda value: dict(value.data), lambda value: dict(value.items()), _DICT),
    UserList: (lambda value: list(value.data), list, _LIST),
}
"""The same of containers, with what an instance shows of itself, and with the methods that this depends on."""

_VIEWS: tuple[type, ...] = (KeysView, ValuesView, ItemsView, type({}.keys()), type({}.values()), type({}.items()))

_SHOWN: dict[type, Callable[[Any], Any]] = {ChainMap: dict, MappingProxyType: dict, **dict.fromkeys(_VIEWS, list)}
"""The same of what has its content elsewhere."""

_TABLES = ("pandas.DataFrame", "pandas.Series", "pandas.core.frame.DataFrame", "pandas.core.series.Series")
"""Of pandas 3 and 2."""


def _plain_table(value: Any) -> Any:
    """The DataFrame or Series of which a class of a user's is a subclass, over the same columns."""
    import pandas as pd

    plain = (pd.DataFrame if isinstance(value, pd.DataFrame) else pd.Series)(value, copy=False)
    plain.attrs = value.attrs
    return plain if value.flags.allows_duplicate_labels else plain.set_flags(allows_duplicate_labels=False)


_SHOWN_BY_NAME: dict[str, Callable[[Any], Any]] = {
    "requests.structures.CaseInsensitiveDict": lambda value: dict(value.items()),
    **dict.fromkeys(_TABLES, _plain_table),
}


_ITSELF = frozenset((*_PLAIN, *_CONTAINERS)) - {UserString, UserDict, UserList}
"""Types whose instances are stored as they are."""


@lru_cache(maxsize=1000)
def _builtin_converter(cls: type) -> Callable[[Any], Any] | None:
    """What gives the built-in value that an instance equals; None also where it has fields beside that."""
    if is_dataclass(cls) or hasattr(cls, "__attrs_attrs__") or (issubclass(cls, tuple) and hasattr(cls, "_fields")):
        return None
    if class_name(cls) in _TABLES:
        return None
    for base in cls.__mro__:
        if base in _PLAIN:
            return _PLAIN[base]
        if base in _CONTAINERS:
            content, shown, methods = _CONTAINERS[base]
            own = all(getattr(cls, method) is getattr(base, method) for method in methods)
            if own:
                return dict.copy if base is dict else content  # much faster, but asks overridden methods
            return _checked(cls, content, shown)
        show = _SHOWN.get(base) or _SHOWN_BY_NAME.get(class_name(base))
        if show is not None:
            return _checked(cls, show, show)
    return None


def _library_converter(cls: type) -> Callable[[Any], Any] | None:
    """The same of a subclass of a class that has a codec or an extension, and of a drawing."""
    for base in cls.__mro__:
        convert = _OF_LIBRARIES.get(class_name(base))
        if convert is not None:
            return convert if cls is not base or convert is _drawn else None
    return None


def _array(value: Any) -> Any:
    import numpy as np

    if type(value) is not np.memmap and getattr(value, "__dict__", None):
        raise UnsupportedTypeError(
            f"A {class_name(type(value))} is an array with attributes of its own, which would be lost",
            hint="Return np.asarray(value), and beside it what its attributes say.",
        )
    return np.asarray(value)


def _picture(value: Any) -> Any:
    if getattr(value, "is_animated", False):
        raise UnsupportedTypeError(
            f"A {class_name(type(value))} of {value.n_frames} frames cannot be stored",
            hint="Return xcargo.File(path), or value.copy() for the frame that it shows.",
        )
    try:
        return value.copy()
    except Exception as error:  # of the file that it is read from
        raise UnsupportedTypeError(
            f"The {class_name(type(value))} cannot be read: {error}", hint="Call load() before its file is closed."
        ) from error


def _drawn(figure: Any) -> Any:
    """A figure as a file with its PNG."""
    from xcargo.codecs.files import File
    from xcargo.codecs.temporary_folder import temporary_folder

    path = temporary_folder() / "figure.png"
    try:
        figure.savefig(path, format="png")
    except Exception as error:  # artists, and fonts, raise anything
        raise UnsupportedTypeError(
            f"The figure cannot be drawn: {type(error).__name__}: {error}",
            hint="Save it yourself, and return xcargo.File(path).",
        ) from error
    return File(path)


def _datetime(value: Any) -> datetime:
    day = (value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond)
    return datetime(*day, tzinfo=value.tzinfo, fold=value.fold)


_OF_LIBRARIES: dict[str, Callable[[Any], Any]] = {
    "datetime.datetime": _datetime,
    "datetime.date": lambda value: date.fromordinal(value.toordinal()),
    "datetime.timedelta": lambda value: timedelta(value.days, value.seconds, value.microseconds),
    "decimal.Decimal": Decimal,
    "numpy.ndarray": _array,
    "PIL.Image.Image": _picture,
    "matplotlib.figure.Figure": _drawn,
}


def _checked(cls: type, content: Callable[[Any], Any], shown: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Gives what an instance shows. Raises UnsupportedTypeError if that is not the content that it has."""

    def convert(value: Any) -> Any:
        try:
            built_in = shown(value)
            if content is not shown and not built_in == content(value):
                raise ValueError
        except Exception as error:  # a user's methods may raise anything
            raise UnsupportedTypeError(
                f"A {class_name(cls)} does not show the content of the {type(shown).__name__} that it is",
                hint="Return the plain value that you mean, such as dict(value).",
            ) from error
        return built_in

    return convert
