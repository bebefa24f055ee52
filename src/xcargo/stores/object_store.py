"""Amazon S3, Google Cloud Storage and Azure Blob Storage (and what speaks their protocols), through obstore.

obstore's runtime is a set of threads. A child that is forked after its parent made a request would wait for them
without end, so there every request is made by a helper process instead (``fork_helper.py``).
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import chain
from typing import TYPE_CHECKING, Any

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
from xcargo.stores.clients import Clients
from xcargo.stores.direct import DirectReader, may_read_directly
from xcargo.stores.error_mapping import map_exception
from xcargo.stores.retry import Retry
from xcargo.types import Buffer

if TYPE_CHECKING:
    from xcargo.stores.fork_helper import HelperRequests

__all__ = ["ObjectStore", "ObstoreRequests"]

_WHOLE_PARTS = 4
"""An object of more than this many parts is put in parts."""

_STREAM_PARTS = 2
"""Parts of an object of unknown length are this much larger: S3 takes 10,000 of them."""

_USUAL_PARTS = 16
_LEAST_PART_BYTES = 5 * 1024 * 1024
"""S3 takes no smaller part, but for the last."""

_IN_FLIGHT_BYTES = 128 * 1024 * 1024
"""Bound of what parts under way hold in memory."""

_STREAM_BYTES = 256 * 1024
"""Steps in which a body is copied to where it belongs: so small, they stay in the processor's cache."""

_QUICK_UPLOAD_BYTES = 8 * 1024 * 1024
"""Up to this size an upload has to be answered as soon as anything else has."""

_UNRESERVED = re.compile("[A-Za-z0-9._~/-]*")

_runtime_pid: int | None = None


