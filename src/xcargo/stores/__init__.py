"""Stores: bytes by object key. Root and access -> store, and the stores of this process."""

from __future__ import annotations

from collections.abc import Callable

from xcargo.model.root import Root
from xcargo.stores.base import Access, Limits, ObjectInfo, Store

__all__ = ["Access", "Limits", "ObjectInfo", "Store", "StorePool", "open_store"]


def open_store(root: Root, access: Access, limits: Limits, *, on_retry: Callable[[str], object] | None = None) -> Store:
    """The store of a root. Makes no request and, for the object stores, loads no library yet.

    Args:
        root: Where the objects are.
        access: How the root is reached.
        limits: Bounds of every request.
        on_retry: Called with the verb of each request that is repeated, ``hedge`` for a second one beside a slow one.
    """
    if root.scheme in ("s3", "gs", "az"):
        from xcargo.stores.object_store import ObjectStore

        return ObjectStore(root, access, limits, on_retry)
    if root.scheme in ("file", "memory"):
        from xcargo.stores.local import LocalStore, MemoryStore

        return LocalStore(root, fsync=limits.fsync) if root.scheme == "file" else MemoryStore(root)
    from xcargo.stores.fsspec import FilesystemStore

    return FilesystemStore(root, access, limits, on_retry)


class StorePool:
    """The stores of this process: one for each root and set of limits, opened when first used.

    Args:
        access_of: Looks up a root's connection. It is asked once for a root, and again after `forget`.
        on_retry: As for `open_store`.
    """

    def __init__(self, access_of: Callable[[Root], Access], *, on_retry: Callable[[str], object] | None = None) -> None:
        self._access_of = access_of
        self._on_retry = on_retry
        self._access: dict[Root, Access] = {}
        self._stores: dict[tuple[Root, Limits], Store] = {}

    def store(self, root: Root, limits: Limits) -> Store:
        """The root's store.

        Raises:
            ConfigurationError: Its connection cannot be used.
        """
        store = self._stores.get((root, limits))
        if store is None:
            access = self._access.get(root)
            if access is None:
                access = self._access.setdefault(root, self._access_of(root))
            # Two threads may both open one; setdefault lets all use the same, without a lock that a fork could hold.
            opened = open_store(root, access, limits, on_retry=self._on_retry)
            store = self._stores.setdefault((root, limits), opened)
        return store

    def forget(self, root: Root) -> None:
        """Look the root's connection up again at the next use: its credentials were refused."""
        self._access.pop(root, None)
        for key in [key for key in list(self._stores) if key[0] == root]:  # other threads may add some
            self._stores.pop(key, None)
