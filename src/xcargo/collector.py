"""Python's cyclic garbage collector, held back where it can only cost."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["paused"]


@contextmanager
def paused() -> Iterator[None]:
    """Run the block without automatic collections, where it only builds objects that stay.

    A task is a fork of a process with a large heap: one full collection there touches, and so copies, every page of it,
    which takes longer than the first push itself. Building a million objects sets collections off again and again.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
