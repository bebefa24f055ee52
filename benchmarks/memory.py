"""Memory: how much something takes at its peak, and that there is enough to take."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import mmap
import re
import sys
from pathlib import Path

__all__ = ["Peak", "at_hand"]

_LEAST_BYTES = 10_000_000
_MOST_BYTES = 2_500_000_000


def at_hand(size_bytes: int) -> None:
    """See that the machine has the memory that a value of this size will take here and in the server.

    A virtual machine may have lent its free memory to its host. The first touch then takes seconds a gigabyte, and
    whether it is the first hangs on what ran before: it would be the noisiest part of every large figure, and nobody's
    work. So as much as may be wanted is touched and given back before the clock starts.
    """
    if size_bytes < _LEAST_BYTES:
        return
    with mmap.mmap(-1, min(5 * size_bytes, _MOST_BYTES), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        if hasattr(mmap, "MADV_HUGEPAGE"):
            with contextlib.suppress(OSError):
                memory.madvise(mmap.MADV_HUGEPAGE)
        memory[:: mmap.PAGESIZE] = bytes(-(-len(memory) // mmap.PAGESIZE))


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
