"""Every other scheme that fsspec and Airflow know (sftp, hdfs, ...), through an fsspec file system."""

from __future__ import annotations

import errno
import os
import re
import secrets
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, TypeVar

from xcargo.errors import (
    AccessDeniedError,
    ConfigurationError,
    MissingDependencyError,
    ObjectExistsError,
    ObjectNotFoundError,
    StorageFullError,
    StoreError,
    StoreUnavailableError,
    XCargoError,
)
from xcargo.model.root import Root
from xcargo.stores.base import PART_NAME, Access, Limits, ObjectInfo, PutMode, Watched, is_part
from xcargo.stores.retry import Retry, bounded
from xcargo.types import Buffer

__all__ = ["FilesystemStore", "retry_after_seconds"]

_T = TypeVar("_T")


class FilesystemStore:
    """Store on an fsspec file system.

    A put writes a temporary file and moves it into place, so that a reader sees the whole object or none where the
    file system's move is atomic. Costs more requests than an object store of ours: folders are made, files moved.
    Each call has a file system to itself, since a connection of SFTP or FTP bears one thread at a time; the next call
    takes it over. What fails for a passing reason is done again on a new one, within ``timeout_seconds``; for a put
    these bound the time between two of its parts, for a listing each folder. ``on_retry`` is called with the verb of a
    repetition.
    """

    def __init__(
        self, root: Root, access: Access, limits: Limits, on_retry: Callable[[str], object] | None = None
    ) -> None:
        self._root = root
        self._access = access
        self._retry = Retry(limits, on_retry)
        self._idle: dict[int, list[Any]] = {}
        """File systems that no call uses, by process: a connection is of the process that opened it."""

    def put(
        self, key: str, parts: Iterable[Buffer], *, mode: PutMode = "overwrite", expected_bytes: int | None = None
    ) -> None:
        lost = False

        def attempt(seconds: float) -> None:
            nonlocal lost
            watched = Watched(parts)
            try:
                put = self._with_fs(lambda fs: self._put(fs, key, watched, mode, lost))
                bounded(put, seconds, lambda: watched.taken_at)
            except Exception as error:
                if error is watched.error:
                    raise
                ours = self._map(error, key)
                # What is still at work may still be taking parts, and an iterator gives them only once.
                if isinstance(ours, StoreUnavailableError):
                    lost = True
                    ours.final = isinstance(error, TimeoutError) or not isinstance(parts, Sequence)
                raise ours from error

        self._retry.run("put", self._root.uri(key), attempt)

    def copy(self, source: str, target: str) -> None:
        """See `copy_object`; whether the bytes stay where they are is for the file system to say."""
        self._run("copy", source, lambda fs: self._store(fs, target, partial(fs.cp_file, self._path(fs, source))))

    def _put(self, fs: Any, key: str, parts: Iterable[Buffer], mode: PutMode, lost: bool) -> None:
        path = self._path(fs, key)
        if mode == "create" and fs.exists(path):
            if lost and fs.cat_file(path) == b"".join(parts):  # it was moved, and the answer lost
                return
            raise ObjectExistsError("There is already an object under this key", where=self._root.uri(key))

        def write(temporary: str) -> None:
            with fs.open(temporary, "wb") as file:
                for part in parts:
                    file.write(part)

        self._store(fs, key, write)

    def _store(self, fs: Any, key: str, write: Callable[[str], object]) -> None:
        path = self._path(fs, key)
        folder = path.rpartition("/")[0]
        temporary = f"{folder}/{PART_NAME}{secrets.token_hex(8)}"
        for left in reversed(range(folder.count("/") + 2)):  # some fail at each folder that others make meanwhile
            try:
                fs.makedirs(folder, exist_ok=True)
                break
            except Exception:
                if not left:
                    raise
                fs.invalidate_cache()
        try:
            write(temporary)
            fs.mv(temporary, path)
        except BaseException:
            if fs.exists(temporary):
                fs.rm_file(temporary)
            raise

    def get(self, key: str, *, start: int = 0, end: int | None = None) -> Buffer:
        return self._run("get", key, lambda fs: fs.cat_file(self._path(fs, key), start=start or None, end=end))  # type: ignore[no-any-return]

    def head(self, key: str) -> ObjectInfo:
        return self._run("head", key, lambda fs: _info(fs.info(self._path(fs, key)), self._path(fs, "")))

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            with suppress(ObjectNotFoundError):
                try:
                    self._delete(key)
                except AccessDeniedError:  # FTP says the same of a file that is missing
                    self.head(key)
                    raise

    def _delete(self, key: str) -> None:
        self._run("delete", key, lambda fs: fs.rm_file(self._path(fs, key)))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return (info for info in self.list_all(prefix) if not is_part(info.key))

    def list_all(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Objects, and the files of puts that are under way or were killed. A folder at a time."""
        base, folder = self._run("list", prefix, lambda fs: (self._path(fs, ""), self._path(fs, prefix)))
        folders = [folder]
        while folders:
            folder = folders.pop()
            for info in self._entries(folder, prefix):
                if info["type"] != "directory":
                    yield _info(info, base)
                elif info["name"].strip("/") != folder.strip("/"):  # some list a folder in itself
                    folders.append(info["name"].rstrip("/"))

    def _entries(self, folder: str, prefix: str) -> Sequence[dict[str, Any]]:
        """What is in a folder; nothing if it was deleted since it was listed."""
        try:
            return self._run("list", prefix, lambda fs: fs.ls(folder, detail=True))
        except ObjectNotFoundError:
            return []

    def _run(self, verb: str, key: str, work: Callable[[Any], _T]) -> _T:
        def attempt(seconds: float) -> _T:
            try:
                return bounded(self._with_fs(work), seconds / 2)
            except Exception as error:
                raise self._map(error, key) from error

        return self._retry.run(verb, self._root.uri(key), attempt)

    def _with_fs(self, work: Callable[[Any], _T]) -> Callable[[], _T]:
        """The work, to be done with a file system that nobody else uses meanwhile."""

        def do() -> _T:
            idle = self._idle.setdefault(os.getpid(), [])
            try:
                fs = idle.pop()
            except IndexError:
                fs = self._open()
            else:
                fs.invalidate_cache()  # listings that it keeps lack what others have put since
            try:
                return work(fs)
            finally:
                idle.append(fs)  # if it is broken, _map lets go of them all

        return do

    def _open(self) -> Any:
        """A new file system; fsspec would give the same one to other work of this thread."""
        fs = self._access.filesystem() if self._access.filesystem else _plain_fsspec(self._root)
        instances = getattr(type(fs), "_cache", {})  # no public way leaves other people's instances alone
        for token in [token for token, instance in list(instances.items()) if instance is fs]:
            instances.pop(token, None)
        return fs

    def _path(self, fs: Any, key: str) -> str:
        return fs._strip_protocol(self._root.uri(key).rstrip("/"))  # type: ignore[no-any-return]

    def _map(self, error: Exception, key: str) -> XCargoError:
        where = self._root.uri(key)
        if isinstance(error, XCargoError):
            return error.at(where)
        text = f"{type(error).__name__}: {error}"
        if isinstance(error, FileNotFoundError):
            return ObjectNotFoundError("The object of this value is not there", where=where)
        # Libraries behind fsspec have errors of their own for a refused login: by name, and by FTP's codes.
        refused = re.search(r"Authentication|PermissionDenied", type(error).__name__) or re.match(
            r"5[35]0\b", str(error)
        )
        if isinstance(error, PermissionError) or refused:
            return AccessDeniedError(f"The file system refused access: {text}", where=where)
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return StorageFullError(f"No space is left for this object: {text}", where=where)
        status = _answer(error, "status", "status_code")
        passing = isinstance(error, (ConnectionError, TimeoutError, EOFError, socket.gaierror))
        if passing or _PASSING.search(text) or (isinstance(status, int) and (status in (408, 429) or status >= 500)):
            unavailable = StoreUnavailableError(f"The file system cannot be reached: {text}", where=where)
            unavailable.busy = status in (429, 503)
            unavailable.retry_after_seconds = retry_after_seconds(_header(error, "Retry-After"))
            self._idle.pop(os.getpid(), None)  # the next call opens a new one
            return unavailable
        if isinstance(error, NotImplementedError):
            return ConfigurationError(
                f"The file system of {self._root.scheme}:// cannot do this: {text.removesuffix(': ')}",
                where=where,
                hint="xcargo writes, reads, lists and deletes below [xcargo] path: name a store that can. The address "
                'of an S3 server goes into the connection\'s extra, {"endpoint_url": "https://..."}, beside a path '
                "s3://connection_id@bucket/prefix.",
            )
        return StoreError(f"The file system failed: {text}", where=where)


def _info(info: dict[str, Any], base: str) -> ObjectInfo:
    """What a file system says of a file, whose key is what follows the root's path."""
    stamp = next((info[k] for k in ("mtime", "LastModified", "last_modified", "created") if info.get(k)), None)
    if isinstance(stamp, (int, float)):
        stamp = datetime.fromtimestamp(stamp, timezone.utc)
    if isinstance(stamp, datetime) and stamp.tzinfo is None:
        stamp = stamp.replace(tzinfo=timezone.utc)
    name, base = str(info["name"]), base.rstrip("/") + "/"
    key = name[name.index(base) + len(base) :]
    return ObjectInfo(key, int(info["size"]), stamp if isinstance(stamp, datetime) else None)


_PASSING = re.compile(r"SSHException|Timeout|ConnectionError|ConnectError|[Ss]ocket is closed")


def retry_after_seconds(text: str | None) -> float | None:
    """Seconds, of either form that the header ``Retry-After`` may have; None if it says nothing."""
    if text is None or text.isdecimal():
        return None if text is None else float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(timezone.utc)).total_seconds())
    except (TypeError, ValueError, OverflowError):
        return None


def _answer(error: Exception, *names: str) -> Any:
    """What an HTTP library's error, or the answer that it holds, says under one of these names."""
    for holder in (error, getattr(error, "response", None)):
        for name in names:
            if getattr(holder, name, None) is not None:
                return getattr(holder, name)
    return None


def _header(error: Exception, name: str) -> str | None:
    headers = _answer(error, "headers")
    return headers.get(name) if hasattr(headers, "get") else None


def _plain_fsspec(root: Root) -> Any:
    try:
        import fsspec
    except ImportError as error:
        raise MissingDependencyError(
            f"{root.scheme}:// needs fsspec, which is not installed here",
            hint="Run: pip install 'airflow-provider-xcargo[fsspec]'",
        ) from error
    try:
        return fsspec.url_to_fs(str(root))[0]
    except ImportError as error:
        raise MissingDependencyError(f"{root.scheme}:// needs another package: {error}", where=root) from error
    except ValueError as error:
        raise ConfigurationError(
            f"No store is known for the scheme {root.scheme!r}: {error}",
            where=root,
            hint="Known are s3, gs, azblob, file, and every protocol of fsspec and of the installed providers.",
        ) from error
