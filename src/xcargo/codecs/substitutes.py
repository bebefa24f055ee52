"""Built-in values in place of values that no codec takes: a database's row as the dict that it equals.

Whether a codec takes a value is asked first. What is left, instances of subclasses of built-in types above all, is
stored as a plain value unless ``strict_types`` refuses it, and one line in the log says where that was done. Iterators
are stored as the list that they give.
"""

from __future__ import annotations

import inspect
import io
import logging
import uuid
from collections import ChainMap, OrderedDict, UserDict, UserList, UserString, deque
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, ValuesView
from contextvars import ContextVar
from dataclasses import is_dataclass
from functools import cached_property, lru_cache
from itertools import chain, groupby, islice
from types import GeneratorType, MappingProxyType, SimpleNamespace
from typing import Any, Protocol

import ormsgpack

from xcargo.codecs.builtin import EXTENSIONS, Tag
from xcargo.codecs.value_path import TooDeepError, first_path, names_part, shift_index
from xcargo.errors import SizeLimitError, UnsupportedTypeError, XCargoError
from xcargo.model.settings import Settings
from xcargo.types import Buffer

__all__ = ["CURRENT", "Packer", "Push", "current_push", "holds_mutable_buffer"]

log = logging.getLogger(__name__)

_ITERATOR_BYTES = 256 * 1024 * 1024
"""What the items of an iterator may take, packed, where ``max_size_bytes`` sets no limit: it may have no end."""
_CHUNK_BYTES = 256 * 1024
_SEARCHED = 10_000
"""Parts of a value among which the first one of a class is looked for."""
_NAMED_CLASSES = 5


class Packer(Protocol):
    """The tree codec, as far as it is needed here."""

    def pack(self, value: Any) -> bytes:
        """A value as bytes."""


