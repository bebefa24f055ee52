"""Python's cyclic garbage collector, kept from work that finds nothing."""

from __future__ import annotations

import gc
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["freeze_after_fork", "freeze_inherited", "gc_paused"]

_MANY_OBJECTS = 20_000
_FROZEN_SECONDS = 60.0
"""How long these are kept from the collector in a process that froze what it inherited. Most tasks are over by then."""

_inherited_frozen = False
"""Whether this process froze what it inherited. (To count what is frozen, `gc` walks through all of it.)"""
_unfreeze_at = math.inf


@contextmanager
def gc_paused() -> Iterator[None]:
    """Run a block that only builds objects that stay, without automatic collections.

    Building a million objects sets off collection after collection, and one at the end that takes half as long as
    building them. So the end of the block counts them among the old objects without looking at one.

    A process that froze what it inherited keeps that frozen, and freezes all objects with it. They are freed as soon as
    nothing refers to them; reference cycles among them are looked for from a minute later on, then among all objects.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        if gc.get_count()[0] > _MANY_OBJECTS:
            gc.freeze()
            if _inherited_frozen:
                _unfreeze_later()
            else:
                gc.unfreeze()  # from the frozen objects to the oldest
        gc.enable()


def _unfreeze_later() -> None:
    global _unfreeze_at
    if _unfreeze_at == math.inf:
        _unfreeze_at = time.monotonic() + _FROZEN_SECONDS
    if _unfreeze_if_due not in gc.callbacks:
        gc.callbacks.append(_unfreeze_if_due)


def _unfreeze_if_due(phase: str, info: dict[str, int]) -> None:
    """Called before and after each collection. The objects become old ones, which a full collection looks through."""
    global _unfreeze_at
    if phase == "start" and info["generation"] > 0 and time.monotonic() >= _unfreeze_at:
        _unfreeze_at = math.inf
        gc.unfreeze()


def freeze_after_fork() -> None:
    """Have collections in processes that this one forks leave out what they inherit: nothing of it is garbage there.

    Otherwise the first full collection of a task writes to every object of Airflow's heap, so that the kernel copies
    some 50 MB for it. Airflow's LocalExecutor does the same for its workers.
    """
    os.register_at_fork(after_in_child=freeze_inherited)


def freeze_inherited() -> None:
    """Leave all objects that exist now out of collections, until `gc_paused` has them looked through again."""
    global _inherited_frozen
    _inherited_frozen = True
    gc.freeze()
