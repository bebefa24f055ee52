"""Bytes and files in memory, and bytes that a generator gives while they are stored."""

from __future__ import annotations

import io
import types
from collections.abc import Iterator, Mapping
from typing import Any

from xcargo.codecs.base import Encoded, SourceCodec
from xcargo.codecs.source import SliceSource, Source, open_seekable, read_bytearray, read_bytes, same_bytes
from xcargo.codecs.substitutes import current_push
from xcargo.codecs.tree import TreeCodec
from xcargo.errors import DecodeError, UnsupportedTypeError
from xcargo.types import Buffer

__all__ = ["ByteStream", "BytesCodec", "MemoryFileCodec", "StreamCodec"]


class ByteStream:
    """The bytes of a generator, in the next task: iterate over them as often as you like, or open them as a file.

    Nothing is downloaded before you read it. Memory is bounded, whatever the size. Iterating costs one request for each
    ``part_bytes``, some of them prefetched.
    """

    def __init__(self, source: Source) -> None:
        self._source = source

    @property
    def size_bytes(self) -> int:
        """Total number of bytes."""
        return self._source.size_bytes

    def __iter__(self) -> Iterator[bytes]:
        """The bytes in chunks of any size, not those of the generator."""
        return map(bytes, self._source.iter_chunks())

    def open(self) -> io.BufferedReader:
        """A seekable binary file; fetches only what you read."""
        return open_seekable(self._source)

    def read(self) -> bytes:
        """All bytes, in memory."""
        return b"".join(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ByteStream):
            return NotImplemented
        return self.size_bytes == other.size_bytes and same_bytes(self.open(), other.open())

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<xcargo.ByteStream of {self.size_bytes} bytes>"


class StreamCodec(SourceCodec):
    """Generators of bytes, stored as they are taken, and the ByteStream that they come back as."""

    id = "stream"

    def accepts(self, value: object) -> bool:
        return type(value) in (types.GeneratorType, ByteStream)

    def encode(self, value: types.GeneratorType[Any, None, None] | ByteStream) -> Encoded:
        if isinstance(value, ByteStream):
            source = value._source
            return Encoded(self.id, source.iter_chunks(), suffix=".bin", expected_bytes=value.size_bytes, stored=source)
        first, chunks = current_push().opened(value)
        if first and not isinstance(first[0], _CHUNKS):
            raise _not_bytes(first[0])
        return Encoded(self.id, _checked(chunks, begun=bool(first)), suffix=".bin")

    def open(self, source: Source, params: Mapping[str, Any]) -> ByteStream:
        return ByteStream(source)


_CHUNKS = (bytes, bytearray, memoryview)


def _checked(chunks: Iterator[Any], *, begun: bool) -> Iterator[Buffer]:
    """The bytes. Raises UnsupportedTypeError if those of a generator that gives some were taken before."""
    with current_push().running_task_code():
        for chunk in chunks:
            begun = False
            if not isinstance(chunk, _CHUNKS):
                raise _not_bytes(chunk)
            yield bytes(chunk)  # a copy: the generator may use its buffer again
    if begun:
        raise UnsupportedTypeError(
            "One generator of bytes is in several parts of the value, and gives its bytes only once",
            hint="Return it once, or bytes: b''.join(it).",
        )


def _not_bytes(chunk: object) -> UnsupportedTypeError:
    return UnsupportedTypeError(
        f"A generator of {type(chunk).__name__} cannot be stored; one of bytes can",
        hint="Return list(...) of it, or make it yield bytes.",
    )


class MemoryFileCodec(SourceCodec):
    """``io.BytesIO`` and ``io.StringIO``, with their position and what else they are given, such as a ``name``.

    The payload is the content as a file would hold it, followed by the attributes if there are any: these are as much
    part of the value. Nothing is copied to encode bytes.
    """

    id = "memory-file"

    def __init__(self, tree: TreeCodec) -> None:
        self._tree = tree

    def accepts(self, value: object) -> bool:
        return type(value) in (io.BytesIO, io.StringIO)

    def encode(self, value: Any) -> Encoded:
        try:
            content, *newline, position, attributes = value.__getstate__()
        except ValueError as error:
            raise UnsupportedTypeError(
                f"The {type(value).__name__} was closed before it was stored", hint="Return its content instead."
            ) from error
        params: dict[str, Any] = {"position": position}
        suffix = ".bin"
        if type(value) is io.StringIO:
            content, suffix, params["newline"] = content.encode("utf-8", "surrogatepass"), ".txt", newline
        if not attributes:
            return Encoded(self.id, (content,), params, suffix)
        tail = self._tree.pack(attributes)
        return Encoded(self.id, (content, tail), {**params, "tail_bytes": len(tail)}, suffix)

    def open(self, source: Source, params: Mapping[str, Any]) -> io.BytesIO | io.StringIO:
        attributes: Any = {}
        try:
            if "tail_bytes" in params:
                whole, end = source, source.size_bytes - params["tail_bytes"]
                source = SliceSource(whole, 0, end)
                attributes = self._tree.unpack(whole.read(end, whole.size_bytes))
            content = read_bytes(source)
            if type(attributes) is not dict or not all(type(name) is str for name in attributes):
                raise ValueError("attributes")
            file: Any
            if "newline" in params:
                file = io.StringIO()
                text = content.decode("utf-8", "surrogatepass")
                file.__setstate__((text, *params["newline"], params["position"], None))
            else:
                file = io.BytesIO(content)
                file.seek(params["position"])
            vars(file).update(attributes)
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise DecodeError(f"The object does not hold a file in memory: {type(error).__name__}") from error
        return file  # type: ignore[no-any-return]


class BytesCodec(SourceCodec):
    """``bytes`` and ``bytearray``: the payload is the value itself, nothing is copied to encode it."""

    id = "bytes"

    def accepts(self, value: object) -> bool:
        return type(value) in (bytes, bytearray)

    def encode(self, value: bytes | bytearray) -> Encoded:
        params = {} if type(value) is bytes else {"mutable": True}
        return Encoded(self.id, (value,), params, ".bin")

    def open(self, source: Source, params: Mapping[str, Any]) -> bytes | bytearray:
        return read_bytearray(source) if params.get("mutable") else read_bytes(source)
