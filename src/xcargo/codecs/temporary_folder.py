"""Temporary folders that are removed when their process ends, however it ends."""

from __future__ import annotations

import atexit
import errno
import fcntl
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from xcargo.errors import AccessDeniedError, StorageFullError

__all__ = ["disk_space_for", "temporary_folder"]

_LOCK = ".lock"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def temporary_folder() -> Path:
    """A fresh empty folder, private to this user, below ``TMPDIR``. Raises StorageFullError when there is no space."""
    parent = tempfile.gettempdir()
    with disk_space_for("temporary files", parent):
        return Path(tempfile.mkdtemp(dir=_process_folder(os.getpid(), parent)))


@contextmanager
def disk_space_for(what: str, folder: object) -> Iterator[None]:
    """Raise StorageFullError where the block meets the system's error for a full disk."""
    try:
        yield
    except OSError as error:
        code = error.errno or _errno_in_text(error)
        if code not in _FULL:
            raise
        raise StorageFullError(
            f"No space is left for {what} in {folder}: {os.strerror(code)}",
            hint="Free some, or set TMPDIR to a larger folder, or read it with open(), which needs no disk.",
        ) from error


def _errno_in_text(error: OSError) -> int:
    """The number in the message of a library written in Rust; 0 if there is none."""
    match = re.search(r"\(os error (\d+)\)", str(error))
    return int(match[1]) if match else 0


@cache
def _process_folder(pid: int, parent: str) -> Path:
    """The folder of a process, made at its first call.

    Airflow ends a task's process without running exit handlers. So each process locks its folder, and the next process
    on the machine removes those that nobody holds any more. A forked child holds its parent's folder too.
    """
    base = Path(parent, f"xcargo-{os.geteuid()}")
    base.mkdir(mode=0o700, exist_ok=True)
    info = base.lstat()
    if info.st_uid != os.geteuid() or not stat.S_ISDIR(info.st_mode) or info.st_mode & 0o022:
        raise AccessDeniedError(
            f"The folder {base} belongs to another user, or others can write it",
            hint="Remove it, or set TMPDIR to a folder of this user.",
        )
    for other in base.glob("task-*"):
        _remove_if_abandoned(other)
    own = Path(tempfile.mkdtemp(prefix="task-", dir=base))
    descriptor = os.open(own / f"{_LOCK}.new", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)  # held until the process ends
    (own / f"{_LOCK}.new").rename(own / _LOCK)  # only now can others see that there is a lock to try
    atexit.register(_remove_own, own, pid)
    return own


def _remove_if_abandoned(other: Path) -> None:
    """Remove a folder whose process has ended. One without a lock file is only just being created."""
    try:
        descriptor = os.open(other / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:  # no lock yet, or another process removes it
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(other, ignore_errors=True)
    except BlockingIOError:
        pass
    finally:
        os.close(descriptor)


def _remove_own(own: Path, pid: int) -> None:
    if os.getpid() == pid:  # a fork inherits exit handlers
        shutil.rmtree(own, ignore_errors=True)
