"""The contract of a store, and what is needed to open one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol, runtime_checkable

from xcargo.errors import StoreError, XCargoError
from xcargo.model.settings import Settings
from xcargo.types import Buffer

__all__ = [
    "PART_NAME",
    "Access",
    "CredentialProvider",
    "Limits",
    "ObjectInfo",
    "PutMode",
    "ReplayableParts",
    "SignedMethod",
    "SigningStore",
    "Store",
    "Upload",
    "Uploads",
    "Watched",
    "copy_object",
    "get_in_parts",
    "get_into",
    "is_part",
    "list_all",
    "slice_parts",
    "split_parts",
    "uploads_of",
]


PutMode = Literal["overwrite", "create"]
SignedMethod = Literal["GET", "PUT"]


PART_NAME = ".xcargo-part-"
"""Beginning of the name of the file that a store of files writes first; a put that is killed leaves it behind."""


_STREAM_PARTS = 2
_USUAL_PARTS = 16
_LEAST_PART_BYTES = 5 * 1024 * 1024
"""S3 takes no smaller part, but for the last."""
_IN_FLIGHT_BYTES = 128 * 1024 * 1024
"""Bound of what parts under way hold in memory."""


@dataclass(frozen=True)
class ObjectInfo:
    """What a listing says of an object. ``last_modified`` is by the store's clock, in UTC."""

    key: str
    size_bytes: int
    last_modified: datetime | None
    e_tag: str | None = None


@dataclass(frozen=True)
class Upload:
    """An upload in parts that was begun and neither completed nor aborted. ``started_at`` is by the store's clock."""

    key: str
    upload_id: str
    started_at: datetime


class Uploads(Protocol):
    """The unfinished uploads below one root. Their parts are stored, and billed, until somebody aborts them.

    Raises:
        AccessDeniedError: The credentials have no right to do this.
        StoreUnavailableError: No answer within the time limit.
        StoreError: Anything else, for example a server that does not know the request.
    """

    def list(self, prefix: str = "") -> Iterator[Upload]:
        """Those whose key begins with ``prefix`` (complete segments), in no particular order, one page at a time."""

    def abort(self, upload: Upload) -> None:
        """Delete its parts. One that does not exist counts as aborted. One request."""

    def rule_days(self) -> int | None:
        """After how many days a lifecycle rule of the bucket aborts them; None without such a rule. One request."""


@dataclass(frozen=True)
class Access:
    """How a root is reached: the store client's options, and where its credentials come from.

    Attributes:
        config: The client's own options by obstore's names (``access_key_id``, ``endpoint`` ...), secrets included.
            Never shown.
        client: HTTP options by the names of obstore's ``ClientConfig``: proxy, certificates, time limits.
        credentials: Asked for short-lived credentials whenever the previous ones expire.
        filesystem: Makes an fsspec file system, for schemes that have no store of ours.
        uploads: Opens the unfinished uploads, each request within so many seconds; None where nothing lists them.
            Raises MissingDependencyError without the cloud's own library: obstore cannot list them.
    """

    config: Mapping[str, Any] = field(default_factory=dict, repr=False)
    client: Mapping[str, Any] = field(default_factory=dict, repr=False)
    credentials: Callable[[], Mapping[str, Any]] | None = field(default=None, repr=False)
    filesystem: Callable[[], Any] | None = field(default=None, repr=False)
    uploads: Callable[[float], Uploads] | None = field(default=None, repr=False)


class CredentialProvider:
    """Asks the connection for credentials, and keeps the error that obstore would only paraphrase."""

    def __init__(self, provider: Callable[[], Mapping[str, Any]]) -> None:
        self._provider = provider
        self.error: XCargoError | None = None

    def __call__(self) -> Mapping[str, Any]:
        try:
            credentials = self._provider()
        except XCargoError as error:
            self.error = error
            raise
        self.error = None
        return credentials


