"""A line in the task's log every ten seconds while much data is on its way; none for what is done before."""

from __future__ import annotations

import logging
import threading
import time

__all__ = ["Progress"]

log = logging.getLogger(__name__)

_EVERY_SECONDS = 10.0


class Progress:
    """Counts the bytes of one transfer, from any thread. ``total_bytes`` is None if it is not known."""

    def __init__(self, what: str, total_bytes: int | None) -> None:
        self._what = what
        self._of = "" if total_bytes is None else f" of {total_bytes:,}"
        self._done = 0
        self._lock = threading.Lock()
        self._next = time.monotonic() + _EVERY_SECONDS

    def advance(self, size_bytes: int) -> None:
        """So many bytes more are done."""
        with self._lock:
            self._done += size_bytes
            done, now = self._done, time.monotonic()
            if now < self._next:
                return
            self._next = now + _EVERY_SECONDS
        log.info("xcargo %s: %s%s bytes so far", self._what, f"{done:,}", self._of)
