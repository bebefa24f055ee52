"""Sets of object keys for tens of millions of them: a few bytes each, whatever the keys' length."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from hashlib import blake2b

__all__ = ["ExactKeySet", "KeySet"]

_BUCKETS = 4096
_SHIFT = 52
_MASK = 0xFFFF_FFFF_FFFF_FFFF


class KeySet:
    """What was added is always found; a key that was not is found by a chance of its size in 2 ** 64.

    8 bytes a key. So it serves where a mistake keeps something: of live keys, never of those to delete. The hash is
    Python's own, seeded anew in each process, so nobody can choose keys that collide.
    """

    def __init__(self) -> None:
        self._buckets = [array("Q") for _ in range(_BUCKETS)]
        self._unsorted: set[int] = set()

    def add(self, key: str) -> None:
        """Add a key; twice is as good as once."""
        self.add_hash(hash(key) & _MASK)

    def add_hash(self, value: int) -> None:
        """Add what a key is hashed to, 64 bits."""
        bucket = value >> _SHIFT
        self._buckets[bucket].append(value)
        self._unsorted.add(bucket)

    def __contains__(self, key: str) -> bool:
        return self.has_hash(hash(key) & _MASK)

    def has_hash(self, value: int) -> bool:
        """Whether a hash was added."""
        bucket = value >> _SHIFT
        if bucket in self._unsorted:
            self._sort(bucket)
        found = self._buckets[bucket]
        at = bisect_left(found, value)
        return at < len(found) and found[at] == value

    def __len__(self) -> int:
        for bucket in tuple(self._unsorted):
            self._sort(bucket)
        return sum(map(len, self._buckets))

    def _sort(self, bucket: int) -> None:
        self._buckets[bucket] = array("Q", sorted(set(self._buckets[bucket])))
        self._unsorted.discard(bucket)


class ExactKeySet:
    """The same where a mistake would delete: two independent hashes of 64 bits, 16 bytes a key."""

    def __init__(self) -> None:
        self._halves = KeySet(), KeySet()

    def add(self, key: str) -> None:
        """Add a key; twice is as good as once."""
        for half, value in zip(self._halves, _hashes(key), strict=True):
            half.add_hash(value)

    def __contains__(self, key: str) -> bool:
        return all(half.has_hash(value) for half, value in zip(self._halves, _hashes(key), strict=True))

    def __len__(self) -> int:
        return len(self._halves[0])


def _hashes(key: str) -> tuple[int, int]:
    digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big")
