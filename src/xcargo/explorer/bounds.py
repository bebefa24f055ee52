"""What one look may cost: seconds, bytes, and how many looks run at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from xcargo.errors import StoreUnavailableError, UnsupportedTypeError

__all__ = ["Budget", "Looks", "TooLargeError"]

_T = TypeVar("_T")


class TooLargeError(UnsupportedTypeError):
    """The value, or the part asked for, is larger than a look may take. Nothing was read beyond the bound."""


class Budget:
    """Time and memory of one look. Each method raises TooLargeError when its share is used up.

    ``max_bytes`` is what may lie in memory for one answer; ``seconds`` how long it may be worked on.
    """

    def __init__(self, *, max_bytes: int, seconds: float) -> None:
        self.max_bytes = max_bytes
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds that are left; below zero when they are used up."""
        return self._end - time.monotonic()

    def check(self) -> None:
        """Raise when the time is used up."""
        if self.left() < 0:
            raise TooLargeError(
                f"Looking took longer than {self._seconds:g} seconds and was ended",
                hint="Ask for less (fewer columns, no filter), or download the value.",
            )

    def fits(self, size_bytes: int, what: str) -> None:
        """Raise unless so many bytes may lie in memory."""
        if size_bytes > self.max_bytes:
            raise TooLargeError(
                f"{what} takes {size_bytes} bytes, and a look may take {self.max_bytes}",
                hint="Raise [xcargo] max_preview_bytes, or download the value.",
            )


class Looks:
    """Does looks, so many at once, each on one of as many threads that do nothing else.

    So memory is bounded by their number times what one look may take, and whoever waits for a look holds none of the
    threads that answer others. What is waited for is the loop's, not a thread's.
    """

    def __init__(self, at_once: int, *, patience_seconds: float, seconds: float) -> None:
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="xcargo-look")
        self._patience = patience_seconds
        self._seconds = seconds

    async def do(self, look: Callable[[], _T]) -> _T:
        """What ``look`` gives or raises. Raises StoreUnavailableError when it does not begin or end in time.

        One that does not end holds its thread until it does: time limits of its own are to end it.
        """
        begun, loop = asyncio.Event(), asyncio.get_running_loop()

        def on_thread() -> _T:
            loop.call_soon_threadsafe(begun.set)
            return look()

        work = self._threads.submit(on_thread)
        done = asyncio.wrap_future(work)
        done.add_done_callback(lambda future: future.cancelled() or future.exception())  # also if nobody waits any more
        try:
            await asyncio.wait_for(begun.wait(), self._patience)
        except asyncio.TimeoutError:
            if work.cancel():
                raise StoreUnavailableError(
                    "Many people look at values right now, and no place got free in time", hint="Try again in a moment."
                ) from None
        await asyncio.wait([done], timeout=self._seconds)
        if not done.done():
            raise StoreUnavailableError(
                f"There was no answer within {self._seconds:g} seconds; the store may be slow",
                hint="Try again in a moment.",
            )
        return done.result()
