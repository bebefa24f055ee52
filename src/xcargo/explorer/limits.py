"""What one preview may cost in time and memory, and what is kept in memory for the next one."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from xcargo.codecs.source import BytesSource, SliceSource, Source, allocate, read_all
from xcargo.errors import DecodeError, ErrorKind, SizeLimitError, StoreUnavailableError, XCargoError
from xcargo.types import Buffer

__all__ = ["BLOCK_BYTES", "BlockCache", "Budget", "Payload", "PreviewPool", "PreviewTimeoutError", "TooLargeError"]

_T = TypeVar("_T")

BLOCK_BYTES = 64 * 1024
"""What is cached together: little, so that what many people look at fits; yet dozens of pages of a column."""

_MAX_NUMBERS = 100_000
_MAX_ORDERS = 8
_MAX_ORDER_BYTES = 64 * 1024 * 1024


class TooLargeError(SizeLimitError):
    """The value, or the part asked for, is larger than a preview may take. Nothing was read beyond the bound."""


class PreviewTimeoutError(XCargoError, TimeoutError):
    """A preview used up its time. A smaller part of the same value may fit."""

    kind = ErrorKind.OTHER


class Budget:
    """Time and memory of one preview: ``max_bytes`` may be in memory for one answer, which takes ``seconds`` at most.

    The time runs from when the budget is made.
    """

    def __init__(self, *, max_bytes: int, seconds: float) -> None:
        self.max_bytes = max_bytes
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    def seconds_left(self) -> float:
        """Seconds that are left; below zero when they are used up."""
        return self._end - time.monotonic()

    def check_time(self) -> None:
        """Raise PreviewTimeoutError when the time is used up."""
        if self.seconds_left() < 0:
            raise PreviewTimeoutError(
                f"The preview took longer than {self._seconds:g} seconds and was stopped",
                hint="Ask for less (fewer columns, no filter), or download the value.",
            )

    def check_size(self, size_bytes: int, what: str) -> None:
        """Raise TooLargeError unless ``size_bytes`` may be in memory. ``what`` is the subject of the message."""
        if size_bytes > self.max_bytes:
            raise TooLargeError(
                f"{what} takes {size_bytes} bytes, and a preview may take {self.max_bytes}",
                hint="Raise [xcargo] max_preview_bytes, or download the value.",
            )


class PreviewPool:
    """Runs previews on ``workers`` threads that do nothing else.

    So memory is bounded by their number times a budget, and whoever waits for a preview holds none of the threads that
    answer others. The event loop waits, not a thread.
    """

    def __init__(self, workers: int, *, queue_seconds: float, seconds: float) -> None:
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="xcargo-preview")
        self._queue_seconds = queue_seconds
        self._seconds = seconds

    async def run(self, preview: Callable[[], _T]) -> _T:
        """What ``preview`` returns or raises. Raises StoreUnavailableError when it does not start or end in time.

        One that does not end holds its thread until it does: its own time limits must end it.
        """
        started, loop = asyncio.Event(), asyncio.get_running_loop()

        def on_thread() -> _T:
            loop.call_soon_threadsafe(started.set)
            return preview()

        work = self._threads.submit(on_thread)
        done = asyncio.wrap_future(work)
        done.add_done_callback(lambda future: future.cancelled() or future.exception())  # also if nobody waits any more
        try:
            await asyncio.wait_for(started.wait(), self._queue_seconds)
        except asyncio.TimeoutError:
            if work.cancel():
                raise StoreUnavailableError(
                    "Too many previews are running, and none ended in time", hint="Try again in a moment."
                ) from None
        await asyncio.wait([done], timeout=self._seconds)
        if not done.done():
            raise StoreUnavailableError(
                f"There was no answer within {self._seconds:g} seconds; the store may be slow",
                hint="Try again in a moment.",
            )
        return done.result()


class _Recent(Generic[_T]):
    """The entries that were used last, within bounds; the newest is kept whatever its size."""

    def __init__(self, max_entries: int, max_bytes: float = float("inf")) -> None:
        self._entries: OrderedDict[Hashable, _T] = OrderedDict()
        self._max_entries, self._max_bytes = max_entries, max_bytes
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> _T | None:
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
            return self._entries.get(key)

    def put(self, key: Hashable, value: _T, size_bytes: int = 0) -> None:
        with self._lock:
            if key in self._entries:
                return
            self._entries[key] = value
            self._bytes += size_bytes
            while len(self._entries) > 1 and (len(self._entries) > self._max_entries or self._bytes > self._max_bytes):
                _, oldest = self._entries.popitem(last=False)
                self._bytes -= getattr(oldest, "nbytes", 0)


class BlockCache:
    """What previews leave for the next ones, in bounded memory: the blocks of payloads that were read last.

    Beside them are two kinds of results that take long to find again: ``numbers`` (where large items of a tree end, how
    many rows a batch of a table has) and ``orders`` (the rows of a table in an order or behind a filter).

    The blocks are in one mapping of ``max_bytes``. Were each allocated by itself, it would stay among what previews
    allocate and free, and the process would grow by the gaps between them.
    """

    def __init__(self, max_bytes: int) -> None:
        self.numbers: _Recent[int] = _Recent(_MAX_NUMBERS)
        self.orders: _Recent[Any] = _Recent(_MAX_ORDERS, _MAX_ORDER_BYTES)
        self._memory = allocate(max_bytes)
        self._free = list(range(max_bytes // BLOCK_BYTES))
        self._blocks: OrderedDict[tuple[str, int], tuple[int, int]] = OrderedDict()
        """Where in memory each block starts and ends."""
        self._lock = threading.Lock()

    def get(self, name: str, number: int) -> bytes | None:
        """A block, if it is cached."""
        with self._lock:
            span = self._blocks.get((name, number))
            if span is None:
                return None
            self._blocks.move_to_end((name, number))
            return bytes(self._memory[slice(*span)])

    def put(self, name: str, number: int, block: bytes) -> None:
        """Cache a block, in place of the one that was not used for the longest time."""
        with self._lock:
            if (name, number) in self._blocks or not (self._free or self._blocks):
                return
            start = self._free.pop() * BLOCK_BYTES if self._free else self._blocks.popitem(last=False)[1][0]
            self._blocks[name, number] = start, start + len(block)
            self._memory[start : start + len(block)] = block


class Payload:
    """Source of a value's payload, or of a part of it; its blocks are cached under ``name``, if that is not empty.

    Two payloads of one name must hold the same bytes. Every read counts against the budget.
    """

    def __init__(
        self, source: Source, name: str, *, cache: BlockCache, budget: Budget, span: tuple[int, int] | None = None
    ) -> None:
        self.budget = budget
        self.cache = cache
        self.name = name
        self._source = source
        self._start, self._end = span or (0, source.size_bytes)
        self._own = SliceSource(source, *span) if span else source

    def part(self, start: int, end: int) -> Payload:
        """Some bytes of it as a payload. Raises DecodeError for bytes outside it."""
        if not 0 <= start <= end <= self.size_bytes:
            raise DecodeError("The payload names a part outside itself")
        span = (self._start + start, self._start + end)
        return Payload(self._source, self.name, cache=self.cache, budget=self.budget, span=span)

    def in_memory(self, data: Buffer) -> Payload:
        """A payload that is part of this one in another form; nothing of it is cached."""
        return Payload(BytesSource(data), "", cache=self.cache, budget=self.budget)

    @property
    def size_bytes(self) -> int:
        return self._end - self._start

    @property
    def identity(self) -> tuple[str, int]:
        """Names these bytes among all payloads that have a name."""
        return self.name, self._start

    def read(self, start: int, end: int) -> Buffer:
        start, end = self._start + max(start, 0), min(self._start + end, self._end)
        if start >= end:
            return b""
        self.budget.check_size(end - start, "The part asked for")
        first, last = start // BLOCK_BYTES, (end - 1) // BLOCK_BYTES
        blocks = [self._block(n) for n in range(first, last + 1)]
        joined = blocks[0] if len(blocks) == 1 else b"".join(blocks)
        return memoryview(joined)[start - first * BLOCK_BYTES : end - first * BLOCK_BYTES]

    def remembered(self, what: str, position: int, find: Callable[[], int]) -> int:
        """A number that ``find`` finds: at once if it was found in this payload before."""
        key = (self.identity, what, position)
        number = self.cache.numbers.get(key) if self.name else None
        if number is None:
            number = find()
            if self.name:
                self.cache.numbers.put(key, number)
        return number

    def read_all(self) -> Buffer:
        """All of it. Raises TooLargeError if it is larger than a preview may take."""
        self.budget.check_size(self.size_bytes, "The value")
        return read_all(self._own)

    def read_into(self, view: memoryview) -> None:
        self.budget.check_size(len(view), "The value")
        self._own.read_into(view)

    def iter_chunks(self) -> Iterator[Buffer]:
        return self._own.iter_chunks()

    def _block(self, number: int) -> bytes:
        self.budget.check_time()
        block = self.cache.get(self.name, number) if self.name else None
        if block is None:
            block = bytes(self._source.read(number * BLOCK_BYTES, (number + 1) * BLOCK_BYTES))
            if self.name:
                self.cache.put(self.name, number, block)
        return block
