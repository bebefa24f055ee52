"""The node's cache: payloads that one task downloaded, for all tasks of the same user on the same machine.

A file holds a payload that was verified before the file got its name, and nobody can write the file afterwards: the
folder belongs to the user and to nobody else, files are closed to others and read-only, and readers get pages of their
own on their first write. So a later read trusts it without computing the checksum again. What this leaves out is a disk
that returns other bytes than were written, and other programs of the very same user. A file counts only until the
machine is started again, as its name says: what a crash left unwritten is never read.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import mmap
import os
import re
import stat
import time
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path

from xcargo.codecs.source import Source, allocate
from xcargo.types import Buffer

__all__ = ["MAX_MAPS", "MIN_BYTES", "CachedSource", "NodeCache"]

log = logging.getLogger(__name__)

MIN_BYTES = 1024 * 1024
"""A payload smaller than this is not worth a file."""

MAX_MAPS = 256
"""Files that this process has mapped at once; a map holds a descriptor. Beyond that a read copies."""

_FOLDER_LOCK_SECONDS = 10.0
_POLL_SECONDS = 0.05
_UNFINISHED = ".part"
_CHECKSUM = re.compile(r"([a-z0-9-]{1,16}):([0-9a-f]{32,128})")
_OURS = re.compile(r"xcargo-[a-z0-9-]{1,16}-[0-9a-f]{32,128}-[0-9a-f]{32}(\.part)?")


class NodeCache:
    """Payloads by checksum, as files of one folder that take ``size_bytes`` together at most.

    Safe between threads and processes, any of which may be killed. When the folder or the disk does not serve, every
    payload is downloaded and one warning is logged; an OSError never leaves the cache. A payload that is dropped for a
    newer one stays with whoever has it mapped, and its space is freed after that. For local file systems of Linux.
    """

    def __init__(self, path: str | Path, size_bytes: int, *, wait_seconds: float = 600.0) -> None:
        self._path = Path(path)
        self.size_bytes = size_bytes
        self._wait_seconds = wait_seconds
        self._folder_fd: int | None = None
        self._warned = False
        self._maps: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()

    def get(self, checksum: str) -> memoryview | None:
        """The payload, or None if it is not here. Writable, and what is written stays with the writer.

        Costs no copy: pages are read when they are touched. The checksum has to determine the payload.
        """
        name = _file_name(checksum)
        if name is None:
            return None
        try:
            return self._read(name)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn(error)
            return None

    def fill(self, checksum: str, source: Source) -> memoryview:
        """The payload of a source, from here or downloaded by its ``read_into``, which may not keep the view.

        Of all who ask for a payload at once one downloads it, and the others wait. If that one is killed, another takes
        over; if its download fails, each of the others downloads for itself, and so does who has waited for
        ``wait_seconds``. Raises what the download raises; nothing stays of it.
        """
        name, size_bytes = _file_name(checksum), source.size_bytes
        if _boot_id() is None:
            self._warn(OSError(errno.ENOTSUP, "It needs Linux"))
        if name is not None and MIN_BYTES <= size_bytes <= self.size_bytes:
            claimed = self._claim(checksum, name, size_bytes)
            if claimed is not None:
                return self._download(*claimed, name, source)
            payload = self.get(checksum)
            if payload is not None and len(payload) == size_bytes:  # else the row contradicts its own checksum
                return payload
        view = memoryview(allocate(size_bytes))
        source.read_into(view)
        return view

    def _read(self, name: str) -> memoryview:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=self._folder())
        try:
            info = os.fstat(fd)
            if not stat.S_ISREG(info.st_mode) or info.st_uid != os.geteuid() or info.st_mode & 0o077:
                raise PermissionError(errno.EPERM, "Others may have written it", name)
            if not info.st_size:  # somebody made room; it is downloaded again
                raise FileNotFoundError(errno.ENOENT, "It is empty", name)
            with suppress(OSError):
                os.utime(fd)  # the most recently used file is dropped last
            return self._map_private(fd, info.st_size)
        finally:
            os.close(fd)

    def _map_private(self, fd: int, size_bytes: int) -> memoryview:
        private = mmap.mmap(fd, size_bytes, access=mmap.ACCESS_COPY)
        if len(self._maps) >= MAX_MAPS:
            with private:
                copy = memoryview(allocate(size_bytes))
                copy[:] = private
                return copy
        self._maps.add(private)
        return memoryview(private)

    def _claim(self, checksum: str, name: str, size_bytes: int) -> tuple[int, mmap.mmap] | None:
        """The unfinished file, locked, and its map; None when another task finished it, or the cache cannot be used.

        The unfinished file is its own lock. Whoever holds it renames or unlinks it before letting go; so whoever gets
        the lock next, of a file that has no name by now, finds the payload or knows that the download failed.
        """
        unfinished = name + _UNFINISHED
        deadline = time.monotonic() + self._wait_seconds
        try:
            folder = self._folder()
            with ExitStack() as undo:
                fd = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600, dir_fd=folder)
                undo.callback(os.close, fd)
                while not _lock(fd):
                    if time.monotonic() > deadline:
                        log.warning("xcargo waited %s s for another task to fill %s", self._wait_seconds, unfinished)
                        return None
                    time.sleep(_POLL_SECONDS)
                    if self.get(checksum) is not None:
                        return None
                if not _has_name(folder, unfinished, fd):
                    return None
                undo.callback(_unlink, folder, unfinished)
                if self.get(checksum) is not None:
                    return None
                shared = self._map_allocated(fd, size_bytes)
                undo.pop_all()
                return fd, shared
        except OSError as error:
            self._warn(error)
            return None

    def _map_allocated(self, fd: int, size_bytes: int) -> mmap.mmap:
        """The file's map, with its space allocated: no write into it can fail. Raises OSError if there is none."""
        os.ftruncate(fd, 0)
        with self._locked_folder() as folder:
            self._make_room(folder, size_bytes)
            os.posix_fallocate(fd, 0, size_bytes)
        return mmap.mmap(fd, size_bytes)

    def _make_room(self, folder: int, size_bytes: int) -> None:
        """Unlink what was not used for the longest time, as far as needed, but nothing that is being filled."""
        files = []
        for name in os.listdir(folder):
            if _OURS.fullmatch(name):
                with suppress(FileNotFoundError):
                    info = os.stat(name, dir_fd=folder, follow_symlinks=False)
                    files.append((info.st_mtime_ns, name, info.st_size))
        excess = sum(size for _, _, size in files) + size_bytes - self.size_bytes
        for _, name, size in sorted(files):
            if excess <= 0:
                return
            if not name.endswith(_UNFINISHED):
                _unlink(folder, name)
                excess -= size
            elif _unlink_abandoned(folder, name):
                excess -= size
        if excess > 0:
            raise OSError(errno.ENOSPC, "What is being downloaded now fills it")

    def _download(self, fd: int, shared: mmap.mmap, name: str, source: Source) -> memoryview:
        folder, unfinished = self._folder(), name + _UNFINISHED
        renamed = False
        try:
            view = memoryview(shared)
            source.read_into(view)
            try:
                view.release()
                private = self._map_private(fd, len(shared))
                shared.close()  # refused if the source kept a view: from here on nobody can change the file
                if not _has_name(folder, unfinished, fd):  # somebody made room, and another task may fill a new file
                    raise FileNotFoundError(errno.ENOENT, "An unfinished file was removed", unfinished)
                os.rename(unfinished, name, src_dir_fd=folder, dst_dir_fd=folder)
                renamed = True
            except (OSError, BufferError) as error:
                self._warn(error)
                return private if shared.closed else memoryview(shared)  # of a file without a name: nobody else's
            with suppress(OSError):
                os.fchmod(fd, 0o400)
            return private
        finally:
            if not renamed and _has_name(folder, unfinished, fd):
                _unlink(folder, unfinished)
            fcntl.flock(fd, fcntl.LOCK_UN)  # maps hold duplicates of the descriptor
            os.close(fd)

    def _folder(self) -> int:
        """The folder, made if it is missing. Raises OSError if it is not this user's alone."""
        if self._folder_fd is None:
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            info = os.fstat(fd)
            if info.st_uid != os.geteuid() or info.st_mode & 0o022:
                os.close(fd)
                raise PermissionError(errno.EPERM, "It belongs to another user, or others can write it")
            self._folder_fd = fd
        return self._folder_fd

    @contextmanager
    def _locked_folder(self) -> Iterator[int]:
        fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=self._folder())
        try:
            deadline = time.monotonic() + _FOLDER_LOCK_SECONDS
            while not _lock(fd):
                if time.monotonic() > deadline:
                    raise TimeoutError(errno.ETIMEDOUT, "Another task has locked it")
                time.sleep(_POLL_SECONDS / 10)
            yield fd
        finally:
            os.close(fd)

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            log.warning("xcargo works without its cache in %s: %s", self._path, error)


