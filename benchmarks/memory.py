"""How much memory something takes at its peak."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import re
import sys
from pathlib import Path

__all__ = ["Peak"]


class Peak:
    """The resident memory of this process from now on, and its peak. Linux only.

    Unused heap is given back first, so that what was freed before cannot hide what is taken now.
    """

    def __init__(self) -> None:
        if sys.platform != "linux":
            raise OSError("peak memory is read from /proc, which only Linux has")
        gc.collect()
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to what is resident
        self._start = _status("VmRSS")

    def extra_bytes(self) -> int:
        """The peak since the beginning, above what was resident then."""
        return max(0, _status("VmHWM") - self._start)


def _status(field: str) -> int:
    match = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert match
    return int(match[1]) * 1024
