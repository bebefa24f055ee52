"""Measurements -> settings. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from xcargo.cli.measure.probe import Compressed, Transfer

__all__ = ["Advice", "advise_compression", "advise_split", "advise_threshold"]

_NEARLY_BEST = 1.10
"""What is no more than a tenth slower counts as equal, and the more modest is chosen."""

_THRESHOLDS = ((0.020, 1024), (0.100, 16 * 1024), (float("inf"), 64 * 1024))


@dataclass(frozen=True)
class Advice:
    """A setting and why."""

    option: str
    value: str
    why: str


def advise_threshold(small: Transfer) -> Advice:
    """From the time that the smallest object takes there and back.

    A rule of thumb: up to 20 ms the default serves; a slower store makes it worth while to leave more in the database.
    """
    value = next(size for least, size in _THRESHOLDS if small.seconds <= least)
    return Advice("threshold_bytes", str(value), f"a small object takes {small.seconds * 1000:.1f} ms there and back")


def advise_split(transfers: Iterable[Transfer]) -> list[Advice]:
    """Part size and concurrency of the fastest large transfer; among equals fewer requests at once, larger parts."""
    measured = list(transfers)
    if not measured:
        return []
    best = min(measured, key=lambda t: t.seconds)
    good = [t for t in measured if t.seconds <= best.seconds * _NEARLY_BEST]
    chosen = min(good, key=lambda t: (t.concurrency, -t.part_bytes))
    megabytes = chosen.size_bytes / 1e6
    why = (
        f"{megabytes:.0f} MB go at {chosen.put_mb_per_second:.0f} MB/s and come at {chosen.get_mb_per_second:.0f} MB/s"
    )
    return [
        Advice("part_bytes", str(chosen.part_bytes), why),
        Advice("max_concurrency", str(chosen.concurrency), "the least that is as fast"),
    ]


def advise_compression(candidates: Sequence[Compressed], large: Transfer) -> Advice:
    """The compression with which a large value is there and back soonest; among equals the smallest object."""

    def seconds_per_mb(found: Compressed) -> float:
        return (
            1 / found.compress_mb_per_second
            + 1 / found.decompress_mb_per_second
            + (1 / large.put_mb_per_second + 1 / large.get_mb_per_second) / found.ratio
        )

    best = min(map(seconds_per_mb, candidates))
    chosen = max((c for c in candidates if seconds_per_mb(c) <= best * _NEARLY_BEST), key=lambda c: c.ratio)
    why = f"{1 / seconds_per_mb(chosen):.0f} MB/s there and back, objects {chosen.ratio:.1f} times smaller"
    return Advice("compression", chosen.name, why)
