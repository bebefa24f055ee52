"""The node's cache: payloads that one task downloaded, for all tasks of the same user on the same machine.

A file holds a payload that was verified before the file got its name, and nobody can write the file afterwards: the
folder belongs to the user and to nobody else, files are closed to others and read-only, and readers get pages of their
own on their first write. So a later read trusts it without computing the checksum again. What this leaves out is a disk
that gives other bytes than it was given, and other programs of the very same user. A file counts only until the machine
is started anew, as its name tells: what a crash left unwritten is never read.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from xcargo.codecs.source import Source
from xcargo.types import Buffer

__all__ = ["MIN_BYTES", "Cached", "NodeCache"]

log = logging.getLogger(__name__)

MIN_BYTES = 1024 * 1024
"""A payload smaller than this is not worth a file."""

_MOST_MAPS = 256
"""Files that this process has mapped at once; a map holds a descriptor. Beyond that a read copies."""

_FOLDER_SECONDS = 10.0
_PAUSE_SECONDS = 0.05
_PART = ".part"
_CHECKSUM = re.compile(r"([a-z0-9-]{1,16}):([0-9a-f]{32,128})")
_OURS = re.compile(r"xcargo-[a-z0-9-]{1,16}-[0-9a-f]{32,128}-[0-9a-f]{32}(\.part)?")


class NodeCache:
    """Payloads by checksum, as files of one folder that take ``size_bytes`` together at most.

    Safe between threads and processes, any of which may be killed. When the folder or the disk does not serve, it works
    as no cache would and says so once in the log; an OSError never leaves it. A payload that is dropped for a newer one
    stays with whoever has it mapped, and its space is freed after that. For local file systems of Linux.
    """

    def __init__(self, path: str | Path, size_bytes: int, *, wait_seconds: float = 600.0) -> None:
        self._path = Path(path)
        self.size_bytes = size_bytes
        self._wait_seconds = wait_seconds
        self._folder_fd: int | None = None
        self._told = False
        self._maps: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()

    def get(self, checksum: str) -> memoryview | None:
        """The payload, or None if it is not here. Writable, and what is written stays with the writer.

        Costs no copy: pages are read when they are touched. The checksum has to determine the payload.
        """
        name = _name(checksum)
        if name is None:
            return None
        try:
            return self._read(name)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._tell(error)
            return None

    def fill(self, checksum: str, size_bytes: int, write: Callable[[memoryview], None]) -> memoryview:
        """The payload, which ``write`` puts into the memory that it is given, all of it, or for which it raises.

        Of all who ask for a payload at once one calls ``write``, and the others wait for it. If that one is killed,
        another takes over; if its ``write`` raises, each of the others calls its own, and so does who has waited for
        ``wait_seconds``. ``write`` may not keep what it is given. Raises what ``write`` raises; nothing stays of it.
        """
        name = _name(checksum)
        if _boot() is None:
            self._tell(OSError(errno.ENOTSUP, "It needs Linux"))
        if name is not None and MIN_BYTES <= size_bytes <= self.size_bytes:
            claimed = self._claim(checksum, name, size_bytes)
            if isinstance(claimed, memoryview):
                return claimed
            if claimed is not None:
                return self._fill_part(*claimed, name, write)
        view = memoryview(_memory(size_bytes))
        write(view)
        return view

    def _read(self, name: str) -> memoryview:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=self._folder())
        try:
            info = os.fstat(fd)
            if not stat.S_ISREG(info.st_mode) or info.st_uid != os.geteuid() or info.st_mode & 0o077:
                raise PermissionError(errno.EPERM, "Others may have written it", name)
            with suppress(OSError):
                os.utime(fd)  # what was used last is dropped last
            return self._private(fd, info.st_size)
        finally:
            os.close(fd)

    def _private(self, fd: int, size_bytes: int) -> memoryview:
        if len(self._maps) >= _MOST_MAPS:
            copy = memoryview(_memory(size_bytes))
            _read_into(fd, copy)
            return copy
        private = mmap.mmap(fd, size_bytes, access=mmap.ACCESS_COPY)
        self._maps.add(private)
        return memoryview(private)

    def _claim(self, checksum: str, name: str, size_bytes: int) -> memoryview | tuple[int, mmap.mmap] | None:
        """The payload if another one has filled it by now; else the locked file and its map; else None: go without.

        The unfinished file is its own lock. Who holds it gives it its final name or unlinks it; so who then gets the
        lock finds the payload, or sees that the other one failed.
        """
        part = name + _PART
        deadline = time.monotonic() + self._wait_seconds
        try:
            folder = self._folder()
            fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600, dir_fd=folder)
        except OSError as error:
            self._tell(error)
            return None
        mine = keep = False
        try:
            while not _lock(fd):
                if time.monotonic() > deadline:
                    log.warning("xcargo waited %s s for another task to fill %s", self._wait_seconds, part)
                    return None
                time.sleep(_PAUSE_SECONDS)
                found = self.get(checksum)
                if found is not None:
                    return _of_size(found, size_bytes)
            mine = _is_at(folder, part, fd)
            found = self.get(checksum)
            if found is None and mine:
                shared = self._allocated(fd, size_bytes)
                keep = True
                return fd, shared
            if mine:
                _unlink(folder, part)
            return None if found is None else _of_size(found, size_bytes)
        except OSError as error:
            self._tell(error)
            if mine:
                _unlink(folder, part)
            return None
        finally:
            if not keep:
                os.close(fd)

    def _allocated(self, fd: int, size_bytes: int) -> mmap.mmap:
        """The file's map. It has its space, so that no write into it can fail. Raises OSError if there is none."""
        os.ftruncate(fd, 0)
        with self._folder_locked() as folder:
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
            if not name.endswith(_PART) or _is_abandoned(folder, name):
                _unlink(folder, name)
                excess -= size
        if excess > 0:
            raise OSError(errno.ENOSPC, "What is being downloaded now fills it")

    def _fill_part(self, fd: int, shared: mmap.mmap, name: str, write: Callable[[memoryview], None]) -> memoryview:
        folder, part, size_bytes = self._folder(), name + _PART, len(shared)
        named = False
        try:
            view = memoryview(shared)
            write(view)
            try:
                view.release()
                private = self._private(fd, size_bytes)
                shared.close()  # refused if write kept a part: from here on nobody can change the file
                os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
                named = True
            except (OSError, BufferError) as error:
                self._tell(error)
                return private if shared.closed else memoryview(shared)  # the file gets no name: it is nobody else's
            with suppress(OSError):
                os.fchmod(fd, 0o400)
            return private
        finally:
            if not named:
                _unlink(folder, part)
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
    def _folder_locked(self) -> Iterator[int]:
        fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=self._folder())
        try:
            deadline = time.monotonic() + _FOLDER_SECONDS
            while not _lock(fd):
                if time.monotonic() > deadline:
                    raise TimeoutError(errno.ETIMEDOUT, "Another task has locked it")
                time.sleep(_PAUSE_SECONDS / 10)
            yield fd
        finally:
            os.close(fd)

    def _tell(self, error: Exception) -> None:
        if not self._told:
            self._told = True
            log.warning("xcargo works without its cache in %s: %s", self._path, error)


