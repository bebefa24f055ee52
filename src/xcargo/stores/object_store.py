"""Amazon S3, Google Cloud Storage and Azure Blob Storage (and what speaks their protocols), through obstore.

obstore's runtime lives in threads. A child that is forked after its parent made a request would wait for them for ever,
so there every request goes through a fresh helper process instead (``relay.py``).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from typing import TypeVar

from xcargo.errors import (
    AccessDeniedError,
    ObjectExistsError,
    ObjectNotFoundError,
    StoreError,
    StoreUnavailableError,
    XCargoError,
)
from xcargo.model.root import Root
from xcargo.stores.base import Access, Limits, ObjectInfo, PutMode, Watched
from xcargo.stores.client import Client, Requests
from xcargo.stores.retry import hedged, retried
from xcargo.types import Buffer

__all__ = ["ObjectStore"]

_WHOLE_PARTS = 4
"""An object of more than this many parts is put in parts."""

_STREAM_PARTS = 2
"""Parts of an object of unknown length are this much larger: S3 takes 10,000 of them."""

_USUAL_PARTS = 16
_LEAST_PART_BYTES = 5 * 1024 * 1024
"""S3 takes no smaller part, but for the last."""

_IN_FLIGHT_BYTES = 128 * 1024 * 1024
"""Bound of what parts under way hold in memory."""

_runtime_pid: int | None = None

_T = TypeVar("_T")


class ObjectStore:
    """Store on S3, GCS or Azure. Opening it makes no request.

    A request that fails for a passing reason is repeated within ``timeout_seconds``. Repeating a put is safe: a key of
    ours is unique, so nothing but the same bytes ever comes under it; and a put whose answer was lost is looked for
    before it is repeated.
    """

    def __init__(self, root: Root, access: Access, limits: Limits) -> None:
        self._root = root
        self._access = access
        self._limits = limits
        self._client = Client(root, access, limits)
        self._relay: tuple[int, Requests] | None = None

    def put(
        self, key: str, parts: Iterable[Buffer], *, mode: PutMode = "overwrite", expected_bytes: int | None = None
    ) -> None:
        part = self._limits.part_bytes
        pieces, rest = _begin(parts, 0 if (expected_bytes or 0) > _WHOLE_PARTS * part else _WHOLE_PARTS * part)
        if rest is None or mode == "create":
            self._put_whole(key, pieces if rest is None else [*pieces, *rest], mode)
        else:
            self._put_in_parts(key, chain(pieces, rest), expected_bytes)

    def _put_whole(self, key: str, parts: Sequence[Buffer], mode: PutMode) -> None:
        size = sum(map(len, parts))
        lost = False

        def attempt(seconds: float) -> None:
            nonlocal lost
            try:
                self._requests().put(key, parts, mode, seconds * 0.8)
            except StoreUnavailableError as error:
                lost = lost or error.lost
                if not error.lost or not self._lies_there(key, size, seconds * 0.2):
                    raise
                if mode == "create" and not self._has(key, parts, seconds * 0.2):
                    raise ObjectExistsError(
                        "There is already an object under this key", where=self._root.uri(key)
                    ) from error
            except ObjectExistsError:
                if not lost or not self._has(key, parts, seconds * 0.2):
                    raise

        self._retried(attempt, "put", key)

    def _put_in_parts(self, key: str, parts: Iterator[Buffer], expected_bytes: int | None) -> None:
        part = self._limits.part_bytes
        size = _part_bytes(part, expected_bytes) if expected_bytes else _STREAM_PARTS * part
        at_once = min(self._limits.max_concurrency, max(2, _IN_FLIGHT_BYTES // size))
        begun = _Begun(_sliced(parts, size), 2 * size)

        def attempt(seconds: float) -> None:
            started, watched = time.monotonic(), Watched(begun)
            try:
                self._requests().put_in_parts(key, watched, size, at_once, seconds)
            except XCargoError as error:
                if watched.error is not None:
                    raise watched.error from None
                # A completed upload is completed at once, so an object of the right size is all of it.
                done = watched.ended and not isinstance(error, AccessDeniedError)
                if done and self._lies_there(key, watched.size_bytes, self._limits.timeout_seconds / 4):
                    return
                if isinstance(error, StoreUnavailableError):
                    left = seconds - (time.monotonic() - started)
                    error.final = begun.is_spent or left < self._limits.timeout_seconds / 2
                raise

        self._retried(attempt, "put", key)

    def _lies_there(self, key: str, size_bytes: int, seconds: float) -> bool:
        """Whether a put whose answer was lost has done its work. An error means that nobody knows."""
        try:
            return self._requests().head(key, seconds).size_bytes == size_bytes
        except StoreError:
            return False

    def _has(self, key: str, parts: Sequence[Buffer], seconds: float) -> bool:
        return self._requests().get(key, 0, None, seconds) == b"".join(parts)

    def get(self, key: str, *, start: int = 0, end: int | None = None) -> Buffer:
        def attempt(seconds: float) -> Buffer:
            return self._requests().get(key, start, end, seconds)

        after = self._limits.hedge_after_seconds
        if not after or start or end is not None or self._forked():
            return self._retried(attempt, "get", key)
        where = self._root.uri(key)
        return self._retried(lambda left: hedged(lambda: attempt(left), after, where), "get", key)

    def get_into(self, key: str, view: memoryview, *, start: int) -> int:
        return self._retried(lambda seconds: self._requests().get_into(key, view, start, seconds), "get", key)

    def head(self, key: str) -> ObjectInfo:
        return self._retried(lambda seconds: self._requests().head(key, seconds), "head", key)

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._delete(key)

    def _delete(self, key: str) -> None:
        with suppress(ObjectNotFoundError):
            self._retried(lambda seconds: self._requests().delete(key, seconds), "delete", key)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        yield from self._requests().list(prefix)

    def folders(self) -> Sequence[str]:
        """Names of the folders at the top. One request for a thousand."""
        if self._forked():
            return sorted({info.key.partition("/")[0] for info in self.list() if "/" in info.key})
        self._requests()
        return self._client.folders()

    def signed_url(self, key: str, seconds: float, disposition: str = "") -> str | None:
        """A URL at which whoever has it may read an object for so long; None where none can be made.

        The store answers with ``disposition`` as Content-Disposition, unless S3's client alone knows the keys.
        """
        return None if self._forked() else self._client.signed_url(key, seconds, disposition)

    def _retried(self, attempt: Callable[[float], _T], verb: str, key: str) -> _T:
        return retried(attempt, verb, self._root.uri(key), self._limits)

    def _requests(self) -> Requests:
        global _runtime_pid
        if not self._forked():
            _runtime_pid = os.getpid()
            return self._client
        if self._relay is None or self._relay[0] != os.getpid():
            from xcargo.stores.fork_helper import Relay

            self._relay = (os.getpid(), Relay(self._root, self._access, self._limits))
        return self._relay[1]

    def _forked(self) -> bool:
        return _runtime_pid not in (None, os.getpid())


def _part_bytes(most_bytes: int, expected_bytes: int) -> int:
    """Size of the parts of an object: smaller ones if there would be few, so that more of them travel at once."""
    usual = max(min(most_bytes, _LEAST_PART_BYTES), min(most_bytes, expected_bytes // _USUAL_PARTS))
    return max(usual, expected_bytes // 9_000)


class _Begun:
    """Parts that can be given once more as long as only the first few were taken: an upload may fail to begin."""

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


def _begin(parts: Iterable[Buffer], limit_bytes: int) -> tuple[Sequence[Buffer], Iterator[Buffer] | None]:
    """The first parts up to a bit more than ``limit_bytes`` bytes, and the others; None if there are no others."""
    if isinstance(parts, Sequence) and sum(map(len, parts)) <= limit_bytes:
        return parts, None
    rest, begun, size = iter(parts), [], 0
    for part in rest:
        begun.append(part)
        size += len(part)
        if size > limit_bytes:
            return begun, rest
    return begun, None


def _sliced(parts: Iterable[Buffer], most_bytes: int) -> Iterator[Buffer]:
    """The parts, in pieces of at most ``most_bytes``."""
    for part in parts:
        view = memoryview(part)
        for start in range(0, len(view), most_bytes):
            yield view[start : start + most_bytes]
