"""MessagePack with the extensions of our trees: read in place, or turned as a whole into JSON. No class is imported."""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import orjson

from xcargo.codecs.base import importable
from xcargo.codecs.builtin import RESTORE, Tag
from xcargo.codecs.registry import Registry
from xcargo.errors import DecodeError, XCargoError
from xcargo.explorer.limits import Budget, Payload, TooLargeError
from xcargo.types import Buffer, Json

__all__ = [
    "LISTS",
    "NAMES",
    "PAIRS",
    "PANDAS_SCALARS",
    "SCALARS",
    "SCALAR_BYTES",
    "Head",
    "Packed",
    "json_to_packed",
    "registry",
    "scalar_leaf",
    "scalar_text",
    "to_json",
]

LISTS = {Tag.TUPLE: "tuple", Tag.SET: "set", Tag.FROZENSET: "frozenset"}
"""Extensions whose body is a list of the items."""

PAIRS = {
    Tag.PAIRS: ("dict", 0),
    Tag.ORDERED_DICT: ("OrderedDict", 0),
    Tag.COUNTER: ("Counter", 0),
    Tag.DEFAULT_DICT: ("defaultdict", 1),
}
"""Extensions whose body is a list of keys and a list of values, behind so many others."""

SCALARS = {
    Tag.INT: "int",
    Tag.COMPLEX: "complex",
    Tag.TEXT: "str",
    Tag.DECIMAL: "Decimal",
    Tag.FRACTION: "Fraction",
    Tag.DATETIME: "datetime",
    Tag.DATE: "date",
    Tag.TIME: "time",
    Tag.TIMEDELTA: "timedelta",
    Tag.UUID: "UUID",
    Tag.RANGE: "range",
    Tag.SLICE: "slice",
    Tag.PATH: "Path",
    Tag.IP: "IP",
    Tag.TIMEZONE: "timezone",
    Tag.ELLIPSIS: "ellipsis",
    Tag.STRUCT: "struct",
    Tag.PENDULUM: "DateTime",
    Tag.PENDULUM_DATE: "Date",
    Tag.PENDULUM_TIME: "Time",
    Tag.PENDULUM_DURATION: "Duration",
    Tag.PENDULUM_INTERVAL: "Interval",
}
"""Extensions that are small, and for which nothing is imported but the libraries of their types."""

NAMES = {**SCALARS, Tag.PATTERN: "Pattern", Tag.MEMORYVIEW: "memoryview", Tag.ARRAY: "array"}
"""Extensions that are shown by their type and length, unless they are `SCALARS` and short enough for their text."""

SCALAR_BYTES = 4096
"""A larger one is shown by its type alone."""

_NAMES = ("Timestamp", "Timedelta", "NaTType", "NAType", "Period", "Interval", "DateOffset")
PANDAS_SCALARS = [f"pandas.{name}" for name in _NAMES]
"""Types of single values in the params of the codec ``pandas``."""

_READ_BYTES = 256 * 1024
_MAX_LEVELS = 200
_MAX_CHARS = 1000

_HEADERS = {  # first byte -> kind, and how the number behind it is written: a length, or the value itself
    0xC4: ("bin", ">B"), 0xC5: ("bin", ">H"), 0xC6: ("bin", ">I"),
    0xC7: ("ext", ">B"), 0xC8: ("ext", ">H"), 0xC9: ("ext", ">I"),
    0xCA: ("value", ">f"), 0xCB: ("value", ">d"),
    0xCC: ("value", ">B"), 0xCD: ("value", ">H"), 0xCE: ("value", ">I"), 0xCF: ("value", ">Q"),
    0xD0: ("value", ">b"), 0xD1: ("value", ">h"), 0xD2: ("value", ">i"), 0xD3: ("value", ">q"),
    0xD9: ("str", ">B"), 0xDA: ("str", ">H"), 0xDB: ("str", ">I"),
    0xDC: ("array", ">H"), 0xDD: ("array", ">I"), 0xDE: ("map", ">H"), 0xDF: ("map", ">I"),
}  # fmt: skip
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


@dataclass(frozen=True)
class Head:
    """What begins at an offset."""

    kind: str
    """``value`` (a number or constant), ``str``, ``bin``, ``array``, ``map`` or ``ext``."""
    length: int
    """Bytes of text, binary or extension; items of an array; pairs of a map."""
    body: int
    """Where the bytes, or the first item, begin."""
    value: Any = None
    tag: int = 0


