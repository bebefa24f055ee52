"""How failed requests are repeated: when, how often, and what the task log says of it.

Waits grow exponentially with jitter. A store that says it is busy gets more time; one that says how much gets that. The
bound is time alone: a request and its repetitions take ``timeout_seconds`` together, the last one begins with a tenth
of them left.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from xcargo.errors import StoreUnavailableError, printable
from xcargo.stores.base import Limits

__all__ = ["Retry", "bounded", "pause_seconds"]

log = logging.getLogger(__name__)

_T = TypeVar("_T")

_BUSY_FACTOR = 20
"""A busy store is asked again this many times later than one that failed: after a second at least, by default."""


class Retry:
    """Repeats the requests of one store within its limits. ``on_retry`` is called with the verb of each repetition."""

    def __init__(self, limits: Limits, on_retry: Callable[[str], object] | None = None) -> None:
        self._limits = limits
        self._on_retry = on_retry

    def run(self, verb: str, where: str, attempt: Callable[[float], _T]) -> _T:
        """What ``attempt`` returns, called again after each StoreUnavailableError until time is up.

        It gets the seconds that are left. The last error is raised, and says how often and for how long was tried.
        """
        began = time.monotonic()
        bound = self._limits.timeout_seconds
        number = 1
        while True:
            try:
                return attempt(bound - (time.monotonic() - began))
            except StoreUnavailableError as error:
                spent = time.monotonic() - began
                wait = pause_seconds(number, error, self._limits, bound - spent)
                if wait is None:
                    times = "once" if number == 1 else f"{number} times"
                    error.what = f"{error.what} (tried {times} in {spent:.1f} s of {bound:g})"
                    raise
                log.warning(
                    "xcargo: attempt %d to %s %s failed, %.1f s after the first: %s. Next in %.1f s, for %g s in all",
                    *(number, verb, where, spent, printable(error.what), wait, bound),
                )
            self._count(verb)
            time.sleep(wait)
            number += 1

    def hedged(self, where: str, work: Callable[[], _T]) -> _T:
        """What ``work`` returns; after ``hedge_after_seconds`` it is called a second time beside the first.

        The first result counts. An error counts if it is the only outcome.
        """
        seconds = self._limits.hedge_after_seconds
        outcomes = _start(work)
        try:
            result, error = outcomes.get(timeout=seconds)
        except Empty:
            log.info("xcargo: no answer to %s after %g s, asks once more beside it", where, seconds)
            self._count("hedge")
            _start(work, outcomes)
            result, error = outcomes.get()
            if error is not None:
                result, error = outcomes.get()
        if error is not None:
            raise error
        return result  # type: ignore[no-any-return]

    def _count(self, verb: str) -> None:
        if self._on_retry is not None:
            self._on_retry(verb)


def pause_seconds(attempt: int, error: StoreUnavailableError, limits: Limits, left_seconds: float) -> float | None:
    """Seconds to wait after this attempt; None to give up, when no more than a tenth of the time is left."""
    usable = left_seconds - limits.timeout_seconds / 10
    if error.final or usable <= 0:
        return None
    first = limits.retry_wait_seconds * (_BUSY_FACTOR if error.busy else 1)
    longest = min(first * 2.0 ** min(attempt - 1, 30), limits.retry_max_wait_seconds)
    wait = random.uniform(longest / 2, longest)  # noqa: S311 - so that many tasks do not return together
    return min(max(wait, error.retry_after_seconds or 0), usable)


def bounded(work: Callable[[], _T], seconds: float, last_sign: Callable[[], float] | None = None) -> _T:
    """What ``work`` returns, or TimeoutError: for libraries that bound nothing themselves.

    What has not ended by then goes on in a thread that nobody waits for.

    Args:
        work: Called in a thread of its own.
        seconds: The bound.
        last_sign: When ``work`` last made progress, by the monotonic clock; the bound counts from there.
    """
    until = time.monotonic() + seconds
    outcomes = _start(work)
    while True:
        try:
            result, error = outcomes.get(timeout=max(until - time.monotonic(), 0.001))
            break
        except Empty:
            if last_sign is not None:
                until = last_sign() + seconds
            if time.monotonic() >= until:
                raise TimeoutError(f"nothing came of it in {seconds:.1f} s") from None
    if error is not None:
        raise error
    return result  # type: ignore[no-any-return]


_Outcomes = SimpleQueue[tuple[Any, BaseException | None]]


def _start(work: Callable[[], Any], outcomes: _Outcomes | None = None) -> _Outcomes:
    """Calls ``work`` in a thread, which puts a result or an error into the queue."""
    queue: _Outcomes = SimpleQueue() if outcomes is None else outcomes

    def run() -> None:
        try:
            queue.put((work(), None))
        except BaseException as error:
            queue.put((None, error))

    threading.Thread(target=run, name="xcargo-request", daemon=True).start()
    return queue
