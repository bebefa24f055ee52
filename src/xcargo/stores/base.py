"""The contract of a store, and what is needed to open one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol, runtime_checkable

from xcargo.types import Buffer

__all__ = [
    "PART_NAME",
    "Access",
    "Buffer",
    "Limits",
    "ObjectInfo",
    "PutMode",
    "Store",
    "StoreIntoMemory",
    "Watched",
    "get_into",
    "is_part",
    "list_all",
]


PutMode = Literal["overwrite", "create"]


PART_NAME = ".xcargo-part-"
"""So begins the name of the file that a store of files writes first; a put that is killed leaves it behind."""


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
    """Bounds of a store's work.

    ``timeout_seconds`` for a request together with its repetitions, the first of which follows after about
    ``retry_wait_seconds`` and each next one after twice as long, up to ``retry_max_wait_seconds``; bytes of a part;
    requests at once; ``hedge_after_seconds`` without an answer a small object is asked for a second time (0: never).
    """

    timeout_seconds: float = 60.0
    part_bytes: int = 8 * 1024 * 1024
    max_concurrency: int = 16
    retry_wait_seconds: float = 0.1
    retry_max_wait_seconds: float = 5.0
    hedge_after_seconds: float = 0.0


@runtime_checkable
class Store(Protocol):
    """Bytes by object key, below one root.

    Every method raises a :class:`~xcargo.errors.StoreError` that names the URI: ObjectNotFoundError,
    RootNotFoundError (no such bucket), AccessDeniedError, StoreUnavailableError (after retries within the time bound),
    StorageFullError. Keys are object keys (:mod:`xcargo.model.coordinate`). Methods may be called from many
    threads, and in a forked child.
    """

    def put(
        self, key: str, parts: Iterable[Buffer], *, mode: PutMode = "overwrite", expected_bytes: int | None = None
    ) -> None:
        """Store the parts, one after another, as one object: wholly or not at all.

        One request up to four times ``part_bytes``; above, parts travel as they come and no more than a bounded number
        of them is held. ``expected_bytes`` (a hint) lets that begin at once. An error that ``parts`` raises is passed
        on. ``create`` raises ObjectExistsError if the key is taken; it makes one request of any size.
        """

    def get(self, key: str, *, start: int = 0, end: int | None = None) -> Buffer:
        """Bytes ``start`` to ``end`` of an object, all of them by default; fewer if it ends before. One request."""

    def head(self, key: str) -> ObjectInfo:
        """Size and age of an object. One request."""

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects. One that is not there counts as deleted, on every cloud. One request a key."""

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Objects whose key begins with ``prefix`` (whole segments), in no particular order, a page at a time."""


class StoreIntoMemory(Protocol):
    """A store that can put what it reads where the caller wants it, without holding it as a whole first."""

    def get_into(self, key: str, view: memoryview, *, start: int) -> int:
        """Fill ``view`` with an object's bytes from ``start`` on. Returns how many there were. One request."""


def get_into(store: Store, key: str, view: memoryview, *, start: int) -> int:
    """The same from any store; one that cannot do it itself costs a copy and as much memory again."""
    directly = getattr(store, "get_into", None)
    if directly is not None:
        return directly(key, view, start=start)  # type: ignore[no-any-return]
    data = store.get(key, start=start, end=start + len(view))
    view[: len(data)] = data
    return len(data)


def is_part(key: str) -> bool:
    """Whether a key is that of a file which a put was writing."""
    return key.rpartition("/")[2].startswith(PART_NAME)


def list_all(store: Store, prefix: str = "") -> Iterator[ObjectInfo]:
    """Objects and, from a store of files, what puts write or were killed while writing (:func:`is_part`).

    Object stores show none of that: parts of an upload that was broken off are the bucket's own to tidy.
    """
    listing: Callable[[str], Iterator[ObjectInfo]] = getattr(store, "list_all", store.list)
    return listing(prefix)


class Watched:
    """The parts of a put, once: how far they were taken, and when last.

    Keeps the error that they raise themselves, which is not the store's to translate.
    """

    def __init__(self, parts: Iterable[Buffer]) -> None:
        self._parts = iter(parts)
        self.error: BaseException | None = None
        self.size_bytes = 0
        self.ended = False
        self.taken_at = time.monotonic()

    def __iter__(self) -> Iterator[Buffer]:
        return self

    def __next__(self) -> Buffer:
        try:
            part = next(self._parts)
        except StopIteration:
            self.ended = True
            raise
        except BaseException as error:
            self.error = error
            raise
        self.taken_at = time.monotonic()
        self.size_bytes += len(part)
        return part
