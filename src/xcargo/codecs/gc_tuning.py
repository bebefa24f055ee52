"""Python's cyclic garbage collector, kept from work that finds nothing."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["freeze_after_fork", "gc_paused"]

_MANY_OBJECTS = 20_000


@contextmanager
def gc_paused() -> Iterator[None]:
    """Run a block that only builds objects that stay, without automatic collections.

    Building a million objects sets off collection after collection, and one at the end that takes half as long as
    building them. So the end of the block counts them among the old objects without looking at one.

    A process that froze what it inherited keeps that frozen, and freezes these objects with it: they are freed as soon
    as nothing refers to them, but reference cycles among them are not looked for.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        if gc.get_count()[0] > _MANY_OBJECTS:
            inherited = gc.get_freeze_count()
            gc.freeze()
            if not inherited:
                gc.unfreeze()  # from the frozen objects to the oldest
        gc.enable()


def freeze_after_fork() -> None:
    """Have collections in processes that this one forks leave out what they inherit: nothing of it is garbage there.

    Otherwise the first full collection of a task writes to every object of Airflow's heap, so that the kernel copies
    some 50 MB for it. Airflow's LocalExecutor does the same for its workers.
    """
    os.register_at_fork(after_in_child=gc.freeze)
