"""Bytes that are made as they go, and files over whatever is read in part."""

from __future__ import annotations

import io
import types
from collections.abc import Generator, Iterator, Mapping
from typing import Any, cast

from xcargo.codecs.base import Encoded
from xcargo.codecs.source import BytesSource, Source
from xcargo.errors import UnsupportedTypeError
from xcargo.types import Buffer

__all__ = ["ByteStream", "StreamCodec", "open_seekable", "open_stream", "same_bytes"]

_BUFFER_BYTES = 256 * 1024


class ByteStream:
    """What a generator of bytes comes back as: iterate over it, as often as you like, or open it as a file.

    Nothing is downloaded before it is asked for. Memory is bounded, whatever the size. Iterating costs one request for
    each ``part_bytes``, some of them ahead.
    """

    def __init__(self, source: Source) -> None:
        self._source = source

    @property
    def size_bytes(self) -> int:
        """Length of all bytes together."""
        return self._source.size_bytes

    def __iter__(self) -> Iterator[bytes]:
        """The bytes in pieces of any size, not those of the generator."""
        return map(bytes, self._source.iter_chunks())

    def open(self) -> io.BufferedReader:
        """A seekable binary file; reads what it is asked for."""
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
    """Generators of bytes, and the ByteStream that they come back as: stored piece by piece as they are made."""

    id = "stream"

    def accepts(self, value: object) -> bool:
        return type(value) in (types.GeneratorType, ByteStream)

    def encode(self, value: types.GeneratorType[Any, None, None] | ByteStream) -> Encoded:
        if isinstance(value, ByteStream):
            return Encoded(self.id, iter(value), suffix=".bin", expected_bytes=value.size_bytes)
        return Encoded(self.id, _checked(value), suffix=".bin")

    def decode(self, payload: Buffer, params: Mapping[str, Any]) -> ByteStream:
        return self.open(BytesSource(payload), params)

    def open(self, source: Source, params: Mapping[str, Any]) -> ByteStream:
        return ByteStream(source)


def _checked(pieces: types.GeneratorType[Any, None, None]) -> Iterator[Buffer]:
    if pieces.gi_frame is None:
        raise UnsupportedTypeError("The generator has ended before it was stored", hint="Return one that was not used.")
    for piece in pieces:
        if not isinstance(piece, (bytes, bytearray, memoryview)):
            raise UnsupportedTypeError(
                f"A generator of {type(piece).__name__} cannot be stored; one of bytes can, piece by piece",
                hint="Return list(...) of it, or make it yield bytes.",
            )
        yield bytes(piece)  # copies what its maker may fill again


def open_seekable(source: Source) -> io.BufferedReader:
    """The payload as a seekable binary file."""
    return io.BufferedReader(_Seekable(source), _BUFFER_BYTES)


def open_stream(source: Source) -> io.BufferedReader:
    """The payload as a binary file for who reads it from its start to its end: it is fetched ahead."""
    return io.BufferedReader(_Flowing(source), _BUFFER_BYTES)


class _Flowing(io.RawIOBase):
    def __init__(self, source: Source) -> None:
        self._pieces = source.iter_chunks()
        self._piece = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = cast("memoryview", memoryview(buffer)).cast("B")
        if not self._piece:
            self._piece = memoryview(next(self._pieces, b""))
        size = min(len(view), len(self._piece))
        view[:size], self._piece = self._piece[:size], self._piece[size:]
        return size

    def close(self) -> None:
        if isinstance(self._pieces, Generator):
            self._pieces.close()
        super().close()


class _Seekable(io.RawIOBase):
    def __init__(self, source: Source) -> None:
        self._source = source
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        starts = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._source.size_bytes}
        start = starts.get(whence)
        if start is None or start + offset < 0:
            raise ValueError(f"no position {offset} from {whence}")
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = cast("memoryview", memoryview(buffer)).cast("B")
        data = self._source.read(self._position, self._position + len(view))
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def readall(self) -> bytes:
        data = bytes(self._source.read(self._position, self._source.size_bytes))
        self._position += len(data)
        return data


def same_bytes(left: io.BufferedReader, right: io.BufferedReader) -> bool:
    """Whether two files hold the same bytes."""
    with left, right:
        while True:
            one, other = left.read(1024 * 1024), right.read(1024 * 1024)
            if one != other:
                return False
            if not one:
                return True
