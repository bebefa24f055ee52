"""Packs nested Python values as MessagePack, exactly.

``ormsgpack`` passes every type that it would change (tuples, enums, subclasses, datetimes) to us. In three cases it
cannot do what a round trip needs, and the value is packed again in a slower, exact way (``_lower``): it refuses
dictionaries with keys other than text and lone surrogates, it stops at 255 levels, and it writes bytearray and
memoryview like bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from enum import Enum
from functools import cached_property
from typing import Any, NoReturn

import ormsgpack

from xcargo.codecs.base import CodecLookup, Encoded, contiguous
from xcargo.codecs.builtin import EXTENSIONS, Tag, extension_of
from xcargo.codecs.plain_values import holds_mutable_buffer, shown_name
from xcargo.codecs.source import BytesSource
from xcargo.codecs.substitutes import current_push
from xcargo.codecs.value_path import TooDeepError, add_path, path_to
from xcargo.errors import DecodeError, UnsupportedTypeError, XCargoError
from xcargo.model.envelope import is_utf8

__all__ = ["JSON_TYPES", "Packing"]

_PART_BYTES = 64 * 1024
"""Length of a payload from which on it is a part; a shorter one costs less as bytes inside the tree."""

_OPTIONS = (
    ormsgpack.OPT_PASSTHROUGH_BIG_INT
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_SUBCLASS
    | ormsgpack.OPT_PASSTHROUGH_TUPLE
    | ormsgpack.OPT_PASSTHROUGH_UUID
)
JSON_TYPES = (dict, list, str, int, float, bool, type(None))
_AS_THEY_ARE = frozenset((int, float, bool, type(None)))
_KEYS: dict[int, Callable[[Any], list[Any]]] = {
    **dict.fromkeys((Tag.SET, Tag.FROZENSET), lambda state: state),
    **dict.fromkeys((Tag.PAIRS, Tag.ORDERED_DICT, Tag.COUNTER), lambda state: state[0]),
    Tag.DEFAULT_DICT: lambda state: state[1],
}
"""Tags whose values hold each key or member once -> these, out of what is packed."""
_SETS = (Tag.SET, Tag.FROZENSET)
_NEST_EVERY = 100
_MOST_LEVELS = 64
"""Of nested instances, arrays and the like: a pull takes up to ten of Python's thousand frames for each."""
_MOST_ROW_LEVELS = 32
"""Of lists and dictionaries, below which rows are stored one by one."""

_level: ContextVar[int] = ContextVar("xcargo_level", default=0)


