"""The garbage collector, held back while large values are built."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from xcargo.codecs.gc_tuning import gc_paused


@pytest.fixture
def collections() -> Any:
    """The collections that have begun since."""
    begun: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            begun.append(info["generation"])

    gc.collect()
    gc.callbacks.append(note)
    yield begun
    gc.callbacks.remove(note)


def test_many_objects_that_were_built_are_not_looked_through(collections: list[int]) -> None:
    """No collection runs while they are built, and none because of them afterwards."""
    with gc_paused():
        built = [[n] for n in range(100_000)]
    few = [[n] for n in range(100)]
    assert not collections
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0
    assert len(built) + len(few) == 100_100


def test_nor_in_a_process_that_left_out_what_it_inherited(collections: list[int]) -> None:
    """What a task inherits is frozen; many new objects cost it no collection either."""
    gc.freeze()
    try:
        with gc_paused():
            built = [[n] for n in range(100_000)]
        few = [[n] for n in range(100)]
        assert not collections
        assert len(built) + len(few) == 100_100
    finally:
        gc.unfreeze()


def test_garbage_that_was_built_is_collected_in_the_end() -> None:
    """Objects that were counted among the old ones are no exception to the collector."""

    class Cycle:
        def __init__(self) -> None:
            self.self = self
            gone.append(1)

        def __del__(self) -> None:
            gone.pop()

    gone: list[int] = []
    with gc_paused():
        built = [Cycle() for _ in range(30_000)]
    del built
    gc.collect()
    assert not gone
