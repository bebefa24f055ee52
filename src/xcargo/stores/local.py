"""Stores without a network protocol: folders, local or shared like NFS, and this process's memory for tests."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from io import FileIO
from pathlib import Path
from typing import TypeVar

from xcargo.errors import ConfigurationError, ObjectExistsError, ObjectNotFoundError, StoreError
from xcargo.model.root import Root
from xcargo.stores.base import PART_NAME, ObjectInfo, PutMode, Watched, is_part
from xcargo.stores.file_errors import map_os_error
from xcargo.types import Buffer

__all__ = [
    "LocalStore",
    "MemoryStore",
    "buckets",
    "fsync_name",
]

_T = TypeVar("_T")

_MAX_RACES = 1000
"""How often a put makes a folder again that a deletion at the same time removes."""

_WRITTEN_BACK_NS = 120 * 10**9
"""After so long Linux has written any name by itself: ext4 does after 5 seconds, XFS and btrfs after 30."""

_NO_FSYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF)
"""What file systems say that cannot flush; of a folder some say that it is not open for writing."""

_COPIED_BYTES = 1024**3
_BLOCK_BYTES = 1024 * 1024

_NO_FILE = os.O_NOFOLLOW | os.O_NONBLOCK
"""So that what somebody else put in an object's place, a link or a pipe, is neither followed nor waited for."""


