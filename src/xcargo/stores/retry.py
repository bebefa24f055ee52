"""How failed requests are repeated: when, how often, and what the task log says of it.

Waits grow exponentially with jitter. A store that says it is busy gets more time; one that says how much gets it. The
bound is time alone: a request and its repetitions take ``timeout_seconds`` together, the last one is begun with a tenth
of them left.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from xcargo.errors import StoreUnavailableError
from xcargo.stores.base import Limits

__all__ = ["bounded", "hedged", "pause_seconds", "retried", "retry_after_seconds", "tell"]

log = logging.getLogger(__name__)

_T = TypeVar("_T")

_BUSY_FACTOR = 20
"""A store that is busy is asked again this many times later than one that failed: a second at the least, by default."""


_told: Callable[[str], object] | None = None


def tell(listener: Callable[[str], object] | None) -> None:
    """Have this process tell of each repetition: the verb, or ``hedge`` for a second request beside a slow one."""
    global _told
    _told = listener


def retried(work: Callable[[float], _T], verb: str, where: str, limits: Limits) -> _T:
    """What ``work`` returns, called again after each StoreUnavailableError until time is up.

    ``work`` is told how many seconds it may take. The last error is raised, and says how often and how long was tried.
    """
    begun = time.monotonic()
    attempt = 1
    while True:
        try:
            return work(limits.timeout_seconds - (time.monotonic() - begun))
        except StoreUnavailableError as error:
            spent = time.monotonic() - begun
            wait = pause_seconds(attempt, error, limits, limits.timeout_seconds - spent)
            if wait is None:
                times = "once" if attempt == 1 else f"{attempt} times"
                error.what = f"{error.what} (tried {times} in {spent:.1f} s of {limits.timeout_seconds:g})"
                raise
            log.warning(
                "xcargo: attempt %d to %s %s failed, %.1f s after the first: %s. Next in %.1f s, for %g s in all",
                *(attempt, verb, where, spent, error.what, wait, limits.timeout_seconds),
            )
        if _told is not None:
            _told(verb)
        time.sleep(wait)
        attempt += 1


def pause_seconds(attempt: int, error: StoreUnavailableError, limits: Limits, left_seconds: float) -> float | None:
    """Seconds to wait after this attempt; None to give up, when no more than a tenth of the time is left."""
    usable = left_seconds - limits.timeout_seconds / 10
    if error.final or usable <= 0:
        return None
    first = limits.retry_wait_seconds * (_BUSY_FACTOR if error.busy else 1)
    longest = min(first * 2.0 ** min(attempt - 1, 30), limits.retry_max_wait_seconds)
    wait = random.uniform(longest / 2, longest)  # noqa: S311 - so that many tasks do not return together
    return min(max(wait, error.retry_after_seconds or 0), usable)


def retry_after_seconds(text: str | None) -> float | None:
    """Seconds, of either form that the header ``Retry-After`` may have; None if it says nothing."""
    if text is None or text.isdecimal():
        return None if text is None else float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(timezone.utc)).total_seconds())
    except (TypeError, ValueError, OverflowError):
        return None


def hedged(work: Callable[[], _T], after_seconds: float, what: str) -> _T:
    """What ``work`` returns; it is called a second time beside the first if that has not ended after a while.

    The first result counts. An error counts if it is the only outcome.
    """
    outcomes: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
    _start(work, outcomes)
    running = 1
    try:
        result, error = outcomes.get(timeout=after_seconds)
    except Empty:
        log.info("xcargo: no answer to %s after %g s, asks once more beside it", what, after_seconds)
        if _told is not None:
            _told("hedge")
        _start(work, outcomes)
        result, error = outcomes.get()
        running = 2
    if error is not None and running == 2:
        result, error = outcomes.get()
    if error is not None:
        raise error
    return result  # type: ignore[no-any-return]


def bounded(work: Callable[[], _T], seconds: float, last_sign: Callable[[], float] | None = None) -> _T:
    """What ``work`` returns, or TimeoutError: for libraries that bound nothing themselves.

    ``last_sign`` tells when ``work`` last got on, by the monotonic clock; the bound counts from there. What has not
    ended goes on in a thread of its own that nobody waits for.
    """
    outcomes: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
    until = time.monotonic() + seconds
    _start(work, outcomes)
    while True:
        try:
            result, error = outcomes.get(timeout=max(until - time.monotonic(), 0.001))
            break
        except Empty:
            until = (last_sign() if last_sign else -seconds) + seconds
            if time.monotonic() >= until:
                raise TimeoutError(f"nothing came of it in {seconds:.1f} s") from None
    if error is not None:
        raise error
    return result  # type: ignore[no-any-return]


def _start(work: Callable[[], Any], outcomes: SimpleQueue[tuple[Any, BaseException | None]]) -> None:
    def run() -> None:
        try:
            outcomes.put((work(), None))
        except BaseException as error:
            outcomes.put((None, error))

    threading.Thread(target=run, name="xcargo-request", daemon=True).start()