@dataclass(frozen=True)
class Limits:
    """Bounds of a store's work.

    Attributes:
        timeout_seconds: For a request together with its repetitions.
        part_bytes: Size of a part; above four of them an object is put in parts.
        max_concurrency: Requests under way at once.
        retry_wait_seconds: About how long after a failure the first repetition follows; each next one after twice that.
        retry_max_wait_seconds: The longest of these waits.
        hedge_after_seconds: Without an answer for so long, a small object is asked for a second time. 0: never.
        fsync: Whether a put to a folder is on the disk before it returns.
    """

    timeout_seconds: float = 60.0
    part_bytes: int = 8 * 1024 * 1024
    max_concurrency: int = 16
    retry_wait_seconds: float = 0.1
    retry_max_wait_seconds: float = 5.0
    hedge_after_seconds: float = 0.0
    fsync: bool = True

    @classmethod
    def from_settings(
        cls, settings: Settings, *, timeout_seconds: float | None = None, max_concurrency: int | None = None
    ) -> Limits:
        """The bounds that settings name, or another time and concurrency."""
        return cls(
            timeout_seconds=settings.timeout_seconds if timeout_seconds is None else timeout_seconds,
            part_bytes=settings.part_bytes,
            max_concurrency=settings.part_concurrency if max_concurrency is None else max_concurrency,
            retry_wait_seconds=settings.retry_wait_seconds,
            retry_max_wait_seconds=settings.retry_max_wait_seconds,
            hedge_after_seconds=settings.hedge_after_seconds,
            fsync=settings.fsync,
        )

    def upload_parts(self, expected_bytes: int | None) -> tuple[int, int]:
        """Size of the parts in which an object is put, and how many of them travel at once.

        Small ones if there would be few, so that more of them travel at once; large ones of an object of unknown
        length, since S3 takes 10,000 of them.
        """
        size = _STREAM_PARTS * self.part_bytes
        if expected_bytes:
            least = min(self.part_bytes, _LEAST_PART_BYTES)
            size = max(least, min(self.part_bytes, expected_bytes // _USUAL_PARTS), expected_bytes // 9_000)
        return size, min(self.max_concurrency, max(2, _IN_FLIGHT_BYTES // size))


@runtime_checkable
class Store(Protocol):
    """Bytes by object key, below one root.

    Keys are object keys (`xcargo.model.coordinate`). Methods may be called from many threads, and in a forked child.

    Raises:
        ObjectNotFoundError: There is no such object.
        RootNotFoundError: There is no such bucket or container.
        AccessDeniedError: The credentials were refused.
        StoreUnavailableError: Retries within the time limit did not help.
        StorageFullError: There is no space left.
        StoreError: Anything else. Each of these names the URI.
    """

    def put(
        self, key: str, parts: Iterable[Buffer], *, mode: PutMode = "overwrite", expected_bytes: int | None = None
    ) -> None:
        """Store the parts, one after another, as one object: completely or not at all.

        One request up to four times ``part_bytes``; above, parts are sent as they are produced, and a bounded number of
        them is held in memory.

        Args:
            key: Object key.
            parts: The bytes to store. An error raised by iterating over them is passed on.
            mode: ``create`` raises ObjectExistsError if the key exists, and sends one request of any size.
            expected_bytes: Approximate size, so that sending in parts can begin at once.
        """

    def get(self, key: str, *, start: int = 0, end: int | None = None) -> Buffer:
        """Bytes ``start`` to ``end`` of an object, all of them by default; fewer if it ends earlier. One request."""

    def head(self, key: str) -> ObjectInfo:
        """Size and age of an object. One request."""

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects. One that does not exist counts as deleted, on every cloud. One request per key."""

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Objects whose key begins with ``prefix`` (complete segments), in no particular order, one page at a time."""


@runtime_checkable
class SigningStore(Protocol):
    """A store whose objects others can be let read or put by a URL."""

    def signed_url(self, key: str, seconds: float, method: SignedMethod = "GET") -> str | None:
        """A URL at which whoever has it may get (or put) this object, and no other, for so long. Makes no request.

        None without credentials that can sign: then there is no URL that would not give more away.
        """


def copy_object(store: Store, source: str, target: str) -> None:
    """Store a copy of an object under another key by the store's own ``copy``: its bytes stay where they are.

    The copy is as young as one that was put, complete or not there at all. One request.

    Raises:
        ObjectNotFoundError: There is no object to copy.
        StoreError: The store makes no copies, or not of this object.
    """
    own = getattr(store, "copy", None)
    if own is None:
        raise StoreError(f"{type(store).__name__} makes no copies of its objects")
    own(source, target)


def get_into(store: Store, key: str, view: memoryview, *, start: int) -> int:
    """Fill ``view`` with an object's bytes from ``start`` on. One request.

    A store with a ``get_into`` of its own puts them where the caller wants them; from any other this costs a copy and
    as much memory again.

    Returns:
        How many bytes there were.
    """
    own = getattr(store, "get_into", None)
    if own is not None:
        return own(key, view, start=start)  # type: ignore[no-any-return]
    data = store.get(key, start=start, end=start + len(view))
    view[: len(data)] = data
    return len(data)


def get_in_parts(store: Store, key: str, size_bytes: int, *, limits: Limits) -> bytearray:
    """The first ``size_bytes`` of an object, in parallel parts. One request a part.

    Fewer bytes if the object is shorter.
    """
    content = bytearray(size_bytes)
    with memoryview(content) as view, ThreadPoolExecutor(limits.max_concurrency) as pool:
        starts = range(0, size_bytes, limits.part_bytes)
        read_bytes = sum(
            pool.map(lambda start: get_into(store, key, view[start : start + limits.part_bytes], start=start), starts)
        )
    return content if read_bytes == size_bytes else content[:read_bytes]


def is_part(key: str) -> bool:
    """Whether a key is that of a file which a put was writing."""
    return key.rpartition("/")[2].startswith(PART_NAME)


def list_all(store: Store, prefix: str = "") -> Iterator[ObjectInfo]:
    """Objects and, from a store of files, what puts write or were killed while writing (`is_part`).

    Object stores show none of that; `uploads_of` does.
    """
    listing: Callable[[str], Iterator[ObjectInfo]] = getattr(store, "list_all", store.list)
    return listing(prefix)


def uploads_of(store: Store) -> Uploads | None:
    """The unfinished uploads of a store that keeps their parts until somebody aborts them; None for any other.

    Folders and what is behind fsspec have none, and Azure deletes such parts by itself after a week.

    Raises:
        MissingDependencyError: The cloud's own library, which can list them, is not installed.
    """
    opened: Callable[[], Uploads | None] = getattr(store, "uploads", lambda: None)
    return opened()


class Watched:
    """The parts of a put, once: how many bytes were taken, when last, and the error that they raised themselves."""

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


class ReplayableParts:
    """Parts that can be iterated once more as long as only the first few were taken: an upload may fail to begin."""

    def __init__(self, parts: Iterator[Buffer], kept_bytes: int) -> None:
        self._rest = parts
        self._kept: list[Buffer] = []
        self._free_bytes = kept_bytes
        self.is_spent = False

    def __iter__(self) -> Iterator[Buffer]:
        yield from tuple(self._kept)
        for part in self._rest:
            self._free_bytes -= len(part)
            if self._free_bytes >= 0:
                self._kept.append(part)
            else:
                self._kept.clear()
                self.is_spent = True
            yield part


def split_parts(parts: Iterable[Buffer], limit_bytes: int) -> tuple[Sequence[Buffer], Iterator[Buffer] | None]:
    """The first parts up to a bit more than ``limit_bytes`` bytes, and the others; None if there are no others."""
    if isinstance(parts, Sequence) and sum(map(len, parts)) <= limit_bytes:
        return parts, None
    rest, first, size = iter(parts), [], 0
    for part in rest:
        first.append(part)
        size += len(part)
        if size > limit_bytes:
            return first, rest
    return first, None


def slice_parts(parts: Iterable[Buffer], most_bytes: int) -> Iterator[Buffer]:
    """The parts in slices of at most ``most_bytes``."""
    for part in parts:
        view = memoryview(part)
        for start in range(0, len(view), most_bytes):
            yield view[start : start + most_bytes]