class Packing:
    """One encode. It keeps the error that native code would swallow."""

    def __init__(self, codecs: CodecLookup, *, apart: bool) -> None:
        self._codecs = codecs
        self._apart = apart
        self._error: BaseException | None = None
        self._culprit: object = Packing  # stands for none
        self._exact = False
        self._has_enum = False
        self._by_column = _level.get() > 0  # else each level of rows in rows would be packed twice
        self.parts: list[Encoded] = []
        self._numbers: dict[int, tuple[Any, int]] = {}
        self._taken: dict[int, tuple[Any, ormsgpack.Ext]] = {}

    @cached_property
    def _converters(self) -> dict[type, Callable[[Any], Any]]:
        """Those that this push has found to be needed so far, and will."""
        return current_push().converters

    def run(self, value: Any) -> bytes:
        try:
            while True:  # three times at most: as it is, by column, and in the exact way
                try:
                    if self._exact:
                        return self._pack(value)
                    gathered = self._gather(value) if self._by_column else value
                    packed = self._native(gathered)
                    has_binary = b"\xc4" in packed or b"\xc5" in packed or b"\xc6" in packed  # or has such a number
                    # orjson asks an enum's class for the value, and ends the process if that raises.
                    if not (has_binary and (self._has_enum or holds_mutable_buffer(gathered))):
                        return packed
                    self._exact = True
                except _RefusedError:
                    self._exact = True
                except _RowsError:
                    self._by_column = True
                self._error, self.parts, self._numbers = None, [], {}
        except RecursionError:
            raise TooDeepError from None
        except TooDeepError:
            raise
        except UnsupportedTypeError as error:
            add_path(error, path_to(value, self._culprit))
            raise

    def _pack(self, value: Any) -> bytes:
        gathered = self._gather(value) if self._by_column else value
        return self._native(self._lower(gathered, 0) if self._exact else gathered)

    def _native(self, value: Any) -> bytes:
        try:
            return ormsgpack.packb(value, default=self._extension, option=_OPTIONS)
        except TypeError as error:
            if self._error is not None:
                raise self._error from self._error.__cause__
            if self._exact:  # only depth is refused here, and that before _extension is entered
                raise TooDeepError from error
            raise _RefusedError from None

    def _extension(self, value: Any) -> Any:
        try:
            known = EXTENSIONS.get(type(value))
            if known is None:
                convert = self._converters.get(type(value))
                if convert is not None:
                    return self._inserted(convert(value)) if self._exact else convert(value)
                known = extension_of(value)
            try:
                if known is None:
                    return self._leaf(value) or _refuse(value)
                tag, state_of = known
                state = state_of(value)
                if tag in _SETS and current_push().for_digest:
                    state.sort(key=Packing(self._codecs, apart=False).run)
            except UnsupportedTypeError as refusal:
                return self._inserted(self._codecs.substitute(value, refusal))
            # Without a call more for each of a million tuples.
            packed = self._pack(state) if self._by_column or self._exact else self._native(state)
            if tag in _KEYS and self._converters:
                self._check_distinct(tag, packed)
            return ormsgpack.Ext(tag, packed)
        except XCargoError as error:
            if self._error is None:
                self._error, self._culprit = error, value
            raise
        except RecursionError:
            self._error = self._error or TooDeepError()
            raise
        except (_RefusedError, _RowsError) as error:
            if isinstance(error, _RowsError):
                self._error = self._error or error
            raise
        except Exception as error:
            if self._error is None:
                self._error, self._culprit = current_push().as_ours(error), value
            raise
        except BaseException as error:  # such as a task's timeout
            self._error = self._error or error
            raise

    def _check_distinct(self, tag: int, packed: bytes) -> None:
        """Raise UnsupportedTypeError if two keys, or members of a set, would be equal where they are pulled."""
        try:
            keys = _KEYS[tag](self._codecs.open("msgpack", BytesSource(packed), {}))
        except DecodeError:  # of a class that may be rebuilt only there
            return
        if len(set(keys)) < len(keys):
            raise UnsupportedTypeError(
                "Two keys or members would become one, since both are stored as the built-in value that they equal",
                hint="Return keys of the built-in type itself.",
            )

    def _inserted(self, substitute: Any) -> Any:
        """What is packed in place of another value, as the packer takes it."""
        if not self._exact:
            return substitute
        if type(substitute) in (list, dict):
            return ormsgpack.Ext(Tag.NESTED, self._pack(substitute))
        return self._lower(substitute, 0)

    def _leaf(self, value: Any) -> ormsgpack.Ext | None:
        """The value by its codec; None if it has none."""
        if id(value) in self._numbers:  # occurs twice; an iterator gives its bytes only once
            return ormsgpack.Ext(Tag.PART, ormsgpack.packb(self._numbers[id(value)][1]))
        if id(value) in self._taken:
            return self._taken[id(value)][1]
        if (encoded := _encode_leaf(self._codecs, value)) is None:
            return None
        self._has_enum = self._has_enum or issubclass(type(value), Enum)
        if not self._by_column and (encoded.codec == "rows" or issubclass(type(value), tuple)):
            raise _RowsError
        if self._apart and _is_part(encoded):
            self._numbers[id(value)] = value, len(self.parts)  # kept alive, so that no other value gets its id
            self.parts.append(encoded)
            return ormsgpack.Ext(Tag.PART, ormsgpack.packb(len(self.parts) - 1))
        payload = contiguous(encoded)  # first, since it may fill in the params
        packed = ormsgpack.Ext(Tag.CODEC, ormsgpack.packb([encoded.codec, dict(encoded.params), payload]))
        if encoded.size_bytes is None:  # packing the value in another way would find nothing any more
            self._taken[id(value)] = value, packed
        return packed

    def _gather(self, value: Any, above: tuple[int, ...] = ()) -> Any:
        """The same value with lists of rows inside it by their codec, once a row was met.

        The packer gives us rows one by one, which takes fifty times as long.
        """
        if id(value) in above or len(above) == _MOST_ROW_LEVELS:
            return value
        items = value if type(value) is list else value.values() if type(value) is dict else ()
        if set(map(type, items)).isdisjoint((list, dict)):
            return value
        above = (*above, id(value))
        gathered = []
        for item in items:
            rows = None
            if type(item) is list and item and not (type(item[0]) in JSON_TYPES or extension_of(item[0])):
                try:
                    rows = self._leaf(item)
                except XCargoError as error:
                    self._error, self._culprit = error, item
                    raise
            gathered.append(self._gather(item, above) if rows is None else rows)
        return gathered if type(value) is list else dict(zip(value, gathered, strict=True))

    def _lower(self, value: Any, depth: int) -> Any:
        """The same value made of what native code takes as it is."""
        kind = type(value)
        if kind is str:
            if is_utf8(value):
                return value
            return ormsgpack.Ext(Tag.TEXT, self._native(value.encode("utf-8", "surrogatepass")))
        if kind is bytearray:
            return ormsgpack.Ext(Tag.BYTEARRAY, self._native(bytes(value)))
        if kind is memoryview or issubclass(kind, str):
            return self._extension(value)
        if kind is not list and kind is not dict:
            convert = self._converters.get(kind)
            return value if convert is None else self._lower(convert(value), depth)
        if depth == _NEST_EVERY:
            return ormsgpack.Ext(Tag.NESTED, self._native(self._lower(value, 0)))
        values = []
        for item in value if kind is list else value.values():  # a comprehension would take a second frame a level
            values.append(item if type(item) in _AS_THEY_ARE else self._lower(item, depth + 1))  # noqa: PERF401
        if kind is list:
            return values
        if all(type(key) is str and is_utf8(key) for key in value):
            return dict(zip(value, values, strict=True))
        keys = [self._lower(key, depth + 1) for key in value]
        if all(type(key) is str for key in keys):
            lowered = dict(zip(keys, values, strict=True))
            if len(lowered) < len(keys):
                raise UnsupportedTypeError(
                    "Two keys of the dict would become one text", hint="Return a dict whose keys are of type str."
                )
            return lowered
        packed = self._native([keys, values])
        if self._converters:
            self._check_distinct(Tag.PAIRS, packed)
        return ormsgpack.Ext(Tag.PAIRS, packed)


def _encode_leaf(codecs: CodecLookup, value: Any) -> Encoded | None:
    """What its codec gives, if it has one, unless values of codecs are nested deeper than a pull could follow."""
    level = _level.get()
    if level == _MOST_LEVELS:
        raise TooDeepError
    token = _level.set(level + 1)
    try:
        return codecs.encode_leaf(value)
    finally:
        _level.reset(token)


def _is_part(encoded: Encoded) -> bool:
    """Whether an inner value is stored as a part."""
    return encoded.size_bytes is None or encoded.size_bytes >= _PART_BYTES


class _RowsError(Exception):
    """A row was met for the first time; lists of rows are stored by column."""


class _RefusedError(Exception):
    """Native code refused the value; the exact way may still take it."""


def _refuse(value: object) -> NoReturn:
    raise UnsupportedTypeError(
        f"No codec takes a value of type {shown_name(type(value))}",
        hint="Return a type from the documentation's table, or register a codec for it under 'xcargo.codecs'.",
    )
