"""Python's cyclic garbage collector, held back where it can only cost."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["paused", "spare_inherited"]

_MANY_OBJECTS = 20_000


@contextmanager
def paused() -> Iterator[None]:
    """Run the block without automatic collections, where it only builds objects that stay.

    A task is a fork of a process with a large heap: one full collection there touches, and so copies, every page of it,
    which takes longer than the first push itself. Building a million objects sets collections off again and again, and
    one at the end, which takes half as long as building them: so many are counted among the old ones at once.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        if gc.get_count()[0] > _MANY_OBJECTS:
            gc.freeze()  # all objects into the list of the frozen ones, and that into the list of the oldest:
            gc.unfreeze()  # neither looks at a single one
        gc.enable()


def spare_inherited() -> None:
    """From now on, have collections in forked children leave out what a child inherits: nothing of it is garbage there.

    Otherwise the first full collection of a task writes to every object of Airflow's heap, so that the kernel copies
    some 50 MB for it. Airflow's LocalExecutor does the same for its workers.
    """
    os.register_at_fork(after_in_child=gc.freeze)
