"""Sets of object keys, for tens of millions of them in memory and hundreds of millions on disk."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from hashlib import blake2b
from tempfile import TemporaryFile

__all__ = ["ExactKeySet", "KeySet", "KeysOnDisk"]

_BUCKETS = 4096
_MASK = 0xFFFF_FFFF_FFFF_FFFF


def _strong_hash(key: str, *, half: bytes) -> int:
    return int.from_bytes(blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8, person=half).digest(), "big")


class KeySet:
    """A set of object keys in 8 bytes each, for tens of millions of them.

    A key that was added is always found. One that was not is found by a chance of the set's size in 2 ** 64, so it
    serves where a mistake keeps an object. The hash is Python's own, which is seeded in each process: nobody can choose
    keys that collide.
    """

    def __init__(self, hash_key: Callable[[str], int] = hash) -> None:
        self._hash = hash_key
        self.buckets = [array("Q") for _ in range(_BUCKETS)]
        self._unsorted: set[int] = set()

    def add(self, key: str) -> None:
        """Add a key; adding it twice makes no difference."""
        value = self._hash(key) & _MASK
        bucket = value % _BUCKETS
        self.buckets[bucket].append(value)
        self._unsorted.add(bucket)

    def __contains__(self, key: str) -> bool:
        value = self._hash(key) & _MASK
        bucket = value % _BUCKETS
        if bucket in self._unsorted:
            self._sort(bucket)
        values = self.buckets[bucket]
        at = bisect_left(values, value)
        return at < len(values) and values[at] == value

    def __len__(self) -> int:
        for bucket in tuple(self._unsorted):
            self._sort(bucket)
        return sum(map(len, self.buckets))

    def _sort(self, bucket: int) -> None:
        self.buckets[bucket] = array("Q", sorted(set(self.buckets[bucket])))
        self._unsorted.discard(bucket)


class ExactKeySet:
    """The same where a mistake would delete: two independent cryptographic hashes, 16 bytes a key."""

    def __init__(self) -> None:
        self._halves = [KeySet(partial(_strong_hash, half=half)) for half in (b"first", b"second")]

    def add(self, key: str) -> None:
        """Add a key; adding it twice makes no difference."""
        for half in self._halves:
            half.add(key)

    def __contains__(self, key: str) -> bool:
        return all(key in half for half in self._halves)

    def __len__(self) -> int:
        return len(self._halves[0])


_PARTS = 1024


class _Parts:
    """Numbers of 64 bits by part, in one temporary file but for the last ones of each part."""

    def __init__(self, unwritten_numbers: int) -> None:
        self._unwritten_numbers = unwritten_numbers
        self.unwritten = [array("q") for _ in range(_PARTS)]
        self._file = TemporaryFile()  # noqa: SIM115 - closed by close()
        self._written: list[list[tuple[int, int]]] = [[] for _ in range(_PARTS)]
        self._end = 0

    def write(self) -> None:
        """Write the parts that are long enough."""
        for part, numbers in enumerate(self.unwritten):
            if len(numbers) >= self._unwritten_numbers:
                self._file.seek(self._end)
                numbers.tofile(self._file)
                self._written[part].append((self._end, len(numbers)))
                self._end += len(numbers) * numbers.itemsize
                del numbers[:]

    def read(self, part: int) -> array[int]:
        """All numbers of a part."""
        numbers = array("q", self.unwritten[part])
        for start, length in self._written[part]:
            self._file.seek(start)
            numbers.fromfile(self._file, length)
        return numbers

    def close(self) -> None:
        self._file.close()


class KeysOnDisk:
    """The same as `KeySet`, with 8 bytes a key in a temporary file.

    `find` looks up many keys at once; a single key costs the reading of one part in a thousand.

    Args:
        unwritten_numbers: Of 8 bytes, which each of the 1,024 parts holds in memory: 16 MiB by default.
    """

    def __init__(self, unwritten_numbers: int = 2048) -> None:
        self._unwritten_numbers = unwritten_numbers
        self._keys = _Parts(unwritten_numbers)
        self._added = 0
        self._read: tuple[tuple[int, int], set[int]] = ((-1, 0), set())

    def add(self, key: str) -> None:
        """Add a key; adding it twice makes no difference."""
        value = hash(key)
        self._keys.unwritten[value % _PARTS].append(value)
        self._added += 1
        if not self._added % (32 * self._unwritten_numbers):
            self._keys.write()

    def __contains__(self, key: str) -> bool:
        value = hash(key)
        part = value % _PARTS, self._added
        if self._read[0] != part:
            self._read = part, set(self._keys.read(part[0]))
        return value in self._read[1]

    def __len__(self) -> int:
        return sum(len(set(self._keys.read(part))) for part in range(_PARTS))

    def find(self, batches: Iterable[Sequence[str]]) -> bytearray:
        """Which of these keys, in their order, are in the set: a bit for each, the first of a byte being the lowest.

        Writes 16 bytes a key into another temporary file.
        """
        asked, count = _Parts(self._unwritten_numbers), 0
        try:
            parts = asked.unwritten
            for keys in batches:
                for row, value in enumerate(map(hash, keys), count):
                    part = parts[value % _PARTS]
                    part.append(value)
                    part.append(row)
                count += len(keys)
                asked.write()
            found = bytearray((count + 7) // 8)
            for number in range(_PARTS):
                values = set(self._keys.read(number))
                numbers = asked.read(number)
                for value, row in zip(numbers[::2], numbers[1::2], strict=True):
                    if value in values:
                        found[row >> 3] |= 1 << (row & 7)
            return found
        finally:
            asked.close()

    def close(self) -> None:
        """Remove the file."""
        self._keys.close()