class CachedSource:
    """A source whose whole payload is taken from the cache, or put there. Parts of it are read from the source."""

    def __init__(self, source: Source, node: NodeCache, checksum: str) -> None:
        self._source = source
        self._node = node
        self._checksum = checksum

    @property
    def size_bytes(self) -> int:
        return self._source.size_bytes

    def read(self, start: int, end: int) -> Buffer:
        return self._source.read(start, end)

    def iter_chunks(self) -> Iterator[Buffer]:
        return self._source.iter_chunks()

    def read_into(self, view: memoryview) -> None:
        view[:] = self.read_all()

    def read_all(self) -> Buffer:
        payload = self._node.get(self._checksum)
        if payload is not None and len(payload) == self.size_bytes:
            return payload
        return self._node.fill(self._checksum, self._source)


@cache
def _boot_id() -> str | None:
    """What identifies this run of the machine, if anything does."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")
    except OSError:
        return None


def _file_name(checksum: str) -> str | None:
    """The file of a checksum; None if it can have none."""
    well_formed, boot_id = _CHECKSUM.fullmatch(checksum), _boot_id()
    return f"xcargo-{well_formed[1]}-{well_formed[2]}-{boot_id}" if well_formed and boot_id else None


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _has_name(folder: int, name: str, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(name, dir_fd=folder, follow_symlinks=False), os.fstat(fd))
    except FileNotFoundError:
        return False


def _unlink_abandoned(folder: int, name: str) -> bool:
    """Unlink an unfinished file whose process is gone. Holds its lock meanwhile, so that nobody begins to fill it."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder)
    except FileNotFoundError:
        return True
    try:
        if not _lock(fd) or not _has_name(folder, name, fd):
            return False
        _unlink(folder, name)
        return True
    finally:
        os.close(fd)


def _unlink(folder: int, name: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)