class Packed:
    """A packed value in a payload. Offsets may come from anyone: what does not parse raises DecodeError."""

    def __init__(self, payload: Payload) -> None:
        self.payload = payload
        self.budget: Budget = payload.budget

    def head(self, at: int) -> Head:
        """What begins at ``at``.

        By hand: the msgpack library tells the kind and length of an item only by decoding it, and an item may be as
        large as the value. It does the rest.
        """
        if not 0 <= at < self.payload.size_bytes:
            raise DecodeError("The offset asked for is outside the value")
        data = bytes(self.payload.read(at, at + 10))
        first = data[0]
        if first < 0x80 or first >= 0xE0:
            return Head("value", 0, at + 1, first if first < 0x80 else first - 256)
        if first < 0xC0:
            kind, bits = ("map", 15) if first < 0x90 else ("array", 15) if first < 0xA0 else ("str", 31)
            return Head(kind, first & bits, at + 1)
        if first in _CONSTANTS:
            return Head("value", 0, at + 1, _CONSTANTS[first])
        with _malformed():
            if 0xD4 <= first <= 0xD8:
                return Head("ext", 1 << (first - 0xD4), at + 2, tag=data[1])
            kind, form = _HEADERS[first]
            (number,) = struct.unpack_from(form, data, 1)
            body = at + 1 + struct.calcsize(form)
            if kind == "ext":
                return Head(kind, number, body + 1, tag=data[body - at])
            return Head(kind, 0, body, number) if kind == "value" else Head(kind, number, body)

    def end(self, at: int) -> int:
        """Where what begins at ``at`` ends. Reads it all, in bounded memory, if it holds other things."""
        head = self.head(at)
        if head.kind in ("array", "map"):
            return self.payload.remembered("end", at, lambda: self.skip(at, 1))
        return head.body + head.length

    def skip(self, at: int, count: int) -> int:
        """Where the ``count`` items that begin at ``at``, one after another, end."""
        unpacker = self.unpacker(at)
        with _malformed():
            try:
                for _ in range(count):
                    unpacker.skip()
            except _msgpack().exceptions.BufferFull:  # the library holds a text in memory even to skip it
                return self._skip_by_heads(at, count)
        return at + int(unpacker.tell())

    def _skip_by_heads(self, at: int, count: int) -> int:
        while count:
            head = self.head(at)
            count += {"array": head.length, "map": 2 * head.length}.get(head.kind, 0) - 1
            at = head.body + (head.length if head.kind in ("str", "bin", "ext") else 0)
        return at

    def spans(self, at: int, count: int, width: int, offsets: list[int]) -> Iterator[tuple[int, int, int, list[int]]]:
        """Of ``count`` groups of ``width`` items those with any of the sorted ``offsets`` in them.

        Yields number, begin, begin of the last item, and the offsets in the group.
        """
        unpacker, base, begin, n = self.unpacker(at), at, at, 0
        with _malformed():
            for index in range(count):
                if n == len(offsets):
                    return
                last = begin
                for _ in range(width):
                    last = base + int(unpacker.tell())
                    try:
                        unpacker.skip()
                    except _msgpack().exceptions.BufferFull:
                        base = self._skip_by_heads(last, 1)
                        unpacker = self.unpacker(base)
                end, first = base + int(unpacker.tell()), n
                while n < len(offsets) and offsets[n] < end:
                    n += 1
                if n > first:
                    yield index, begin, last, offsets[first:n]
                begin = end

    def unpacker(self, at: int) -> Any:
        """The library's reader of the items from ``at`` on; its memory is bounded."""
        return _msgpack().Unpacker(
            _File(self.payload, at),
            read_size=_READ_BYTES,
            max_buffer_size=max(self.budget.max_bytes, _READ_BYTES),
            strict_map_key=False,
        )

    def text(self, head: Head, max_bytes: int) -> str:
        """The beginning of a text."""
        data = bytes(self.payload.read(head.body, head.body + min(head.length, max_bytes)))
        return data.decode("utf-8", "ignore" if head.length > max_bytes else "replace")


def to_json(data: Buffer) -> Json:
    """The packed value out of dicts with text keys, lists, text, numbers, booleans and None.

    What JSON has no type for is text, as Python prints it. Takes about ten times ``data`` in memory.

    Raises:
        DecodeError: The bytes are not a packed value.
    """
    with _malformed():
        value = _unpacked(bytes(data))
    json: Json = _jsonable(value, 0)
    return json


