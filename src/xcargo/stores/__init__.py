"""Stores: bytes by object key."""

from xcargo.stores.base import Access, Limits, ObjectInfo, Store
from xcargo.stores.pool import StorePool

__all__ = ["Access", "Limits", "ObjectInfo", "Store", "StorePool"]
