"""Objects that ``doctor`` and ``bench`` write to try a store. What a killed run leaves is an orphan to ``gc``."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from xcargo.lifecycle.plan import SCRATCH_DAG
from xcargo.model.coordinate import Coordinate
from xcargo.stores.base import Limits, Store, get_into

__all__ = ["get_in_parts", "probe_at"]


def probe_at(command: str, task_id: str = "store") -> Coordinate:
    """The coordinate for objects of a command; keys made of it differ from those of every Dag."""
    return Coordinate(SCRATCH_DAG, command, task_id, "probe")


def get_in_parts(store: Store, key: str, size_bytes: int, *, limits: Limits) -> bytearray:
    """The first ``size_bytes`` of an object, in parallel parts, as a pull reads a large value. One request a part.

    Fewer bytes if the object is shorter.
    """
    content = bytearray(size_bytes)
    with memoryview(content) as view, ThreadPoolExecutor(limits.max_concurrency) as pool:
        starts = range(0, size_bytes, limits.part_bytes)
        read_bytes = sum(
            pool.map(lambda start: get_into(store, key, view[start : start + limits.part_bytes], start=start), starts)
        )
    return content if read_bytes == size_bytes else content[:read_bytes]