def scalar_text(tag: int, body: bytes) -> str:
    """A value of one of the `SCALARS` as Python prints it."""
    try:
        value = RESTORE[tag](registry().tree.unpack(body))
        if isinstance(value, int) and value.bit_length() > 8192:
            return f"<int of {value.bit_length()} bits>"
        if isinstance(value, str):
            return value.encode("utf-8", "backslashreplace").decode()
        text = str(value)
    except Exception:  # a forged body; the node has its type all the same
        return "<malformed>"
    return _shortened(text)


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_CHARS else text[:_MAX_CHARS] + "…"


def scalar_leaf(codec: Any, params: Any, payload: Payload | Buffer) -> dict[str, Any] | None:
    """Type and text of a single number, time, period or other scalar of numpy or pandas; None of anything else.

    None also where its library is not installed here.
    """
    size = payload.size_bytes if isinstance(payload, Payload) else len(payload)
    if size > SCALAR_BYTES or not isinstance(params, Mapping):
        return None
    is_numpy = codec == "numpy" and params.get("shape") == [] and params.get("dtype") not in ("|O", "T")
    if not is_numpy and not (codec == "pandas" and params.get("type") in PANDAS_SCALARS):
        return None
    try:
        value = registry().codec(codec).decode(payload.read_all() if isinstance(payload, Payload) else payload, params)
    except XCargoError:
        return None
    return {"type": type(value).__name__, "value": _shortened(str(value))}


@cache
def _msgpack() -> Any:
    """The library."""
    return importable("msgpack", "to be previewed", extra="ui")


@cache
def registry() -> Registry:
    """Our own codecs only: no class of a user, no pickle, no other package's codec."""
    return Registry(entry_points=False)


@contextmanager
def _malformed() -> Iterator[None]:
    """Raise DecodeError for whatever the library, or we, cannot parse."""
    library = _msgpack()
    try:
        yield
    except library.exceptions.BufferFull as error:
        raise TooLargeError("A single text or binary is larger than a preview may take", hint="Download it.") from error
    except XCargoError:  # some are a ValueError as well
        raise
    except (ValueError, TypeError, LookupError, RecursionError, struct.error, library.UnpackException) as error:
        raise DecodeError("The object does not hold a packed value there") from error


class _File(io.RawIOBase):
    """A payload from an offset on, for msgpack, which asks for some bytes at a time."""

    def __init__(self, payload: Payload, at: int) -> None:
        self._payload, self._at = payload, at

    def read(self, size: int = -1) -> bytes:
        self._payload.budget.check_time()
        data = bytes(self._payload.read(self._at, self._at + (size if size > 0 else _READ_BYTES)))
        self._at += len(data)
        return data


def _unpacked(data: bytes) -> Any:
    return _msgpack().unpackb(data, ext_hook=_extension, strict_map_key=False, unicode_errors="replace")


def _extension(tag: int, data: bytes) -> Any:
    if tag in SCALARS:
        return scalar_text(tag, data)
    if tag == Tag.PART:
        return "<a part stored beside the value>"
    body = _unpacked(data)
    if tag in LISTS or tag in (Tag.NESTED, Tag.NAMESPACE, Tag.BYTEARRAY):
        return body
    if tag == Tag.DEQUE:
        return body[0]
    if tag in PAIRS:
        keys, values = body[PAIRS[tag][1] : PAIRS[tag][1] + 2]
        pairs = [(_key(key), value) for key, value in zip(keys, values, strict=True)]
        return dict(pairs) if len({key for key, _ in pairs}) == len(pairs) else pairs  # 1 and "1" are two keys
    if tag == Tag.CODEC:
        codec, params, payload = body
        if codec in ("object", "library", "rows"):
            return _unpacked(payload)[2]
        leaf = scalar_leaf(codec, params, payload)
        return leaf["value"] if leaf else f"<{codec}, {len(payload)} bytes>"
    return f"<extension {tag}>"


def _key(key: Any) -> str:
    return key if isinstance(key, str) else repr(key)


def _jsonable(value: Any, level: int) -> Any:
    kind = type(value)
    if kind is dict:
        if level > _MAX_LEVELS:
            return "{…}"
        return {_key(key): _jsonable(part, level + 1) for key, part in value.items()}
    if kind in (list, tuple):
        return "[…]" if level > _MAX_LEVELS else [_jsonable(part, level + 1) for part in value]
    if kind is float and not math.isfinite(value):
        return repr(value)
    if kind in (bytes, bytearray):
        return value[:64].hex() + ("…" if len(value) > 64 else "")
    return value


def json_to_packed(data: bytes) -> bytes:
    """A JSON document as MessagePack."""
    with _malformed():
        packed: bytes = _msgpack().packb(orjson.loads(data))
        return packed
