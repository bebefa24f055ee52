"""Loading in order: what is under way together, what is held, and what happens when it goes wrong or ends early."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from itertools import count, islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xcargo.pipeline.prefetch import prefetch_ordered

WAIT_SECONDS = 30


class Value:
    """Something that a weak reference can watch."""


@given(
    st.lists(st.one_of(st.none(), st.integers(0, 50)), max_size=40),
    st.integers(1, 5),
    st.integers(0, 100),
)
def test_order_is_kept_and_the_window_holds(sizes: list[int | None], workers: int, window: int) -> None:
    """Whatever is at hand and whatever is not, results come in order, loaded ahead no further than the window."""
    lock = threading.Lock()
    ahead: dict[int, int] = {}
    most = 0

    def load(n: int) -> int:
        nonlocal most
        if (size := sizes[n]) is not None:
            with lock:
                ahead[n] = size
                most = max(most, sum(ahead.values()) if len(ahead) > 1 else 0)
        return n

    got = []
    for n in prefetch_ordered(
        range(len(sizes)), load, size_bytes=lambda n: sizes[n], workers=workers, window_bytes=window
    ):
        with lock:
            ahead.pop(n, None)
        got.append(n)
    assert got == list(range(len(sizes)))
    assert most <= window


def test_as_many_as_there_are_workers_are_under_way_together() -> None:
    """After the first, which comes alone, four loads meet at a barrier that takes four."""
    together = threading.Barrier(4)

    def load(n: int) -> int:
        if n:
            together.wait(WAIT_SECONDS)
        return n

    loaded = prefetch_ordered(range(13), load, size_bytes=lambda _: 1, workers=4, window_bytes=100)
    assert list(loaded) == list(range(13))


def test_the_first_is_loaded_by_the_consumer_and_before_all_others() -> None:
    """Who takes one value causes one load, in its own thread."""
    threads = []

    def load(n: int) -> int:
        threads.append(threading.get_ident())
        return n

    loaded = prefetch_ordered(range(10), load, size_bytes=lambda _: 1, workers=4, window_bytes=100)
    assert next(loaded) == 0
    assert threads == [threading.get_ident()]


def test_what_is_at_hand_needs_no_thread() -> None:
    """Items without a size are loaded where they are consumed, when they are."""
    threads = []

    def load(n: int) -> int:
        threads.append(threading.get_ident())
        return n

    assert list(prefetch_ordered(range(100), load, size_bytes=lambda _: None, workers=4, window_bytes=1)) == list(
        range(100)
    )
    assert set(threads) == {threading.get_ident()}


def test_items_are_not_read_further_than_the_window() -> None:
    """An endless source is read as far as four items and one more, though the consumer took only two."""
    read = []

    def items() -> Iterator[int]:
        for n in count():
            read.append(n)
            yield n

    loaded = prefetch_ordered(items(), str, size_bytes=lambda _: 25, workers=16, window_bytes=100)
    assert list(islice(loaded, 2)) == ["0", "1"]
    assert read == [0, 1, 2, 3, 4, 5]


def test_an_item_above_the_window_comes_alone() -> None:
    """No other load begins before it is consumed, nor does it begin before what precedes it is."""
    under_way: set[int] = set()

    def load(n: int) -> int:
        assert not under_way
        under_way.add(n)
        return n

    for n in prefetch_ordered(range(8), load, size_bytes=lambda _: 101, workers=4, window_bytes=100):
        under_way.remove(n)


def test_a_value_lives_no_longer_than_its_consumer_keeps_it() -> None:
    """Once a value is handed over, nothing else holds it."""
    for value in prefetch_ordered(range(20), lambda _: Value(), size_bytes=lambda _: 1, workers=2, window_bytes=5):
        seen = weakref.ref(value)
        del value
        assert seen() is None


def test_an_error_is_raised_at_its_turn_and_nothing_more_is_loaded() -> None:
    """What precedes the failed item arrives; what follows beyond the window is never asked for."""
    asked = []

    def load(n: int) -> int:
        asked.append(n)
        if n == 5:
            raise LookupError("five")
        return n

    loaded = prefetch_ordered(range(1000), load, size_bytes=lambda _: 1, workers=2, window_bytes=4)
    assert list(islice(loaded, 5)) == [0, 1, 2, 3, 4]
    with pytest.raises(LookupError, match="five"):
        next(loaded)
    assert max(asked) < 20


def test_ending_early_does_not_wait() -> None:
    """Closing the iteration returns while a load hangs, and starts none of those that were queued."""
    release = threading.Event()
    asked = []

    def load(n: int) -> int:
        asked.append(n)
        if n > 1:
            release.wait(WAIT_SECONDS)
        return n

    loaded = prefetch_ordered(range(100), load, size_bytes=lambda _: 1, workers=2, window_bytes=50)
    assert [next(loaded), next(loaded)] == [0, 1]
    loaded.close()  # type: ignore[attr-defined]
    release.set()
    for thread in threading.enumerate():
        if thread.name.startswith("xcargo-pull"):
            thread.join(WAIT_SECONDS)
    assert len(asked) <= 2 + 2
