"""Loading many things in order, ahead of whoever consumes them. Standard library only."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

__all__ = ["prefetch_ordered"]

_T = TypeVar("_T")
_R = TypeVar("_R")

_QUEUED = 4
"""Items under way or waiting to be consumed, for each worker: enough that a slow item does not hold up the others."""


def prefetch_ordered(
    items: Iterable[_T],
    load: Callable[[_T], _R],
    *,
    size_bytes: Callable[[_T], int | None],
    workers: int,
    window_bytes: int,
) -> Iterator[_R]:
    """``load(item)`` for each item, in order, up to ``workers`` of them at once on threads.

    ``size_bytes(item)`` is what an item takes once it is loaded; None says that it is at hand, and it is loaded when it
    is consumed. What is under way and what waits to be consumed takes ``window_bytes`` together, or is a single item.
    ``items`` is read on the consumer's thread, one item further than the window. The first item that is not at hand is
    loaded there too, before any thread starts: it sets up what all share, and who wants no more than it pays no more.

    An error of ``load`` is raised at its item's turn and ends the iteration. An iteration that ends early does not wait
    for what is under way.
    """
    source = iter(items)
    for item in source:
        yield load(item)
        if size_bytes(item) is not None:
            break
    sized = ((item, size_bytes(item)) for item in source)
    upcoming = next(sized, None)
    if upcoming is None:
        return
    waiting: deque[tuple[Callable[[], _R], int]] = deque()
    ahead_bytes = 0
    pool = ThreadPoolExecutor(workers, thread_name_prefix="xcargo-pull")
    try:
        while upcoming or waiting:
            while upcoming and len(waiting) < _QUEUED * workers:
                item, size = upcoming
                if waiting and ahead_bytes + (size or 0) > window_bytes:
                    break
                waiting.append((partial(load, item) if size is None else pool.submit(load, item).result, size or 0))
                ahead_bytes += size or 0
                upcoming = next(sized, None)
            ahead_bytes -= waiting[0][1]
            yield waiting.popleft()[0]()  # no name here keeps the value while its consumer has it
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