class LocalStore:
    """Store on a mounted file system.

    A put writes a temporary file beside its place and renames it, so a reader sees the whole object or none; a failed
    put (a full disk) leaves nothing. With ``fsync`` an object is on the disk before the put returns, under its name and
    in its folders, whoever made them; it survives a power loss if the file system can flush. Folders are made as
    needed, with the process's umask.
    """

    def __init__(self, root: Root, *, fsync: bool = True) -> None:
        self._root = root
        self._fsync = fsync
        self._base = Path("/" + root.prefix)
        self._synced: dict[Path, int] = {}

    def put(
        self, key: str, parts: Iterable[Buffer], *, mode: PutMode = "overwrite", expected_bytes: int | None = None
    ) -> None:
        watched = Watched(parts)

        def write(file: FileIO) -> None:
            for part in watched:
                _write_all(file.fileno(), part)

        try:
            self._store(key, write, mode)
        except OSError as error:
            if error is watched.error:
                raise
            raise self._map(error, key, writing=True) from error

    def copy(self, source: str, target: str) -> None:
        """See `copy_object`. A file of its own, whose bytes the system copies; a file system that can shares them."""

        def copied(origin: FileIO) -> None:
            try:
                self._store(target, lambda file: _copy_bytes(origin, file), "overwrite")
            except OSError as error:
                raise self._map(error, target, writing=True) from error

        self._read(source, copied)

    def _store(self, key: str, write: Callable[[FileIO], None], mode: PutMode) -> None:
        path = self._base / key
        temporary = path.with_name(PART_NAME + secrets.token_hex(8))
        self._refuse_links(key)
        file = _reopened(lambda: self._create(temporary))
        try:
            with file:
                write(file)
                if self._fsync:
                    _fsync(file.fileno())
            if mode == "create":
                os.link(temporary, path)
                os.unlink(temporary)
            else:
                os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        if self._fsync:
            fsync_name(path, self._synced)

    def _create(self, path: Path) -> FileIO:
        """The new file, and its folder if it is missing.

        A deletion may remove a folder that was just made, again and again, until the file is in it.
        """
        for _ in range(_MAX_RACES):
            with suppress(FileNotFoundError):
                return open(path, "xb", buffering=0)
            self._synced.clear()
            with suppress(FileNotFoundError, FileExistsError):
                path.parent.mkdir(parents=True, exist_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        return open(path, "xb", buffering=0)

    def get(self, key: str, *, start: int = 0, end: int | None = None) -> Buffer:
        def read(file: FileIO) -> bytes:
            if start:
                file.seek(start)
            return file.readall() if end is None else _read_at_most(file, end - start)

        return self._read(key, read)

    def get_into(self, key: str, view: memoryview, *, start: int) -> int:
        def read(file: FileIO) -> int:
            file.seek(start)
            filled = 0
            while filled < len(view) and (count := file.readinto(view[filled:])):
                filled += count
            return filled

        return self._read(key, read)

    def _read(self, key: str, read: Callable[[FileIO], _T]) -> _T:
        def opened() -> _T:
            with open(self._base / key, "rb", buffering=0, opener=_opener) as file:
                return read(file)

        try:
            return _reopened(opened)
        except OSError as error:
            raise self._map(error, key) from error

    def head(self, key: str) -> ObjectInfo:
        try:
            return _info(key, os.lstat(self._base / key))
        except OSError as error:
            raise self._map(error, key) from error

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            try:
                self._refuse_links(key)
                os.unlink(self._base / key)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise self._map(error, key) from error
            self._prune((self._base / key).parent)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return (info for info in self.list_all(prefix) if not is_part(info.key))

    def list_all(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Objects, and the files of puts that are under way or were killed."""
        start = self._base / prefix
        try:
            self._refuse_links(f"{prefix}/")
        except OSError as error:
            raise self._map(error, prefix) from error
        for folder, _, names in os.walk(start, onerror=self._refuse):
            for name in names:
                path = Path(folder, name)
                try:
                    stat = path.lstat()
                except FileNotFoundError:  # deleted since it was listed
                    continue
                except OSError as error:
                    raise self._map(error, "") from error
                yield _info(path.relative_to(self._base).as_posix(), stat)

    def folders(self) -> Sequence[str]:
        """Names of the folders at the top."""
        try:
            with os.scandir(self._base) as entries:
                return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._map(error, "") from error

    def _refuse_links(self, key: str) -> None:
        """Raise OSError if a link stands in the place of a folder: nothing is written or deleted outside the root."""
        folder = os.fspath(self._base)
        for name in key.split("/")[:-1]:
            folder = f"{folder}/{name}"
            if name and os.path.islink(folder):
                raise OSError(errno.ELOOP, "A symbolic link is in the place of a folder", folder)

    def _refuse(self, error: OSError) -> None:
        if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
            raise self._map(error, "") from error

    def _prune(self, folder: Path) -> None:
        """Remove folders that a deletion emptied, up to the root; another process may be filling them just now."""
        while folder != self._base and self._base in folder.parents:
            try:
                folder.rmdir()
            except OSError:
                return
            self._synced.clear()
            folder = folder.parent

    def _map(self, error: OSError, key: str, *, writing: bool = False) -> StoreError | ConfigurationError:
        return map_os_error(error, self._root.uri(key), base=self._base, writing=writing)


def _reopened(work: Callable[[], _T]) -> _T:
    """What ``work`` returns, called once more if what it opened is stale: another client of NFS has replaced it."""
    try:
        return work()
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
        return work()


def fsync_name(path: Path, synced: dict[Path, int] | None = None) -> None:
    """Have a new file's name on the disk, and the names of its folders as far as they may be new.

    Another process may have made them, and not have come to this yet. A folder in which nothing has changed for minutes
    was made before, and so were those above it: their names are written already.

    Args:
        path: The file.
        synced: Folders above its own that the caller has had written since it made or removed any, and when each had
            changed last by then. They are left out until they change again.
    """
    with suppress(FileNotFoundError):  # deleted again meanwhile
        now = path.parent.stat().st_mtime_ns  # by the file system's own clock
        for folder in path.parents:
            changed_at = folder.stat().st_mtime_ns
            if now - changed_at > _WRITTEN_BACK_NS or (synced is not None and synced.get(folder) == changed_at):
                return
            _fsync_folder(folder)
            if synced is not None and folder != path.parent:
                synced[folder] = changed_at


def _fsync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, where its permissions allow that."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, PermissionError):  # removed since, or writable and not readable
        return
    try:
        _fsync(descriptor)
    finally:
        os.close(descriptor)


def _fsync(descriptor: int) -> None:
    """Have a file or folder on the disk, where its file system can do that."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FSYNC:
            raise


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags | _NO_FILE)


def _write_all(descriptor: int, data: Buffer) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _copy_bytes(source: FileIO, target: FileIO) -> None:
    with suppress(AttributeError, OSError):  # not every system and file system can; the rest is copied below
        while os.copy_file_range(source.fileno(), target.fileno(), _COPIED_BYTES):
            pass
    while block := source.read(_BLOCK_BYTES):
        _write_all(target.fileno(), block)


def _read_at_most(file: FileIO, size_bytes: int) -> bytes:
    """Takes no more memory than the file has bytes, or a block, whatever a row says."""
    data, block_bytes = b"", max(os.fstat(file.fileno()).st_size - file.tell(), _BLOCK_BYTES)
    while more := file.read(min(size_bytes - len(data), block_bytes)):  # Linux reads 2 GiB at a time
        data += more
    return data


def _info(key: str, stat: os.stat_result) -> ObjectInfo:
    modified = datetime.fromtimestamp(stat.st_mtime, timezone.utc)
    return ObjectInfo(key, stat.st_size, modified, f"{stat.st_ino:x}-{stat.st_mtime_ns:x}-{stat.st_size:x}")


_Objects = dict[str, tuple[bytes, datetime]]
buckets: dict[str, _Objects] = {}
"""Bucket and prefix -> object key -> bytes, and when they were put."""


class MemoryStore:
    """Store in this process's memory, ``memory://name``, for tests. Every store of one name shares its objects."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._objects = buckets.setdefault(f"{root.bucket}/{root.prefix}", {})

    def put(
        self, key: str, parts: Iterable[Buffer], *, mode: PutMode = "overwrite", expected_bytes: int | None = None
    ) -> None:
        if mode == "create" and key in self._objects:
            raise ObjectExistsError("There is already an object under this key", where=self._root.uri(key))
        self._objects[key] = (b"".join(parts), datetime.now(timezone.utc))

    def copy(self, source: str, target: str) -> None:
        """See `copy_object`."""
        self.put(target, [self._object(source)[0]])

    def get(self, key: str, *, start: int = 0, end: int | None = None) -> Buffer:
        return self._object(key)[0][start:end]

    def head(self, key: str) -> ObjectInfo:
        data, modified = self._object(key)
        return ObjectInfo(key, len(data), modified, f"{hash(data):x}")

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._objects.pop(key, None)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        folder = prefix.rstrip("/") + "/" if prefix else ""
        for key in list(self._objects):
            if key.startswith(folder):
                yield self.head(key)

    def _object(self, key: str) -> tuple[bytes, datetime]:
        try:
            return self._objects[key]
        except KeyError:
            raise ObjectNotFoundError(
                "The object of this value is not there",
                where=self._root.uri(key),
                hint="memory:// lives in one process; use it for tests only.",
            ) from None