class Push:
    """One push: its settings, and which built-in values it stores in place of others.

    Nothing of it is made before it is needed: most pushes store every value as it is.

    Attributes:
        settings: What applies to the value; None stands for the defaults.
        mask: Hides secrets in what the log shows of the value.
        first: Class -> the first instance in whose place a built-in value is stored, and the type of that.
    """

    settings: Settings | None = None
    mask: Callable[[str], str] = staticmethod(str)
    first: dict[type, tuple[Any, str]] | None = None

    @cached_property
    def converters(self) -> dict[type, Callable[[Any], Any]]:
        """Class -> what gives the built-in value, from the second instance of the class on without asking codecs."""
        return {}

    @cached_property
    def _packed(self) -> dict[int, tuple[Any, ormsgpack.Ext]]:
        """Id of an iterator -> itself, so that no other value gets that id, and its items."""
        return {}

    @cached_property
    def _opened(self) -> dict[int, tuple[Any, list[Any], Iterator[Any]]]:
        """Id of a generator -> itself, its first item, and all of its items."""
        return {}

    @property
    def encrypts(self) -> bool:
        """Whether the payload is stored encrypted, wherever it goes. (One that may stay in its row is not.)"""
        return self.settings is not None and bool(self.settings.encryption_key) and self.settings.threshold_bytes == 0

    def substitute(self, value: Any, refusal: UnsupportedTypeError, *, tree: Packer) -> Any:
        """What is stored in place of a value for which every codec raised ``refusal``; raises that if nothing is.

        Content is taken by the built-in type's own methods. Where a class overrides these, what it shows must equal it.
        """
        cls: Any = type(value)
        if inspect.isawaitable(value) or inspect.isasyncgen(value):
            raise _not_awaited(value) from None
        convert = _converter(cls) or _library_converter(cls)
        if (convert is None and not _is_iterator(value)) or names_part(refusal) or isinstance(refusal, TooDeepError):
            raise refusal
        if self.settings is not None and self.settings.strict_types:
            refusal.hint = f"{refusal.hint or ''} ([xcargo] strict_types refuses what only equals such a type.)".strip()
            raise refusal
        built_in = self._iterated(value, tree) if convert is None else convert(value)
        self.first = self.first or {}
        self.first.setdefault(cls, (value, "list" if convert is None else type(built_in).__name__))
        if convert is not None and cls not in EXTENSIONS:
            self.converters[cls] = convert
        return built_in

    def opened(self, generator: GeneratorType[Any, None, None]) -> tuple[list[Any], Iterator[Any]]:
        """The first item of a generator, if it gives one, and all of its items: the same at each call."""
        known = self._opened.get(id(generator))
        if known is None:
            if generator.gi_frame is None:
                raise UnsupportedTypeError(
                    "The generator has ended before it was stored", hint="Return one that was not used."
                )
            first = list(islice(generator, 1))
            known = self._opened[id(generator)] = generator, first, chain(first, generator)
        return known[1], known[2]

    def _iterated(self, iterator: Any, tree: Packer) -> ormsgpack.Ext:
        """The items of an iterator as a list, packed at the first call."""
        known = self._packed.get(id(iterator))
        if known is None:
            items = self.opened(iterator)[1] if type(iterator) is GeneratorType else iterator
            packed = self._pack_items(items, type(iterator), tree)
            known = self._packed[id(iterator)] = iterator, ormsgpack.Ext(Tag.NESTED, packed)
        return known[1]

    def _pack_items(self, items: Iterator[Any], cls: type, tree: Packer) -> bytes:
        """The items as a packed list. Memory holds that and some items; raises SizeLimitError if it is too long."""
        limit_bytes = (self.settings and self.settings.max_size_bytes) or _ITERATOR_BYTES
        bodies, count, size_bytes = [b"\xdd"], 0, 0
        chunk_items, most_items = 1, 1 if cls is groupby else 4096  # its items end when it goes on
        while chunk := _take(items, chunk_items, cls):
            try:
                packed = tree.pack(chunk)
            except UnsupportedTypeError as error:
                shift_index(error, count)
                raise
            count += len(chunk)
            size_bytes += len(packed)
            if size_bytes > limit_bytes:
                raise SizeLimitError(
                    f"The {_name(cls)} gave more than {limit_bytes} bytes, and it may have no end",
                    hint="Return list(value) if it has one and all of it is to be stored, or raise max_size_bytes.",
                )
            bodies.append(packed[1 if len(chunk) < 16 else 3 :])
            chunk_items = min(most_items, 2 * chunk_items) if len(packed) < _CHUNK_BYTES else max(1, chunk_items // 2)
        bodies.insert(1, count.to_bytes(4, "big"))
        return b"".join(bodies)

    def report(self, value: Any) -> None:
        """Say in the log which classes of ``value``, now that all of it is encoded, come back as built-in types."""
        named = []
        for cls, (part, built_in) in islice((self.first or {}).items(), _NAMED_CLASSES):
            path = first_path(value, part, most=_SEARCHED)
            named.append(f"{_name(cls)} as {built_in}" + ("" if path is None else f" (value{self.mask(path)})"))
        more = len(self.first or ()) - len(named)
        log.warning(
            "xcargo stores %s%s: the next task gets the built-in type. [xcargo] strict_types = True refuses this",
            ", ".join(named),
            f" and {more} more classes as such" if more else "",
        )

    def resumed(self, parts: Iterable[Buffer], value: Any) -> Iterator[Buffer]:
        """The parts of a payload that is an iterator, each made as a part of this push; at their end the report."""
        rest = iter(parts)
        while True:
            token = CURRENT.set(self)
            try:
                part = next(rest, None)
            finally:
                CURRENT.reset(token)
            if part is None:
                break
            yield part
        if self.first:
            self.report(value)


CURRENT: ContextVar[Push] = ContextVar("xcargo_push")
"""The push under way."""


def current_push() -> Push:
    """The push under way in this context; outside of one, a push by default settings."""
    return CURRENT.get(None) or Push()


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
    convert = None if cls in _ITSELF else _converter(cls)
    return None if convert is None else convert(value)


def _take(items: Iterator[Any], count: int, cls: type) -> list[Any]:
    try:
        return list(islice(items, count))
    except XCargoError:
        raise
    except Exception as error:  # of a user's code
        raise UnsupportedTypeError(
            f"The {_name(cls)} raised {type(error).__name__} while it was stored",
            hint="Return list(value): its error then says where.",
        ) from error


def _is_iterator(value: Any) -> bool:
    """Whether it gives its items once. A file does too, and is none."""
    return isinstance(value, Iterator) and not isinstance(value, io.IOBase) and not hasattr(value, "read")


def _not_awaited(value: Any) -> UnsupportedTypeError:
    kind = _name(type(value))
    if inspect.isasyncgen(value):
        return UnsupportedTypeError(
            f"An asynchronous generator ({kind}) cannot be stored", hint="Return [item async for item in it]."
        )
    return UnsupportedTypeError(f"The value is a {kind} that was not awaited", hint="Return what `await it` gives.")


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}".removeprefix("builtins.")


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
def _converter(cls: type) -> Callable[[Any], Any] | None:
    """What gives the built-in value that an instance equals; None also where it has fields beside that."""
    if is_dataclass(cls) or hasattr(cls, "__attrs_attrs__") or (issubclass(cls, tuple) and hasattr(cls, "_fields")):
        return None
    if f"{cls.__module__}.{cls.__qualname__}" in _TABLES:
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
        show = _SHOWN.get(base) or _SHOWN_BY_NAME.get(_name(base))
        if show is not None:
            return _checked(cls, show, show)
    return None


def _library_converter(cls: type) -> Callable[[Any], Any] | None:
    """The same of a subclass of a library's class that has a codec, and of a drawing."""
    for base in cls.__mro__:
        convert = _OF_LIBRARIES.get(_name(base))
        if convert is not None and (cls is not base or convert is _drawn):
            return convert
    return None


def _array(value: Any) -> Any:
    import numpy as np

    if type(value) is not np.memmap and getattr(value, "__dict__", None):
        raise UnsupportedTypeError(
            f"A {_name(type(value))} is an array with attributes of its own, which would be lost",
            hint="Return np.asarray(value), and beside it what its attributes say.",
        )
    return np.asarray(value)


def _picture(value: Any) -> Any:
    if getattr(value, "is_animated", False):
        raise UnsupportedTypeError(
            f"A {_name(type(value))} of {value.n_frames} frames cannot be stored",
            hint="Return xcargo.File(path), or value.copy() for the frame that it shows.",
        )
    try:
        return value.copy()
    except Exception as error:  # of the file that it is read from
        raise UnsupportedTypeError(
            f"The {_name(type(value))} cannot be read: {error}", hint="Call load() before its file is closed."
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


_OF_LIBRARIES: dict[str, Callable[[Any], Any]] = {
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
                f"A {_name(cls)} does not show the content of the {type(shown).__name__} that it is",
                hint="Return the plain value that you mean, such as dict(value).",
            ) from error
        return built_in

    return convert