class Cached:
    """A source whose whole payload is taken from the cache, or put there. In part it is read from where it lies."""

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
        found = self._node.get(self._checksum)
        if found is not None and len(found) == self.size_bytes:
            return found
        return self._node.fill(self._checksum, self.size_bytes, self._source.read_into)


@cache
def _boot() -> str | None:
    """What names this run of the machine, if anything does."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")
    except OSError:
        return None


def _name(checksum: str) -> str | None:
    """The file of a checksum; None if it can have none."""
    well_formed, boot = _CHECKSUM.fullmatch(checksum), _boot()
    return f"xcargo-{well_formed[1]}-{well_formed[2]}-{boot}" if well_formed and boot else None


def _of_size(found: memoryview, size_bytes: int) -> memoryview | None:
    """What was found, unless the row that asks for it belies its own checksum."""
    return found if len(found) == size_bytes else None


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(folder: int, name: str, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(name, dir_fd=folder, follow_symlinks=False), os.fstat(fd))
    except FileNotFoundError:
        return False


def _is_abandoned(folder: int, name: str) -> bool:
    """Whether an unfinished file's process is gone."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder)
    except FileNotFoundError:
        return True
    try:
        return _lock(fd)
    finally:
        os.close(fd)


def _unlink(folder: int, name: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)


def _memory(size_bytes: int) -> mmap.mmap | bytearray:
    """Memory of its own, zeros; a map costs nothing until it is written to. Raises MemoryError."""
    try:
        return mmap.mmap(-1, size_bytes) if size_bytes else bytearray()
    except (OSError, OverflowError) as error:
        raise MemoryError(f"No memory for a payload of {size_bytes} bytes") from error


def _read_into(fd: int, view: memoryview) -> None:
    done = 0
    while done < len(view):
        count = os.preadv(fd, [view[done:]], done)
        if count == 0:
            raise OSError(errno.EIO, "It was cut short")
        done += count
