"""The payload of a stored value, read in blocks that are kept for the next look at it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator

from xcargo.codecs.source import Source, allocate
from xcargo.explorer.bounds import Budget
from xcargo.types import Buffer

__all__ = ["BLOCK_BYTES", "Blocks", "Payload"]

BLOCK_BYTES = 64 * 1024
"""What is kept together: little, so that what many people look at fits; yet dozens of pages of a column."""


class Blocks:
    """The blocks that were used last, of all values that are looked at; no more than ``max_bytes`` of them.

    They lie side by side in one mapping. Each in memory of its own would lie, for long, among what looks take and give
    back, and a process would grow by the holes between them.
    """

    def __init__(self, max_bytes: int) -> None:
        self._memory = allocate(max_bytes)
        self._free = list(range(max_bytes // BLOCK_BYTES))
        self._kept: OrderedDict[tuple[str, int], tuple[int, int]] = OrderedDict()
        """Where each lies, and where it ends."""
        self._lock = threading.Lock()

    def get(self, name: str, number: int) -> bytes | None:
        """A block, if it is kept."""
        with self._lock:
            found = self._kept.get((name, number))
            if found is None:
                return None
            self._kept.move_to_end((name, number))
            return bytes(self._memory[slice(*found)])

    def keep(self, name: str, number: int, block: bytes) -> None:
        """Keep a block, in place of those that were not used for the longest time."""
        with self._lock:
            if (name, number) in self._kept:
                return
            start = self._free.pop() * BLOCK_BYTES if self._free else self._kept.popitem(last=False)[1][0]
            self._kept[name, number] = start, start + len(block)
            self._memory[start : start + len(block)] = block


class Payload:
    """Source of a value's payload, of which blocks are kept under ``name`` (None keeps nothing).

    Two payloads of one name must hold the same bytes. Whatever is read counts against the budget of the look.
    """

    def __init__(self, source: Source, name: str | None, blocks: Blocks, budget: Budget) -> None:
        self._source = source
        self._name = name
        self._blocks = blocks
        self.budget = budget

    @property
    def size_bytes(self) -> int:
        return self._source.size_bytes

    def read(self, start: int, end: int) -> Buffer:
        start, end = max(start, 0), min(end, self.size_bytes)
        if start >= end:
            return b""
        self.budget.fits(end - start, "The part asked for")
        first, last = start // BLOCK_BYTES, (end - 1) // BLOCK_BYTES
        if first == last:
            return memoryview(self._block(first))[start - first * BLOCK_BYTES : end - first * BLOCK_BYTES]
        joined = b"".join(self._block(n) for n in range(first, last + 1))
        return memoryview(joined)[start - first * BLOCK_BYTES : end - first * BLOCK_BYTES]

    def _block(self, number: int) -> bytes:
        self.budget.check()
        kept = self._blocks.get(self._name, number) if self._name else None
        if kept is None:
            kept = bytes(self._source.read(number * BLOCK_BYTES, (number + 1) * BLOCK_BYTES))
            if self._name:
                self._blocks.keep(self._name, number, kept)
        return kept

    def read_into(self, view: memoryview) -> None:
        self.budget.fits(len(view), "The value")
        self._source.read_into(view)

    def iter_chunks(self) -> Iterator[Buffer]:
        return self._source.iter_chunks()
