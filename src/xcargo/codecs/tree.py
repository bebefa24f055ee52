"""The tree codec: nested Python values as MessagePack, exactly.

JSON-like values pack and unpack in native code. Everything that MessagePack has no type for becomes an extension: a
built-in type under its own tag (``builtin.py``), any other codec's value as codec id, params and payload.

The payload of a value with large parts, such as a frame in a dict, is ``part | padding | part | padding | ... | tree |
table``: each part is the payload of its own codec (a frame's Arrow file, an array's memory, the bytes of a file), the
tree is the nested value around them, and the table, JSON, holds codec, params, start and end of each part. ``params``
of the whole hold the lengths of tree and table. So all is written in one pass, and each part can be read by itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import ormsgpack

from xcargo.codecs.base import CodecLookup, Encoded, SourceCodec
from xcargo.codecs.builtin import RESTORE, Tag, extension_of
from xcargo.codecs.gc_tuning import gc_paused
from xcargo.codecs.packing import JSON_TYPES, Packing
from xcargo.codecs.source import BytesSource, SliceSource, Source, read_all
from xcargo.codecs.value_path import TooDeepError, shift_index, too_deep
from xcargo.errors import UPGRADE_HINT, DecodeError, UnsupportedTypeError, XCargoError
from xcargo.model.envelope import is_utf8
from xcargo.types import Buffer

__all__ = ["Streaming", "TreeCodec"]

_ALIGNMENT = 64  # what Arrow recommends


@dataclass(frozen=True)
class Streaming:
    """Which lists and dictionaries are packed while they are stored, instead of before.

    Attributes:
        least_items: Number of items from which on.
        sample_items: Number of items from whose size that of all is estimated.
        least_bytes: Estimated length of the payload from which on.
        chunk_bytes: About how much is packed at a time.
    """

    least_items: int = 4096
    sample_items: int = 256
    least_bytes: int = 4 * 1024 * 1024
    chunk_bytes: int = 1024 * 1024


class TreeCodec(SourceCodec):
    """Codec of nested Python values. One pass of native code for what JSON could say."""

    id = "msgpack"

    def __init__(self, codecs: CodecLookup) -> None:
        self._codecs = codecs
        self.streaming = Streaming()

    def accepts(self, value: object) -> bool:
        return type(value) in JSON_TYPES or extension_of(value) is not None

    def encode(self, value: Any) -> Encoded:
        streamed = _Streamed.of(value, self._codecs, self.streaming)
        if streamed is not None:
            return Encoded(self.id, iter(streamed), suffix=".msgpack", expected_bytes=streamed.expected_bytes)
        packing = Packing(self._codecs, apart=True)
        return _assemble(self.id, packing.run(value), packing.parts, ".msgpack")

    def pack(self, value: Any) -> bytes:
        """A value as bytes for another codec to put into its own payload."""
        return Packing(self._codecs, apart=False).run(value)

    def unpack(self, data: Buffer) -> Any:
        """Undo `pack`."""
        return self.open(BytesSource(data), {})

    def open(self, source: Source, params: Mapping[str, Any]) -> Any:
        parts = _Parts(self._codecs, source, params)
        with gc_paused():
            return _Unpacking(self._codecs, parts).run()


class _Streamed:
    """The payload of a long list or dictionary, packed in chunks as it is taken: the same bytes as at once.

    What would be a part is inside the tree here, since parts come before it.
    """

    def __init__(self, value: Any, codecs: CodecLookup, *, chunk_items: int, expected_bytes: int) -> None:
        self._value = value
        self._codecs = codecs
        self._chunk_items = chunk_items
        self.expected_bytes = expected_bytes

    @classmethod
    def of(cls, value: Any, codecs: CodecLookup, streaming: Streaming) -> _Streamed | None:
        """None for a value that is better packed at once: it is small, or has parts, or keys other than text."""
        if type(value) not in (list, dict) or len(value) < streaming.least_items:
            return None
        packing = Packing(codecs, apart=True)
        sample = next(cls(value, codecs, chunk_items=streaming.sample_items, expected_bytes=0)._chunks())
        expected_bytes = len(packing.run(sample)) * len(value) // len(sample)
        if expected_bytes < streaming.least_bytes or packing.parts or (type(value) is dict and not _plain_keys(value)):
            return None
        chunk_items = max(1, streaming.chunk_bytes * len(value) // expected_bytes)
        return cls(value, codecs, chunk_items=chunk_items, expected_bytes=expected_bytes)

    def __iter__(self) -> Iterator[bytes]:
        done, count = 0, len(self._value)
        short, long = (b"\xdc", b"\xdd") if type(self._value) is list else (b"\xde", b"\xdf")
        yield short + count.to_bytes(2, "big") if count < 2**16 else long + count.to_bytes(4, "big")
        for chunk in self._chunks():
            try:
                packed = Packing(self._codecs, apart=False).run(chunk)
            except (RecursionError, TooDeepError):
                raise too_deep(self._value) from None
            except UnsupportedTypeError as error:
                if type(chunk) is list:
                    shift_index(error, done)
                raise
            done += len(chunk)
            yield packed[1 if len(chunk) < 16 else 3 if len(chunk) < 2**16 else 5 :]
        if done != count:
            raise UnsupportedTypeError("The value changed its size while it was stored", hint="Return a copy of it.")

    def _chunks(self) -> Iterator[Any]:
        if type(self._value) is list:
            for start in range(0, len(self._value), self._chunk_items):
                yield self._value[start : start + self._chunk_items]
        else:
            items = iter(self._value.items())
            while chunk := dict(islice(items, self._chunk_items)):
                yield chunk


def _plain_keys(value: dict[Any, Any]) -> bool:
    """Whether all keys are text that the packer takes."""
    return set(map(type, value)) == {str} and (all(map(str.isascii, value)) or all(map(is_utf8, value)))


def _assemble(codec: str, tree: Buffer, parts: Sequence[Encoded], suffix: str) -> Encoded:
    """The payload of a nested value and its parts. Copies nothing."""
    if not parts:
        return Encoded(codec, (tree,), suffix=suffix)
    params: dict[str, Any] = {}
    buffers = _buffers(tree, parts, params)
    sizes = [part.size_bytes or part.expected_bytes for part in parts]
    if not any(map(_is_iterator, parts)):
        return Encoded(codec, list(buffers), params, suffix)
    return Encoded(codec, buffers, params, suffix, sum(filter(None, sizes)) if all(sizes) else None)


def _buffers(tree: Buffer, parts: Sequence[Encoded], params: dict[str, Any]) -> Iterator[Buffer]:
    table, position = [], 0
    for part in parts:
        start = position
        for buffer in part.parts:
            yield buffer
            position += len(buffer)
        table.append([part.codec, dict(part.params), start, position])
        padding = bytes(-position % _ALIGNMENT)
        yield padding
        position += len(padding)
    tail = json.dumps(table).encode()
    params.update(tree_bytes=len(tree), table_bytes=len(tail))
    if any(map(_is_iterator, parts)):
        params["streamed"] = True
    yield tree
    yield tail


def _is_iterator(part: Encoded) -> bool:
    return not isinstance(part.parts, Sequence)


class _Parts:
    """Reads the tree of a payload, and its parts, each decoded at first use.

    The payload is read as a whole, unless a part was an iterator and may be larger than memory. Raises DecodeError for
    a table that does not fit the payload.
    """

    def __init__(self, codecs: CodecLookup, source: Source, params: Mapping[str, Any]) -> None:
        self._codecs = codecs
        self._source = source if params.get("streamed") else BytesSource(read_all(source))
        self._values: dict[int, Any] = {}
        tree_bytes, table_bytes = params.get("tree_bytes", source.size_bytes), params.get("table_bytes", 0)
        if type(tree_bytes) is not int or type(table_bytes) is not int:
            raise DecodeError("The lengths of the value's tree and table are not numbers")
        tree_end = source.size_bytes - table_bytes
        self.tree = read_all(SliceSource(self._source, tree_end - tree_bytes, tree_end))
        self._table: Any = []
        if table_bytes:
            try:
                self._table = json.loads(bytes(read_all(SliceSource(self._source, tree_end, source.size_bytes))))
            except (RecursionError, UnicodeDecodeError, json.JSONDecodeError) as error:
                raise DecodeError("The table of the value's parts is malformed") from error

    def value(self, number: Any) -> Any:
        """The value of a part: the same object each time, unless it is one that can be read only once."""
        if number in self._values:
            return self._values[number]
        try:
            codec, params, start, end = self._table[number]
            if codec == "msgpack" or type(params) is not dict or not type(start) is type(end) is int:
                raise ValueError("a part cannot be a nested value")
        except (KeyError, LookupError, TypeError, ValueError) as error:
            raise DecodeError(f"The value refers to a part that does not exist: {error}") from error
        value = self._codecs.open(codec, SliceSource(self._source, start, end), params)
        if not hasattr(value, "__next__"):
            self._values[number] = value
        return value


class _Unpacking:
    """One decode. It keeps the error that native code would swallow."""

    def __init__(self, codecs: CodecLookup, parts: _Parts) -> None:
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
                raise DecodeError(f"The value holds an unknown extension {tag}", hint=UPGRADE_HINT)
            return restore(body)
        except XCargoError as error:
            self._error = self._error or error
            raise
        except Exception as error:
            self._error = self._error or DecodeError(f"Extension {tag} is malformed: {type(error).__name__}")
            raise
