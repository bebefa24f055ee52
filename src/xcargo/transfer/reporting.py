"""What people read of transfers: sizes, and a line in the log every ten seconds while much data is on its way."""

from __future__ import annotations

import logging
import threading
import time

__all__ = ["Progress", "format_bytes", "format_stored"]


log = logging.getLogger(__name__)

_EVERY_SECONDS = 10.0


class Progress:
    """Counts the bytes of one transfer, from any thread, and logs them; nothing within the first ten seconds.

    ``total_bytes`` is None if it is not known.
    """

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


def format_bytes(size_bytes: float) -> str:
    """A size in a binary unit, with three significant digits: ``512 B``, ``1.5 KiB``, ``240 MiB``."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if size < 1024 or unit == "PiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.3g} {unit}"


def format_stored(size_bytes: int, stored_bytes: int) -> str:
    """The length of a payload in bytes and, if compression made it shorter, what is stored of it.

    ``10793 bytes as 198 (54.5 times smaller)``
    """
    ratio = size_bytes / max(1, stored_bytes)
    if ratio < 1.05:
        return f"{size_bytes} bytes"
    return f"{size_bytes} bytes as {stored_bytes} ({ratio:.1f} times smaller)"
