"""Where the payload of a value is read from: memory, or an object, in whole or in part."""

from __future__ import annotations

import contextlib
import io
import mmap
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any, Protocol, cast

from xcargo.errors import DecodeError
from xcargo.types import Buffer

__all__ = [
    "BytesSource",
    "DeferredSource",
    "SliceSource",
    "Source",
    "allocate",
    "open_seekable",
    "open_stream",
    "read_all",
    "read_bytearray",
    "read_bytes",
    "same_bytes",
]

_OWN_MAPPING_BYTES = 1024 * 1024
_CHUNK_BYTES = 4 * 1024 * 1024
_BUFFER_BYTES = 256 * 1024

_PRIVATE = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_ANONYMOUS") else {}


class Source(Protocol):
    """The payload of a stored value, verified as it is read. Methods may be called from many threads.

    Each raises a StoreError, or IntegrityError when the bytes are not those that were stored.
    """

    @property
    def size_bytes(self) -> int:
        """Length of the payload."""

    def read(self, start: int, end: int) -> Buffer:
        """Bytes ``start`` to ``end``. Fetches the chunks that hold them."""

    def read_into(self, view: memoryview) -> None:
        """Fill ``view``, as long as the payload, with all of it. One request, or parallel ones of a large object."""

    def iter_chunks(self) -> Iterator[Buffer]:
        """The payload from its start to its end, with a bounded number of chunks in memory."""


def read_all(source: Source) -> Buffer:
    """The whole payload: by the source's own ``read_all`` if it has one, else in new writable memory, copied once."""
    in_memory = getattr(source, "read_all", None)
    if in_memory is not None:
        return in_memory()  # type: ignore[no-any-return]
    view = memoryview(allocate(source.size_bytes))
    source.read_into(view)
    return view


def allocate(size_bytes: int) -> mmap.mmap | bytearray:
    """Zeroed memory. A large block is a mapping of its own, in huge pages where there are some: they fault far less.

    The mapping is private: as with any memory, a forked child that writes to it writes to a copy. (One that is shared,
    which is what mmap makes by default, also has no huge pages on most systems.)
    """
    with _memory_for(size_bytes):
        if size_bytes < _OWN_MAPPING_BYTES:
            return bytearray(size_bytes)
        memory = mmap.mmap(-1, size_bytes, **_PRIVATE)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


def read_bytes(source: Source) -> bytes:
    """The whole payload as ``bytes``, with nothing copied.

    A pull of 100 MB takes 64 ms so, 85 ms in pages of 4 KB, and 142 ms if the bytes are copied out of a buffer.
    """
    if isinstance(source, BytesSource):
        data = source.data
        return data if type(data) is bytes else bytes(data)
    with _memory_for(source.size_bytes):
        buffer = _BytesBuffer(bytes(source.size_bytes))
    with buffer.getbuffer() as view:
        source.read_into(_in_huge_pages(view))
    return buffer.getvalue()  # the very object that the buffer was made of, if nothing else refers to it


def read_bytearray(source: Source) -> bytearray:
    """The whole payload as a new ``bytearray``, with nothing copied twice."""
    if isinstance(source, BytesSource):
        data = source.data
        return data if type(data) is bytearray else bytearray(data)
    with _memory_for(source.size_bytes):
        array = bytearray(source.size_bytes)
    source.read_into(_in_huge_pages(memoryview(array)))
    return array


class _BytesBuffer(io.BytesIO):
    """Frames of an error's traceback may still export its memory when it goes: Python 3.13 would log that."""

    def close(self) -> None:
        with contextlib.suppress(BufferError):
            super().close()


@contextlib.contextmanager
def _memory_for(size_bytes: int) -> Iterator[None]:
    try:
        yield
    except (MemoryError, OSError, ValueError, OverflowError) as error:
        raise DecodeError(f"There is no memory for the {size_bytes} bytes of the value") from error


def _in_huge_pages(view: memoryview) -> memoryview:
    """The same memory, to which nothing was written yet, in huge pages if it is large and there are some."""
    if len(view) >= _OWN_MAPPING_BYTES and hasattr(mmap, "MADV_HUGEPAGE"):
        import ctypes

        address = ctypes.addressof(ctypes.c_char.from_buffer(view))
        start = address + -address % mmap.PAGESIZE
        # Advice only: where it is not taken, nothing is lost.
        ctypes.CDLL(None).madvise(
            ctypes.c_void_p(start), ctypes.c_size_t(address + len(view) - start), mmap.MADV_HUGEPAGE
        )
    return view


class BytesSource:
    """A payload that is in memory already."""

    def __init__(self, data: Buffer) -> None:
        self.data = data

    @property
    def size_bytes(self) -> int:
        return len(self.data)

    def read(self, start: int, end: int) -> Buffer:
        return memoryview(self.data)[start:end]

    def read_into(self, view: memoryview) -> None:
        view[:] = self.data

    def iter_chunks(self) -> Iterator[Buffer]:
        yield self.data

    def read_all(self) -> Buffer:
        return self.data


class DeferredSource(BytesSource):
    """A payload that ``load`` brings into memory at first use."""

    def __init__(self, size_bytes: int, load: Callable[[], Buffer]) -> None:
        self._size_bytes = size_bytes
        self._load = load
        self._data: Buffer | None = None
        # Not cached_property: until Python 3.12 that has one lock for all instances, and would load one at a time.
        self._lock = threading.Lock()

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    @property
    def data(self) -> Buffer:  # type: ignore[override]
        with self._lock:
            if self._data is None:
                self._data = self._load()
            return self._data


class SliceSource:
    """A range of another source's payload."""

    def __init__(self, source: Source, start: int, end: int) -> None:
        if not 0 <= start <= end <= source.size_bytes:
            raise DecodeError("The payload names a range outside itself")
        self._source, self._start, self._end = source, start, end

    @property
    def size_bytes(self) -> int:
        return self._end - self._start

    def read(self, start: int, end: int) -> Buffer:
        return self._source.read(self._start + start, min(self._start + end, self._end))

    def read_into(self, view: memoryview) -> None:
        view[:] = self._source.read(self._start, self._end)

    def read_all(self) -> Buffer:
        return self.read(0, self.size_bytes)

    def iter_chunks(self) -> Iterator[Buffer]:
        for start in range(self._start, self._end, _CHUNK_BYTES):
            yield self._source.read(start, min(start + _CHUNK_BYTES, self._end))


def open_seekable(source: Source) -> io.BufferedReader:
    """The payload as a seekable binary file. Fetches only what is read."""
    return io.BufferedReader(_SeekableFile(source), _BUFFER_BYTES)


def open_stream(source: Source) -> io.BufferedReader:
    """The payload as a binary file to read once from start to end. Fetches ahead."""
    return io.BufferedReader(_StreamFile(source), _BUFFER_BYTES)


class _StreamFile(io.RawIOBase):
    def __init__(self, source: Source) -> None:
        self._chunks = source.iter_chunks()
        self._chunk = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = cast("memoryview", memoryview(buffer)).cast("B")
        if not self._chunk:
            self._chunk = memoryview(next(self._chunks, b""))
        size = min(len(view), len(self._chunk))
        view[:size], self._chunk = self._chunk[:size], self._chunk[size:]
        return size

    def close(self) -> None:
        if isinstance(self._chunks, Generator):
            self._chunks.close()
        super().close()


class _SeekableFile(io.RawIOBase):
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
