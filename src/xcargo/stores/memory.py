"""Objects in this process's memory, for tests: ``memory://name``. Every store of one name shares them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timezone

from xcargo.errors import ObjectExistsError, ObjectNotFoundError
from xcargo.model.root import Root
from xcargo.stores.base import ObjectInfo, PutMode
from xcargo.types import Buffer

__all__ = ["MemoryStore", "buckets"]

_Objects = dict[str, tuple[bytes, datetime]]
buckets: dict[str, _Objects] = {}
"""Bucket and prefix -> object key -> bytes, and when they were put."""


class MemoryStore:
    """Store in memory. A forked child gets a copy, as of all memory."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._objects = buckets.setdefault(f"{root.bucket}/{root.prefix}", {})

    def put(
        self, key: str, parts: Iterable[Buffer], *, mode: PutMode = "overwrite", expected_bytes: int | None = None
    ) -> None:
        if mode == "create" and key in self._objects:
            raise ObjectExistsError("There is already an object under this key", where=self._root.uri(key))
        self._objects[key] = (b"".join(parts), datetime.now(timezone.utc))

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
                "The object of this XCom is not there",
                where=self._root.uri(key),
                hint="memory:// lives in one process; use it for tests only.",
            ) from None
