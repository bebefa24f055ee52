"""The contract of a store, and what is needed to open one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol, Union, runtime_checkable

__all__ = ["Access", "Buffer", "Limits", "ObjectInfo", "Store", "join", "total_bytes"]

Buffer = Union[bytes, bytearray, memoryview]

PutMode = Literal["overwrite", "create"]


@dataclass(frozen=True)
class ObjectInfo:
    """What a listing tells of an object. ``last_modified`` is by the store's clock, in UTC."""

    key: str
    size_bytes: int
    last_modified: datetime | None
    e_tag: str | None = None


@dataclass(frozen=True)
class Access:
    """How a root is reached: the store client's options, and where its credentials come from.

    ``config`` holds the client's own options (obstore's names: ``access_key_id``, ``endpoint`` ...), secrets included;
    it is never shown. ``client`` holds HTTP options (proxy, certificates). ``credentials`` is asked for short-lived
    credentials whenever the previous ones expire. ``filesystem`` makes an fsspec file system for schemes that have no
    store of ours.
    """

    config: Mapping[str, Any] = field(default_factory=dict, repr=False)
    client: Mapping[str, Any] = field(default_factory=dict, repr=False)
    credentials: Callable[[], Mapping[str, Any]] | None = field(default=None, repr=False)
    filesystem: Callable[[], Any] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Limits:
    """Bounds of a store's work: seconds for a request and for retries, bytes of a part, requests at once."""

    timeout_seconds: float = 60.0
    part_bytes: int = 8 * 1024 * 1024
    max_concurrency: int = 16


@runtime_checkable
class Store(Protocol):
    """Bytes by object key, below one root.

    Every method raises a :class:`~xcargo.errors.StoreError` that names the URI: ObjectNotFoundError,
    RootNotFoundError (no such bucket), AccessDeniedError, StoreUnavailableError (after retries within the time bound),
    StorageFullError. Keys are quoted object keys (:mod:`xcargo.coordinate`). Methods may be called from many threads,
    and in a forked child.
    """

    def put(self, key: str, parts: Sequence[Buffer], *, mode: PutMode = "overwrite") -> None:
        """Store the parts, one after another, as one object: wholly or not at all.

        One request up to four times ``part_bytes``. ``create`` raises ObjectExistsError if the key is taken.
        """

    def get(self, key: str, *, size_bytes: int | None = None) -> Buffer:
        """All bytes of an object. One request, or parallel ranges when ``size_bytes`` is known and large."""

    def head(self, key: str) -> ObjectInfo:
        """Size and age of an object. One request."""

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects. One that is not there counts as deleted, on every cloud. One request a key."""

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Objects whose key begins with ``prefix`` (whole segments), in no particular order, a page at a time."""


def total_bytes(parts: Sequence[Buffer]) -> int:
    """Length of all parts together."""
    return sum(len(part) for part in parts)


def join(parts: Sequence[Buffer]) -> Buffer:
    """The parts as one buffer; copies only when there are several."""
    if not parts:
        return b""
    return parts[0] if len(parts) == 1 else b"".join(parts)
