"""A folder for this process's temporary files, that goes with the process, however that ends.

Airflow ends a task's process in a way that runs no exit handlers. So each process locks the folder it uses, and the
next one on the machine removes those that nobody holds any more.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

from xcargo.errors import AccessDeniedError

__all__ = ["folder"]

_LOCK = ".lock"


def folder() -> Path:
    """A fresh empty folder, private to this user, below ``TMPDIR``."""
    return Path(tempfile.mkdtemp(dir=_of_process(os.getpid())))


@cache
def _of_process(pid: int) -> Path:
    base = Path(tempfile.gettempdir(), f"xcargo-{os.geteuid()}")
    base.mkdir(mode=0o700, exist_ok=True)
    if base.stat().st_uid != os.geteuid() or base.is_symlink():
        raise AccessDeniedError(
            f"The folder {base} belongs to another user",
            hint="Remove it, or set TMPDIR to a folder of this user.",
        )
    own = Path(tempfile.mkdtemp(prefix="task-", dir=base))
    _lock(own)  # held until the process ends
    atexit.register(_remove_own, own, pid)
    for other in base.glob("task-*"):
        _remove_left(other)
    return own


def _lock(own: Path) -> int | None:
    """A descriptor that holds the folder's lock, or None if another process holds it."""
    descriptor = os.open(own / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _remove_left(other: Path) -> None:
    """Remove a folder whose process has ended. One without a lock file was only just made."""
    if not (other / _LOCK).exists():
        return
    try:
        descriptor = _lock(other)
    except OSError:  # another process removes it
        return
    if descriptor is not None:
        shutil.rmtree(other, ignore_errors=True)
        os.close(descriptor)


def _remove_own(own: Path, pid: int) -> None:
    if os.getpid() == pid:  # a fork inherits exit handlers
        shutil.rmtree(own, ignore_errors=True)
