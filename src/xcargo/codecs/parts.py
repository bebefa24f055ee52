"""The payload of a nested value with large parts, such as a frame in a dict.

``part | padding | part | padding | ... | tree | table``: each part is the payload of its own codec (a frame's Arrow
file, an array's memory, the bytes of a file), the tree is the nested value around them, and the table, JSON, holds
codec, params, start and end of each part. ``params`` of the whole hold the lengths of tree and table. So all is written
in one pass, and each part can be read by itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from xcargo.codecs.base import CodecLookup, Encoded
from xcargo.codecs.source import BytesSource, SliceSource, Source, read_all
from xcargo.errors import DecodeError
from xcargo.types import Buffer

__all__ = ["PART_BYTES", "Parts", "assemble", "is_part"]

PART_BYTES = 64 * 1024
"""Length of a payload from which on it is a part; a shorter one costs less as bytes inside the tree."""

_ALIGNMENT = 64  # what Arrow recommends


def is_part(encoded: Encoded) -> bool:
    """Whether an inner value is stored as a part."""
    return encoded.size_bytes is None or encoded.size_bytes >= PART_BYTES


def assemble(codec: str, tree: Buffer, parts: Sequence[Encoded], suffix: str) -> Encoded:
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


class Parts:
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