class ObjectStore:
    """Store on S3, GCS or Azure. Opening it makes no request.

    A request that fails for a passing reason is repeated within ``timeout_seconds``; ``on_retry`` is called with its
    verb. Repeating a put is safe: keys are unique, so nothing but the same bytes is ever put under one; and a put whose
    answer was lost is looked for before it is repeated.
    """

    def __init__(
        self, root: Root, access: Access, limits: Limits, on_retry: Callable[[str], object] | None = None
    ) -> None:
        self._root = root
        self._access = access
        self._limits = limits
        self._retry = Retry(limits, on_retry)
        self._own = ObstoreRequests(root, access, limits)
        self._helper: tuple[int, HelperRequests] | None = None

    def put(
        self, key: str, parts: Iterable[Buffer], *, mode: PutMode = "overwrite", expected_bytes: int | None = None
    ) -> None:
        whole_bytes = _WHOLE_PARTS * self._limits.part_bytes
        first, rest = _split(parts, 0 if (expected_bytes or 0) > whole_bytes else whole_bytes)
        if rest is None:
            self._put_whole(key, first, mode)
        elif mode == "create":
            self._put_whole(key, [*first, *rest], mode)
        else:
            self._put_in_parts(key, chain(first, rest), expected_bytes)

    def _put_whole(self, key: str, parts: Sequence[Buffer], mode: PutMode) -> None:
        size = sum(map(len, parts))
        lost = False

        def attempt(seconds: float) -> None:
            nonlocal lost
            try:
                self._requests().put(key, parts, mode=mode, seconds=seconds * 0.8)
            except StoreUnavailableError as error:
                lost = lost or error.lost
                if not error.lost or not self._has_size(key, size, seconds * 0.2):
                    raise
                if mode == "create" and not self._has_bytes(key, parts, seconds * 0.2):
                    raise ObjectExistsError(
                        "There is already an object under this key", where=self._root.uri(key)
                    ) from error
            except ObjectExistsError:
                if not lost or not self._has_bytes(key, parts, seconds * 0.2):
                    raise

        self._retry.run("put", self._root.uri(key), attempt)

    def _put_in_parts(self, key: str, parts: Iterator[Buffer], expected_bytes: int | None) -> None:
        part_bytes = self._limits.part_bytes
        size = _part_bytes(part_bytes, expected_bytes) if expected_bytes else _STREAM_PARTS * part_bytes
        at_once = min(self._limits.max_concurrency, max(2, _IN_FLIGHT_BYTES // size))
        replayable = _Replayable(_sliced(parts, size), 2 * size)

        def attempt(seconds: float) -> None:
            began, watched = time.monotonic(), Watched(replayable)
            try:
                self._requests().put_in_parts(key, watched, part_bytes=size, at_once=at_once, seconds=seconds)
            except XCargoError as error:
                if watched.error is not None:
                    raise watched.error from None
                # An upload is completed in one step, so an object of the right size is all of it.
                sent = watched.ended and not isinstance(error, AccessDeniedError)
                if sent and self._has_size(key, watched.size_bytes, self._limits.timeout_seconds / 4):
                    return
                if isinstance(error, StoreUnavailableError):
                    left = seconds - (time.monotonic() - began)
                    error.final = replayable.is_spent or left < self._limits.timeout_seconds / 2
                raise

        self._retry.run("put", self._root.uri(key), attempt)

    def _has_size(self, key: str, size_bytes: int, seconds: float) -> bool:
        """Whether a put whose answer was lost was carried out. An error means that nobody knows."""
        try:
            return self._requests().head(key, seconds=seconds).size_bytes == size_bytes
        except StoreError:
            return False

    def _has_bytes(self, key: str, parts: Sequence[Buffer], seconds: float) -> bool:
        return self._requests().get(key, start=0, end=None, seconds=seconds) == b"".join(parts)

    def get(self, key: str, *, start: int = 0, end: int | None = None) -> Buffer:
        where = self._root.uri(key)

        def attempt(seconds: float) -> Buffer:
            return self._requests().get(key, start=start, end=end, seconds=seconds)

        if not self._limits.hedge_after_seconds or start or end is not None or _is_forked():
            return self._retry.run("get", where, attempt)
        return self._retry.run("get", where, lambda left: self._retry.hedged(where, lambda: attempt(left)))

    def get_into(self, key: str, view: memoryview, *, start: int) -> int:
        def attempt(seconds: float) -> int:
            return self._requests().get_into(key, view, start=start, seconds=seconds)

        return self._retry.run("get", self._root.uri(key), attempt)

    def head(self, key: str) -> ObjectInfo:
        return self._retry.run("head", self._root.uri(key), lambda left: self._requests().head(key, seconds=left))

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._delete(key)

    def _delete(self, key: str) -> None:
        with suppress(ObjectNotFoundError):
            self._retry.run("delete", self._root.uri(key), lambda left: self._requests().delete(key, seconds=left))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        yield from self._requests().list(prefix)

    def folders(self) -> Sequence[str]:
        """Names of the folders at the top. One request for a thousand."""
        if _is_forked():
            return sorted({info.key.partition("/")[0] for info in self.list() if "/" in info.key})
        self._requests()
        return self._own.folders()

    def signed_url(self, key: str, seconds: float) -> str | None:
        if _is_forked():
            return None
        self._requests()
        return self._own.signed_url(key, seconds)

    def _requests(self) -> ObstoreRequests | HelperRequests:
        global _runtime_pid
        if not _is_forked():
            _runtime_pid = os.getpid()
            return self._own
        if self._helper is None or self._helper[0] != os.getpid():
            from xcargo.stores.fork_helper import HelperRequests

            self._helper = (os.getpid(), HelperRequests(self._root, self._access, self._limits))
        return self._helper[1]


class ObstoreRequests:
    """Requests by this process, each made once and within ``seconds``. Errors are those of a store.

    Repeating them is the business of :class:`ObjectStore`, with two exceptions that are inside obstore: the parts of a
    large upload, and the pages of a listing.
    """

    def __init__(self, root: Root, access: Access, limits: Limits) -> None:
        self._root = root
        self._access = access
        self._limits = limits
        self._clients = Clients(root, access, limits)
        self._direct = DirectReader(self._sign, limits) if may_read_directly(root, access) else None

    def put(self, key: str, parts: Sequence[Buffer], *, mode: PutMode, seconds: float) -> None:
        size = sum(map(len, parts))
        with self._errors(key, writing=True):
            client = self._clients.get("request" if size <= _QUICK_UPLOAD_BYTES else "upload", seconds)
            import obstore

            data = parts[0] if len(parts) == 1 else iter(parts)
            obstore.put(client, key, data, mode=mode, use_multipart=False)

    def put_in_parts(self, key: str, parts: Iterable[Buffer], *, part_bytes: int, at_once: int, seconds: float) -> None:
        """Sends the parts as they come. Each is repeated by itself, and may take that many seconds."""
        with self._errors(key, writing=True):
            client = self._clients.get("several", seconds)
            import obstore

            obstore.put(client, key, parts, use_multipart=True, chunk_size=part_bytes, max_concurrency=at_once)

    def get(self, key: str, *, start: int, end: int | None, seconds: float) -> Buffer:
        with self._errors(key):
            client = self._clients.get("request", seconds)
            import obstore

            if end is None and not start:
                return memoryview(obstore.get(client, key).bytes())
            bounds: Any = {"offset": start} if end is None else (start, end)
            return memoryview(obstore.get(client, key, options={"range": bounds}).bytes())

    def get_into(self, key: str, view: memoryview, *, start: int, seconds: float) -> int:
        began = time.monotonic()
        filled = 0 if self._direct is None else self._direct.read_into(key, view, start=start, seconds=seconds)
        if filled == len(view):
            return filled
        with self._errors(key):
            client = self._clients.get("request", seconds - (time.monotonic() - began))
            import obstore

            answer = obstore.get(client, key, options={"range": (start + filled, start + len(view))})
            for received in answer.stream(min_chunk_size=_STREAM_BYTES):
                data = memoryview(received)
                view[filled : filled + len(data)] = data
                filled += len(data)
            return filled

    def head(self, key: str, *, seconds: float) -> ObjectInfo:
        with self._errors(key):
            client = self._clients.get("request", seconds)
            import obstore

            return _info(obstore.head(client, key), key)

    def delete(self, key: str, *, seconds: float) -> None:
        with self._errors(key):
            client = self._clients.get("request", seconds)
            import obstore

            obstore.delete(client, key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        with self._errors(prefix):
            client = self._clients.get("several")
            import obstore

            for page in obstore.list(client, prefix=prefix or None, chunk_size=1000):
                for meta in page:
                    yield _info(meta, meta["path"])

    def folders(self) -> Sequence[str]:
        """Names of the folders at the top; each page is repeated within the limits."""
        with self._errors(""):
            client = self._clients.get("several")
            import obstore

            return [prefix.rstrip("/") for prefix in obstore.list_with_delimiter(client)["common_prefixes"]]

    def signed_url(self, key: str, seconds: float) -> str | None:
        """A URL at which whoever has it may read this object, and no other, for so long; None where none can be made.

        Signing takes the keys of an account: other credentials need a request for it. A connection's own SAS token
        opens more, and for longer, and is never handed on. What a header says (who pays), a URL does not.
        """
        config = self._access.config
        if config.get("skip_signature") or "default_headers" in self._access.client:
            return None
        if self._root.scheme != "s3" and not _UNRESERVED.fullmatch(f"{self._root.prefix}/{key}"):
            return None  # obstore signs such a key as it stands in the URL, and these services as it is
        with self._errors(key):
            if self._root.scheme == "az":
                credentials = self._clients.credentials() if self._clients.credentials else {}
                if not credentials.get("access_key") or "sas_token" in credentials:
                    return None
            if self._root.scheme == "gs":
                account = json.loads(config.get("service_account_key") or "{}")
                if not account.get("private_key") or account.get("disable_oauth"):
                    return None
            return self._sign(key, seconds)

    def _sign(self, key: str, seconds: float) -> str:
        import obstore

        return obstore.sign(self._clients.get("request"), "GET", key, timedelta(seconds=seconds))

    @contextmanager
    def _errors(self, key: str, *, writing: bool = False) -> Iterator[None]:
        """Turns obstore's errors into ours, naming the object."""
        where = self._root.uri(key)
        try:
            yield
        except XCargoError as error:
            error.at(where)
            raise
        except Exception as error:
            credentials = self._clients.credentials
            if credentials is not None and credentials.error is not None:
                raise credentials.error.at(where) from error
            raise map_exception(error, self._root, where, writing=writing) from error


def _is_forked() -> bool:
    """Whether obstore's runtime was left behind in the parent of this process."""
    return _runtime_pid not in (None, os.getpid())


def _info(meta: Any, key: str) -> ObjectInfo:
    return ObjectInfo(key, meta["size"], meta["last_modified"], meta.get("e_tag"))


def _part_bytes(most_bytes: int, expected_bytes: int) -> int:
    """Size of the parts of an object: smaller ones if there would be few, so that more of them travel at once."""
    usual = max(min(most_bytes, _LEAST_PART_BYTES), min(most_bytes, expected_bytes // _USUAL_PARTS))
    return max(usual, expected_bytes // 9_000)


class _Replayable:
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


def _split(parts: Iterable[Buffer], limit_bytes: int) -> tuple[Sequence[Buffer], Iterator[Buffer] | None]:
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


def _sliced(parts: Iterable[Buffer], most_bytes: int) -> Iterator[Buffer]:
    """The parts in slices of at most ``most_bytes``."""
    for part in parts:
        view = memoryview(part)
        for start in range(0, len(view), most_bytes):
            yield view[start : start + most_bytes]
