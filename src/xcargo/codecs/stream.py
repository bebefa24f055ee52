"""Bytes in memory, and bytes that a generator gives while they are stored."""

from __future__ import annotations

import io
import types
from collections.abc import Iterator, Mapping
from typing import Any

from xcargo.codecs.base import Encoded
from xcargo.codecs.source import BytesSource, Source, open_seekable, read_bytearray, read_bytes, same_bytes
from xcargo.codecs.substitutes import current_push
from xcargo.errors import UnsupportedTypeError
from xcargo.types import Buffer

__all__ = ["ByteStream", "BytesCodec", "StreamCodec"]


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


class StreamCodec:
    """Generators of bytes, stored as they are taken, and the ByteStream that they come back as."""

    id = "stream"

    def accepts(self, value: object) -> bool:
        return type(value) in (types.GeneratorType, ByteStream)

    def encode(self, value: types.GeneratorType[Any, None, None] | ByteStream) -> Encoded:
        if isinstance(value, ByteStream):
            return Encoded(self.id, iter(value), suffix=".bin", expected_bytes=value.size_bytes)
        first, chunks = current_push().opened(value)
        if first and not isinstance(first[0], _CHUNKS):
            raise _not_bytes(first[0])
        return Encoded(self.id, _checked(chunks), suffix=".bin")

    def decode(self, payload: Buffer, params: Mapping[str, Any]) -> ByteStream:
        return self.open(BytesSource(payload), params)

    def open(self, source: Source, params: Mapping[str, Any]) -> ByteStream:
        return ByteStream(source)


_CHUNKS = (bytes, bytearray, memoryview)


def _checked(chunks: Iterator[Any]) -> Iterator[Buffer]:
    for chunk in chunks:
        if not isinstance(chunk, _CHUNKS):
            raise _not_bytes(chunk)
        yield bytes(chunk)  # a copy: the generator may use its buffer again


def _not_bytes(chunk: object) -> UnsupportedTypeError:
    return UnsupportedTypeError(
        f"A generator of {type(chunk).__name__} cannot be stored; one of bytes can",
        hint="Return list(...) of it, or make it yield bytes.",
    )


class BytesCodec:
    """``bytes`` and ``bytearray``: the payload is the value itself, nothing is copied to encode it."""

    id = "bytes"

    def accepts(self, value: object) -> bool:
        return type(value) in (bytes, bytearray)

    def encode(self, value: bytes | bytearray) -> Encoded:
        params = {} if type(value) is bytes else {"mutable": True}
        return Encoded(self.id, (value,), params, ".bin")

    def open(self, source: Source, params: Mapping[str, Any]) -> bytes | bytearray:
        return read_bytearray(source) if params.get("mutable") else read_bytes(source)

    def decode(self, payload: Buffer, params: Mapping[str, Any]) -> bytes | bytearray:
        return self.open(BytesSource(payload), params)
