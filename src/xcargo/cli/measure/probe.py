"""Puts and gets of a store, timed. Everything written lies below ``.xcargo-bench`` and is deleted again."""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from xcargo.cli.ranges import get_in_parts
from xcargo.lifecycle.plan import BENCH_FOLDER as FOLDER
from xcargo.stores.base import Store

__all__ = ["FOLDER", "Compressed", "Transfer", "compressions", "sample", "transfer"]


@dataclass(frozen=True)
class Transfer:
    """Puts and gets of objects of one size, with one way to split them. Seconds are of the median one."""

    size_bytes: int
    part_bytes: int
    concurrency: int
    put_seconds: float
    get_seconds: float
    rounds: int

    @property
    def put_mb_per_second(self) -> float:
        return self.size_bytes / self.put_seconds / 1e6

    @property
    def get_mb_per_second(self) -> float:
        return self.size_bytes / self.get_seconds / 1e6

    @property
    def seconds(self) -> float:
        """There and back."""
        return self.put_seconds + self.get_seconds


@dataclass(frozen=True)
class Compressed:
    """What a compression made of the sample."""

    name: str
    ratio: float
    """Size before by size after."""
    compress_mb_per_second: float
    decompress_mb_per_second: float


def transfer(
    store: Store,
    size_bytes: int,
    *,
    part_bytes: int,
    concurrency: int,
    rounds: int,
    budget_seconds: float,
    on_round: Callable[[], None] = lambda: None,
) -> Transfer:
    """Put and get fresh objects of random bytes, ``rounds`` times or until the budget is spent, once at least."""
    data = secrets.token_bytes(min(size_bytes, 1 << 20))
    data = (data * (size_bytes // len(data) + 1))[:size_bytes]

    def get(key: str) -> object:
        if part_bytes >= size_bytes:
            return store.get(key)
        return get_in_parts(store, key, size_bytes, part_bytes=part_bytes, concurrency=concurrency)

    puts: list[float] = []
    gets: list[float] = []
    started = time.perf_counter()
    with _removed(store) as key_of:
        while len(puts) < rounds and (not puts or time.perf_counter() - started < budget_seconds):
            key = key_of(len(puts))
            puts.append(_seconds(lambda key=key: store.put(key, [data])))  # type: ignore[misc]
            gets.append(_seconds(lambda key=key: get(key)))  # type: ignore[misc]
            on_round()
    return Transfer(
        size_bytes, part_bytes, concurrency, statistics.median(puts), statistics.median(gets), rounds=len(puts)
    )


@contextmanager
def _removed(store: Store) -> Iterator[Callable[[int], str]]:
    """Keys whose objects are deleted at the end, come what may."""
    name, keys = secrets.token_hex(8), []

    def key_of(n: int) -> str:
        keys.append(f"{FOLDER}/{name}-{n}")
        return keys[-1]

    try:
        yield key_of
    finally:
        store.delete(keys)


def compressions(payload: bytes, names: tuple[str, ...]) -> list[Compressed]:
    """How fast and how small each compression is on this payload."""
    from xcargo.transfer.compression import compress, decompress

    found = [Compressed("none", 1.0, float("inf"), float("inf"))]
    for name in names:
        squeezed = compress(name, payload)
        there = min(_seconds(lambda name=name: compress(name, payload)) for _ in range(3))  # type: ignore[misc]
        back = min(
            _seconds(lambda name=name, squeezed=squeezed: decompress(name, squeezed, len(payload)))  # type: ignore[misc]
            for _ in range(3)
        )
        mb = len(payload) / 1e6
        found.append(Compressed(name, len(payload) / len(squeezed), mb / there, mb / back))
    return found


def sample(size_bytes: int = 2_000_000) -> bytes:
    """What tasks often pass on: rows of a table, with numbers, times, words and identifiers, as text."""
    import random

    dice = random.Random(7)  # noqa: S311 - the same sample for everyone
    words = ["paid", "open", "refunded", "shipped", "returned", "Hamburg", "Lyon", "Kraków", "EUR", "USD"]
    lines: list[str] = []
    length = 0
    while length < size_bytes:
        lines.append(
            f"{dice.getrandbits(48):012x},2024-{dice.randint(1, 12):02}-{dice.randint(1, 28):02}T"
            f"{dice.randint(0, 23):02}:{dice.randint(0, 59):02}:00Z,{dice.choice(words)},{dice.choice(words)},"
            f"{dice.gauss(100, 30):.2f}\n"
        )
        length += len(lines[-1])
    return "".join(lines).encode()[:size_bytes]


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
