"""Errors of file systems -> ours, each with what to mend: local disks, NFS, SMB, FUSE."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from xcargo.errors import (
    AccessDeniedError,
    ConfigurationError,
    ObjectExistsError,
    ObjectNotFoundError,
    StorageFullError,
    StoreError,
    StoreUnavailableError,
)

__all__ = ["map_os_error"]

_UNSUPPORTED = (errno.ENOSYS, errno.ENOTSUP, errno.EXDEV)

_FULL = "No space is left for this object"
_REFUSED = "The file system refused access"
_FAILED = "The file system failed"
_LARGER = "or set [xcargo] path to a larger place."
_NO_FOLDER = (
    ConfigurationError,
    "The folder of this object cannot be made",
    "[xcargo] path must be a folder: remove the file or broken link that is in its place.",
)
_RIGHTS = (
    AccessDeniedError,
    _REFUSED,
    "The user that runs Airflow (uid {uid}) must be able to read and write {base}.",
)
_UNMOUNTED = (
    StoreUnavailableError,
    _FAILED,
    "What serves {base} has ended, was replaced or does not answer: mount it again, and let Airflow retry the task.",
)
_OPEN_FILES = (StoreUnavailableError, _FAILED, "Raise the number of files that may be open (ulimit -n).")

_MEANINGS: dict[int | None, tuple[type[StoreError | ConfigurationError], str, str]] = {
    errno.ENOSPC: (StorageFullError, _FULL, f"Free space and inodes below {{base}} (df -h, df -i), {_LARGER}"),
    errno.EDQUOT: (StorageFullError, _FULL, f"Raise the quota of uid {{uid}}, free space below {{base}}, {_LARGER}"),
    errno.EFBIG: (
        StorageFullError,
        "The file is larger than its limit",
        "Raise the limit of a file's size (ulimit -f), or set [xcargo] path to a file system that takes larger files.",
    ),
    errno.EMLINK: (
        StorageFullError,
        "A folder holds as many folders as it can",
        f"Delete old values below {{base}} (xcargo gc, [xcargo] retention), {_LARGER}",
    ),
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: (
        AccessDeniedError,
        _REFUSED,
        "Mount {base} for writing; if it was, the kernel's log (dmesg) says which failure made it read-only.",
    ),
    errno.ELOOP: (
        StoreError,
        "A link is in the place of this object",
        "It is not followed. Find out who put it there: only Airflow's user should be able to write below {base}.",
    ),
    errno.ENAMETOOLONG: (
        ConfigurationError,
        "The file system takes no path this long",
        "Shorten [xcargo] path, or set it to a file system that takes names of 255 bytes.",
    ),
    errno.EEXIST: _NO_FOLDER,
    errno.ENOENT: _NO_FOLDER,
    errno.ENOTDIR: _NO_FOLDER,
    errno.ESTALE: _UNMOUNTED,
    errno.ENOTCONN: _UNMOUNTED,
    errno.ECONNABORTED: _UNMOUNTED,
    errno.EHOSTDOWN: _UNMOUNTED,
    errno.ETIMEDOUT: _UNMOUNTED,
    errno.EAGAIN: _UNMOUNTED,
    errno.EIO: (
        StoreUnavailableError,
        _FAILED,
        "The kernel's log (dmesg) names the disk or server behind {base}: mend it, and let Airflow retry the task.",
    ),
    errno.EINTR: (StoreUnavailableError, _FAILED, "A signal interrupted it: let Airflow retry the task."),
    errno.EMFILE: _OPEN_FILES,
    errno.ENFILE: _OPEN_FILES,
}
_OTHER = (StoreError, _FAILED, "The kernel's log (dmesg) may say more about {base}.")


def map_os_error(error: OSError, where: str, *, base: Path, writing: bool) -> StoreError | ConfigurationError:
    """The error of ours for one of the operating system's.

    Args:
        error: What a call raised.
        where: URI of the object, for the message.
        base: Folder of the root.
        writing: Whether an object was being put.
    """
    reason = error.strerror or str(error)
    is_naming = error.filename2 is not None  # a rename or a link
    if isinstance(error, FileExistsError) and is_naming:
        return ObjectExistsError("There is already an object under this key", where=where)
    if isinstance(error, FileNotFoundError) and is_naming:
        return StoreUnavailableError(
            "The folder of this object was removed while it was written",
            where=where,
            hint="This file system lets a folder be removed that has a file of another machine: let Airflow retry the "
            "task.",
        )
    if isinstance(error, (FileNotFoundError, NotADirectoryError)) and not writing:
        return ObjectNotFoundError(
            "The object of this value is not there",
            where=where,
            hint="It was deleted, or written on another machine: file:// needs a folder that all workers share.",
        )
    if writing and (error.errno in _UNSUPPORTED or (error.errno == errno.EPERM and is_naming)):
        return ConfigurationError(
            f"The file system below {base} cannot {'rename or link' if is_naming else 'write'} files: {reason}",
            where=where,
            hint="Set [xcargo] path to a folder of another mount, or to the bucket itself (s3://, gs://, az://) "
            "if this mount shows one.",
        )
    error_class, what, hint = _MEANINGS.get(error.errno, _OTHER)
    return error_class(f"{what}: {reason}", where=where, hint=hint.format(base=base, uid=os.geteuid()))
