"""Every other scheme that fsspec and Airflow know (sftp, hdfs, ...), through an fsspec file system."""

from __future__ import annotations

import re
import secrets
import socket
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from typing import Any

from xcargo.errors import (
    AccessDeniedError,
    ConfigurationError,
    MissingDependencyError,
    ObjectExistsError,
    ObjectNotFoundError,
    StoreError,
    StoreUnavailableError,
    XCargoError,
)
from xcargo.root import Root
from xcargo.stores.base import Access, Buffer, ObjectInfo, PutMode, Watched

__all__ = ["FilesystemStore"]

_TEMPORARY = ".xcargo-part-"


class FilesystemStore:
    """Store on an fsspec file system.

    A put writes a temporary file and moves it into place, so that a reader sees the whole object or none where the
    file system's move is atomic. Costs more requests than an object store of ours: folders are made, files moved.
    """

    def __init__(self, root: Root, access: Access) -> None:
        self._root = root
        self._access = access
        self._opened: Any = None

    def put(
        self, key: str, parts: Iterable[Buffer], *, mode: PutMode = "overwrite", expected_bytes: int | None = None
    ) -> None:
        path, folder = self._path(key), self._path(key).rpartition("/")[0]
        temporary = f"{folder}/{_TEMPORARY}{secrets.token_hex(8)}"
        watched = Watched(parts)
        try:
            fs = self._fs()
            if mode == "create" and fs.exists(path):
                raise ObjectExistsError("There is already an object under this key", where=self._root.uri(key))
            fs.makedirs(folder, exist_ok=True)
            try:
                with fs.open(temporary, "wb") as file:
                    for part in watched:
                        file.write(part)
                fs.mv(temporary, path)
            except BaseException:
                if fs.exists(temporary):
                    fs.rm_file(temporary)
                raise
        except Exception as error:
            if error is watched.error:
                raise
            raise self._translate(error, key) from error

    def get(self, key: str, *, start: int = 0, end: int | None = None) -> Buffer:
        try:
            return self._fs().cat_file(self._path(key), start=start or None, end=end)  # type: ignore[no-any-return]
        except Exception as error:
            raise self._translate(error, key) from error

    def head(self, key: str) -> ObjectInfo:
        try:
            return self._info(self._fs().info(self._path(key)))
        except Exception as error:
            raise self._translate(error, key) from error

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            try:
                self._fs().rm_file(self._path(key))
            except FileNotFoundError:
                continue
            except Exception as error:
                raise self._translate(error, key) from error

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        try:
            found = self._fs().find(self._path(prefix), withdirs=False, detail=True)
        except FileNotFoundError:
            return
        except Exception as error:
            raise self._translate(error, prefix) from error
        for info in found.values():
            if not info["name"].rpartition("/")[2].startswith(_TEMPORARY):
                yield self._info(info)

    def _fs(self) -> Any:
        if self._opened is None:
            self._opened = self._access.filesystem() if self._access.filesystem else _plain_fsspec(self._root)
        return self._opened

    def _path(self, key: str) -> str:
        return self._fs()._strip_protocol(self._root.uri(key).rstrip("/"))  # type: ignore[no-any-return]

    def _info(self, info: dict[str, Any]) -> ObjectInfo:
        base = self._path("").rstrip("/") + "/"
        stamp = next((info[k] for k in ("mtime", "LastModified", "last_modified", "created") if info.get(k)), None)
        if isinstance(stamp, (int, float)):
            stamp = datetime.fromtimestamp(stamp, timezone.utc)
        if isinstance(stamp, datetime) and stamp.tzinfo is None:
            stamp = stamp.replace(tzinfo=timezone.utc)
        name = str(info["name"])
        key = name[name.index(base) + len(base) :]
        return ObjectInfo(key, int(info["size"]), stamp if isinstance(stamp, datetime) else None)

    def _translate(self, error: Exception, key: str) -> XCargoError:
        where = self._root.uri(key)
        if isinstance(error, XCargoError):
            return error.at(where)
        text = f"{type(error).__name__}: {error}"
        if isinstance(error, FileNotFoundError):
            return ObjectNotFoundError("The object of this XCom is not there", where=where)
        # Libraries behind fsspec have errors of their own for a refused login: by name, and by FTP's codes.
        refused = re.search(r"Authentication|PermissionDenied", type(error).__name__) or re.match(
            r"5[35]0\b", str(error)
        )
        if isinstance(error, PermissionError) or refused:
            return AccessDeniedError(f"The file system refused access: {text}", where=where)
        if isinstance(error, (ConnectionError, TimeoutError, EOFError, socket.gaierror)) or "SSHException" in text:
            return StoreUnavailableError(f"The file system cannot be reached: {text}", where=where)
        return StoreError(f"The file system failed: {text}", where=where)


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
