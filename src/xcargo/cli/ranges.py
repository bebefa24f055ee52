"""An object read in parallel ranges, as a pull of a large value reads it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from xcargo.stores.base import Store, get_into

__all__ = ["get_in_parts"]


def get_in_parts(store: Store, key: str, size_bytes: int, *, part_bytes: int, concurrency: int) -> bytearray:
    """The first ``size_bytes`` of an object, one request a part; fewer if it is shorter."""
    whole = bytearray(size_bytes)
    view = memoryview(whole)

    def fill(start: int) -> int:
        return get_into(store, key, view[start : start + part_bytes], start=start)

    with ThreadPoolExecutor(concurrency) as pool:
        got = sum(pool.map(fill, range(0, size_bytes, part_bytes)))
    view.release()
    return whole if got == size_bytes else whole[:got]
