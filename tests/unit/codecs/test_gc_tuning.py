"""The garbage collector, held back while large values are built."""

from __future__ import annotations

import gc
import os
import time
import traceback
from collections.abc import Callable, Iterator

import pytest

from xcargo.codecs.gc_tuning import freeze_inherited, gc_paused


def check_in_process(check: Callable[[], None], *, frozen: bool) -> None:
    """Run the check here; or in a forked process that froze what it inherited, since this one could not undo that."""
    if not frozen:
        check()
        return
    child = os.fork()
    if child == 0:
        code = 1
        try:
            freeze_inherited()
            check()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.fixture
def collections() -> Iterator[list[int]]:
    """The collections that have begun since."""
    begun: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            begun.append(info["generation"])

    gc.collect()
    gc.callbacks.append(note)
    yield begun
    gc.callbacks.remove(note)


@pytest.mark.parametrize("frozen", [False, True], ids=["", "after_a_fork"])
def test_many_objects_that_were_built_are_not_looked_through(collections: list[int], frozen: bool) -> None:
    """No collection runs while they are built, and none because of them afterwards. What is frozen stays so."""

    def check() -> None:
        inherited = gc.get_freeze_count()
        with gc_paused():
            built = [[n] for n in range(100_000)]
        few = [[n] for n in range(100)]
        assert not collections
        assert gc.isenabled()
        assert gc.get_freeze_count() >= inherited
        assert frozen or gc.get_freeze_count() == 0
        assert len(built) + len(few) == 100_100

    check_in_process(check, frozen=frozen)


@pytest.mark.parametrize("frozen", [False, True], ids=["", "after_a_fork"])
def test_garbage_that_was_built_is_collected_in_the_end(frozen: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects that were counted among the old ones are no exception to the collector, in a triggerer for instance.

    Where they were frozen with what a process inherited, that takes a minute.
    """

    class Cycle:
        def __init__(self) -> None:
            self.self = self
            gone.append(1)

        def __del__(self) -> None:
            gone.pop()

    gone: list[int] = []

    def check() -> None:
        with gc_paused():
            built = [Cycle() for _ in range(30_000)]
        del built
        later = time.monotonic() + 61
        monkeypatch.setattr(time, "monotonic", lambda: later)
        gc.collect()
        assert not gone

    check_in_process(check, frozen=frozen)


def test_the_collector_is_given_back_as_it_was() -> None:
    """Also after an error, and if the user had turned it off."""
    with pytest.raises(KeyError), gc_paused():  # noqa: PT012
        assert not gc.isenabled()
        raise KeyError
    assert gc.isenabled()
    gc.disable()
    try:
        with gc_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
