"""What one look may cost: seconds, bytes, and how many looks run at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from xcargo.errors import StoreUnavailableError, UnsupportedTypeError

__all__ = ["Budget", "Gate", "TooLargeError"]


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


class Gate:
    """Lets so many looks read values at once. Memory of a process is bounded by this times what one may take."""

    def __init__(self, places: int, *, patience_seconds: float) -> None:
        self._places = threading.BoundedSemaphore(places)
        self._patience = patience_seconds

    @contextmanager
    def entered(self) -> Iterator[None]:
        """For the length of the block, one of the places. Raises StoreUnavailableError when none gets free in time."""
        if not self._places.acquire(timeout=self._patience):
            raise StoreUnavailableError(
                "Many people look at values right now, and no place got free in time", hint="Try again in a moment."
            )
        try:
            yield
        finally:
            self._places.release()
