"""The tree codec: nested Python values as MessagePack, exactly.

JSON-like values pack and unpack in native code. Everything that MessagePack has no type for becomes an extension: a
built-in type under its own tag (``builtin.py``), any other codec's value as codec id, params and payload.

``ormsgpack`` is told to hand every type that it would change (tuples, enums, subclasses, datetimes) to us. It still
does three things differently from what a round trip needs, and then the same value is packed again by a slower, exact
way (``_lower``): it refuses dictionaries with keys other than text and lone surrogates, it stops at 255 levels, and it
writes bytearray and memoryview like bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from itertools import islice
from types import SimpleNamespace
from typing import Any

import ormsgpack

from xcargo.codecs import gc_tuning as collector
from xcargo.codecs.base import CodecLookup, Encoded, contiguous
from xcargo.codecs.builtin import RESTORE, Tag, extension_of
from xcargo.codecs.parts import Parts, assemble, is_part
from xcargo.codecs.source import BytesSource, Source
from xcargo.codecs.value_path import TooDeepError, add_path, path_to, too_deep
from xcargo.errors import DecodeError, UnsupportedTypeError, XCargoError
from xcargo.model.envelope import is_utf8
from xcargo.types import Buffer

__all__ = ["TreeCodec"]

_OPTIONS = (
    ormsgpack.OPT_PASSTHROUGH_BIG_INT
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_SUBCLASS
    | ormsgpack.OPT_PASSTHROUGH_TUPLE
    | ormsgpack.OPT_PASSTHROUGH_UUID
)
_JSON_TYPES = (dict, list, str, int, float, bool, type(None))
_LEAST_ITEMS = 4096
_FIRST_ITEMS = 256
"""Items of a list or dictionary from whose size that of all is guessed."""
_STREAMED_BYTES = 4 * 1024 * 1024
"""Payload from which on a long list or dictionary is packed while it travels."""
_GROUP_BYTES = 1024 * 1024
"""About so much of it at a time."""
_NEST_EVERY = 100
_MOST_LEVELS = 64
"""Of instances, arrays and the like in one another: a pull takes up to ten frames each, of a thousand."""

_level: ContextVar[int] = ContextVar("xcargo_level", default=0)


class TreeCodec:
    """Codec of nested Python values. One pass of native code for what JSON could say."""

    id = "msgpack"

    def __init__(self, codecs: CodecLookup) -> None:
        self._codecs = codecs

    def accepts(self, value: object) -> bool:
        return type(value) in _JSON_TYPES or extension_of(value) is not None

    def encode(self, value: Any) -> Encoded:
        streamed = _Streamed.of(self._codecs, value)
        if streamed is not None:
            return Encoded(self.id, iter(streamed), suffix=".msgpack", expected_bytes=streamed.expected_bytes)
        packing = _Packing(self._codecs, apart=True)
        return assemble(self.id, packing.run(value), packing.parts, ".msgpack")

    def pack(self, value: Any) -> bytes:
        """The payload of a value in one piece that ``decode`` reads without params, for a codec to put into its own."""
        return _Packing(self._codecs, apart=False).run(value)

    def unpack(self, data: Buffer) -> Any:
        """Undo :meth:`pack`."""
        return self.open(BytesSource(data), {})

    def decode(self, payload: Buffer, params: Mapping[str, Any]) -> Any:
        return self.open(BytesSource(payload), params)

    def open(self, source: Source, params: Mapping[str, Any]) -> Any:
        parts = Parts(self._codecs, source, params)
        with collector.paused():
            return _Unpacking(self._codecs, parts).run()


class _Packing:
    """One encode: carries the error out of native code, which swallows it."""

    def __init__(self, codecs: CodecLookup, *, apart: bool) -> None:
        self._codecs = codecs
        self._apart = apart
        self._error: XCargoError | None = None
        self._culprit: object = _Packing  # no value is this class
        self._exact = False
        self.parts: list[Encoded] = []
        self._numbers: dict[int, tuple[Any, int]] = {}

    def run(self, value: Any) -> bytes:
        try:
            try:
                packed = self._native(value)
                if not (_may_hold_buffers(packed) and _holds_mutable_buffer(value)):
                    return packed
            except _RefusedError:
                pass
            self._exact, self.parts, self._numbers = True, [], {}
            return self._pack(value)
        except RecursionError:
            raise TooDeepError from None
        except TooDeepError:
            raise
        except UnsupportedTypeError as error:
            add_path(error, path_to(value, self._culprit))
            raise

    def _pack(self, value: Any) -> bytes:
        return self._native(self._lower(value, 0) if self._exact else value)

    def _native(self, value: Any) -> bytes:
        try:
            return ormsgpack.packb(value, default=self._extension, option=_OPTIONS)
        except TypeError as error:
            if self._error is not None:
                raise self._error from None
            if self._exact:  # nothing is refused on this way but depth, which may end before _extension is entered
                raise TooDeepError from error
            raise _RefusedError from None

    def _extension(self, value: Any) -> ormsgpack.Ext:
        try:
            known = extension_of(value)
            if known is not None:
                return ormsgpack.Ext(known[0], self._pack(known[1](value)))
            if id(value) in self._numbers:  # twice in the whole: a generator has its bytes only once
                return ormsgpack.Ext(Tag.PART, ormsgpack.packb(self._numbers[id(value)][1]))
            encoded = _encode_leaf(self._codecs, value)
            if self._apart and is_part(encoded):
                self._numbers[id(value)] = value, len(self.parts)  # held, so that no other value gets its id
                self.parts.append(encoded)
                return ormsgpack.Ext(Tag.PART, ormsgpack.packb(len(self.parts) - 1))
            payload = contiguous(encoded)
            return ormsgpack.Ext(Tag.CODEC, ormsgpack.packb([encoded.codec, dict(encoded.params), payload]))
        except XCargoError as error:
            if self._error is None:
                self._error, self._culprit = error, value
            raise
        except RecursionError:
            self._error = self._error or TooDeepError()
            raise

    def _lower(self, value: Any, depth: int) -> Any:
        """The same value out of parts that native code takes as they are."""
        kind = type(value)
        if kind is str:
            if is_utf8(value):
                return value
            return ormsgpack.Ext(Tag.TEXT, self._native(value.encode("utf-8", "surrogatepass")))
        if kind is bytearray:
            return ormsgpack.Ext(Tag.BYTEARRAY, self._native(bytes(value)))
        if kind is memoryview:
            return self._extension(value)
        if kind is not list and kind is not dict:
            return value
        if depth == _NEST_EVERY:
            return ormsgpack.Ext(Tag.NESTED, self._native(self._lower(value, 0)))
        values = []
        for item in value if kind is list else value.values():  # a comprehension would cost a second frame a level
            values.append(self._lower(item, depth + 1))  # noqa: PERF401
        if kind is list:
            return values
        if all(type(key) is str and is_utf8(key) for key in value):
            return dict(zip(value, values, strict=True))
        keys = [self._lower(key, depth + 1) for key in value]
        return ormsgpack.Ext(Tag.PAIRS, self._native([keys, values]))


def _encode_leaf(codecs: CodecLookup, value: Any) -> Encoded:
    """What its codec gives, unless values of codecs are nested deeper than a pull could follow."""
    level = _level.get()
    if level == _MOST_LEVELS:
        raise TooDeepError
    token = _level.set(level + 1)
    try:
        encoded = codecs.encode_leaf(value)
    finally:
        _level.reset(token)
    if encoded is None:
        raise _unsupported(value)
    return encoded


class _Streamed:
    """The payload of a long list or dictionary, packed group by group as it is taken: the same bytes as in one piece.

    What would be a part of its own lies in the tree here, since parts come before it.
    """

    def __init__(self, codecs: CodecLookup, value: Any, group: int, expected_bytes: int) -> None:
        self._codecs = codecs
        self._value = value
        self._group = group
        self.expected_bytes = expected_bytes

    @classmethod
    def of(cls, codecs: CodecLookup, value: Any) -> _Streamed | None:
        """None for a value that is better packed in one piece: it is small, or holds parts, or keys other than text."""
        if type(value) not in (list, dict) or len(value) < _LEAST_ITEMS:
            return None
        packing = _Packing(codecs, apart=True)
        first = next(cls(codecs, value, _FIRST_ITEMS, 0)._groups())
        expected_bytes = len(packing.run(first)) * len(value) // len(first)
        if expected_bytes < _STREAMED_BYTES or packing.parts or (type(value) is dict and not _plain_keys(value)):
            return None
        items = max(1, _GROUP_BYTES * len(value) // expected_bytes)
        return cls(codecs, value, items, expected_bytes)

    def __iter__(self) -> Iterator[bytes]:
        done, count = 0, len(self._value)
        short, long = (b"\xdc", b"\xdd") if type(self._value) is list else (b"\xde", b"\xdf")
        yield short + count.to_bytes(2, "big") if count < 2**16 else long + count.to_bytes(4, "big")
        for group in self._groups():
            try:
                packed = _Packing(self._codecs, apart=False).run(group)
            except (RecursionError, TooDeepError):
                raise too_deep(self._value) from None
            except UnsupportedTypeError:
                if done and type(group) is list:  # whose places are counted from the group's start
                    _Packing(self._codecs, apart=False).run(self._value)
                raise
            done += len(group)
            yield packed[1 if len(group) < 16 else 3 if len(group) < 2**16 else 5 :]
        if done != count:
            raise UnsupportedTypeError("The value changed its size while it was stored", hint="Return a copy of it.")

    def _groups(self) -> Iterator[Any]:
        if type(self._value) is list:
            for start in range(0, len(self._value), self._group):
                yield self._value[start : start + self._group]
        else:
            items = iter(self._value.items())
            while group := dict(islice(items, self._group)):
                yield group


def _plain_keys(value: dict[Any, Any]) -> bool:
    """Whether the packer takes all keys as they are."""
    return set(map(type, value)) == {str} and (all(map(str.isascii, value)) or all(map(is_utf8, value)))


class _Unpacking:
    """One decode; like :class:`_Packing` it keeps the error that native code would swallow."""

    def __init__(self, codecs: CodecLookup, parts: Parts) -> None:
        self._codecs = codecs
        self._parts = parts
        self._error: XCargoError | None = None

    def run(self) -> Any:
        try:
            return ormsgpack.unpackb(self._parts.tree, ext_hook=self._restore)
        except (ValueError, TypeError, RecursionError) as error:
            if self._error is not None:
                raise self._error from error
            raise DecodeError(f"The object does not hold a packed value: {error}") from error

    def _restore(self, tag: int, data: bytes) -> Any:
        try:
            body = ormsgpack.unpackb(data, ext_hook=self._restore)
            if tag == Tag.CODEC:
                codec_id, params, payload = body
                return self._codecs.open(codec_id, BytesSource(payload), params)
            if tag == Tag.PART:
                return self._parts.value(body)
            restore = RESTORE.get(tag)
            if restore is None:
                raise DecodeError(
                    f"The value holds an unknown extension {tag}",
                    hint="It may come from a newer xcargo: pip install --upgrade airflow-provider-xcargo.",
                )
            return restore(body)
        except XCargoError as error:
            self._error = self._error or error
            raise
        except Exception as error:
            self._error = self._error or DecodeError(f"Extension {tag} is malformed: {type(error).__name__}")
            raise


class _RefusedError(Exception):
    """Native code refused the value; the exact way may still take it."""


def _unsupported(value: object) -> UnsupportedTypeError:
    kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    return UnsupportedTypeError(
        f"No codec takes a value of type {kind}",
        hint="Return a type from the documentation's table, or register a codec for it under 'xcargo.codecs'.",
    )


def _may_hold_buffers(packed: bytes) -> bool:
    """Whether a byte occurs that could begin a binary field. Cheap (memchr); says yes for most numbers."""
    return b"\xc4" in packed or b"\xc5" in packed or b"\xc6" in packed


def _holds_mutable_buffer(value: Any) -> bool:
    """Whether ``value`` holds a bytearray or memoryview, which the packer writes like bytes.

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
    return list(value) if isinstance(value, (list, tuple, set, frozenset, deque)) else None
