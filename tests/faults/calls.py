"""The calls of a process that change files: noted in their order, or failing with the error of a file system.

What does it is a library that a new process preloads, made of calls.c by the C compiler of the machine.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["COMPILER", "failing", "mark", "preload"]

COMPILER = shutil.which("cc")


def preload(folder: Path, *, below: Path, log: Path | None = None) -> dict[str, str]:
    """The environment of a process whose calls below a folder can be failed, and are noted in ``log``."""
    library = folder / "calls.so"
    command = [COMPILER or "cc", "-shared", "-fPIC", "-o", str(library), str(Path(__file__).with_suffix(".c")), "-ldl"]
    subprocess.run(command, check=True)
    return {"LD_PRELOAD": str(library), "CALLS_BELOW": str(below), **({"CALLS_LOG": str(log)} if log else {})}


@contextmanager
def failing(call: str, code: int, times: int) -> Iterator[None]:
    """Within the block, the first calls of this name fail: so many `times`. In a process that preloads the library.

    Raises RuntimeError if none came.
    """
    library = ctypes.CDLL(None)
    library.fail_call(call.encode(), code, times)
    try:
        yield
    finally:
        if library.fail_call(b"", 0, 0) == times:
            raise RuntimeError(f"{call} was never called")


def mark(text: str) -> None:
    """A line of one's own between the calls."""
    ctypes.CDLL(None).mark(text.encode())
