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
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

from xcargo.errors import (
    AccessDeniedError,
    ConfigurationError,
    ObjectExistsError,
    ObjectNotFoundError,
    StoreError,
    StoreUnavailableError,
    XCargoError,
)
from xcargo.model.root import Root
from xcargo.stores.base import (
    Access,
    CredentialProvider,
    Limits,
    ObjectInfo,
    PutMode,
    ReplayableParts,
    SignedMethod,
    Uploads,
    Watched,
    slice_parts,
    split_parts,
)
from xcargo.stores.retry import Retry
from xcargo.types import Buffer

if TYPE_CHECKING:
    from xcargo.stores.direct import DirectReader
    from xcargo.stores.fork_helper import HelperRequests

__all__ = ["ObjectStore", "ObstoreRequests"]

_WHOLE_PARTS = 4
"""An object of more than this many parts is put in parts."""

_STREAM_BYTES = 256 * 1024
"""Steps in which a body is copied to where it belongs: so small, they stay in the processor's cache."""

_QUICK_UPLOAD_BYTES = 8 * 1024 * 1024
"""Up to this size an upload has to be answered as soon as anything else has."""

_SMALL_BYTES = 1024 * 1024 + 4096
"""An object of one chunk. What reads so much from the beginning wants all of it: it asks for no range, which an empty
object does not have, and asks a second time if it is slow."""

_SHARE_OF_SEVERAL = 0.4
"""Of the time, what one attempt may take that obstore repeats."""

Work = Literal["request", "upload", "several"]
"""One request, one whose body takes long to send, or several that obstore repeats one by one: parts, pages."""

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
        first, rest = split_parts(parts, 0 if (expected_bytes or 0) > whole_bytes else whole_bytes)
        if rest is None or mode == "create":
            self._put_whole(key, [*first, *(rest or ())], mode)
        else:
            self._put_in_parts(key, chain(first, rest), expected_bytes)

    def _put_whole(self, key: str, parts: Sequence[Buffer], mode: PutMode) -> None:
        lost = False

        def attempt(seconds: float) -> None:
            nonlocal lost
            try:
                self._requests().put(key, parts, mode=mode, seconds=seconds * 0.8)
            except StoreUnavailableError as error:
                lost = lost or error.lost
                with suppress(StoreError):  # then nobody knows
                    if error.lost and self._has_bytes(key, parts, seconds * 0.2):
                        return
                raise
            except ObjectExistsError:
                if not lost or not self._has_bytes(key, parts, seconds * 0.2):
                    raise

        self._retry.run("put", self._root.uri(key), attempt)

    def _put_in_parts(self, key: str, parts: Iterator[Buffer], expected_bytes: int | None) -> None:
        size, at_once = self._limits.upload_parts(expected_bytes)
        replayable = ReplayableParts(slice_parts(parts, size), 2 * size)

        def attempt(seconds: float) -> None:
            began, watched = time.monotonic(), Watched(replayable)
            try:
                self._requests().put_in_parts(key, watched, part_bytes=size, at_once=at_once, seconds=seconds)
            except XCargoError as error:
                if watched.error is not None:
                    raise watched.error from None
                # An upload is completed in one step, so an object of the right size is all of it.
                if watched.ended and not isinstance(error, AccessDeniedError):
                    with suppress(StoreError):  # then nobody knows
                        found = self._requests().head(key, seconds=self._limits.timeout_seconds / 4)
                        if found.size_bytes == watched.size_bytes:
                            return
                if isinstance(error, StoreUnavailableError):
                    left = seconds - (time.monotonic() - began)
                    error.final = replayable.is_spent or left < self._limits.timeout_seconds / 2
                raise

        self._retry.run("put", self._root.uri(key), attempt)

    def _has_bytes(self, key: str, parts: Sequence[Buffer], seconds: float) -> bool:
        data = b"".join(parts)  # under a fixed name there may be others of the same size
        return self._requests().get(key, start=0, end=len(data) + 1, seconds=seconds) == data

    def copy(self, source: str, target: str) -> None:
        """See `copy_object`. S3 copies up to 5 GB."""
        self._retry.run("copy", self._root.uri(source), lambda s: self._requests().copy(source, target, seconds=s))

    def get(self, key: str, *, start: int = 0, end: int | None = None) -> Buffer:
        where = self._root.uri(key)

        def attempt(seconds: float) -> Buffer:
            return self._requests().get(key, start=start, end=end, seconds=seconds)

        if not self._limits.hedge_after_seconds or start or (end or 0) > _SMALL_BYTES or _is_forked():
            return self._retry.run("get", where, attempt)
        return self._retry.run("get", where, lambda left: self._retry.hedged(where, lambda: attempt(left)))

    def get_into(self, key: str, view: memoryview, *, start: int) -> int:
        where, requests = self._root.uri(key), self._requests
        return self._retry.run("get", where, lambda left: requests().get_into(key, view, start=start, seconds=left))

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

    def uploads(self) -> Uploads | None:
        """What was begun to be put in parts, see `uploads_of`. Makes no request."""
        return self._access.uploads(self._limits.timeout_seconds) if self._access.uploads else None

    def folders(self) -> Sequence[str]:
        """Names of the folders at the top. One request for a thousand."""
        if _is_forked():
            return sorted({info.key.partition("/")[0] for info in self.list() if "/" in info.key})
        self._requests()
        return self._own.folders()

    def signed_url(self, key: str, seconds: float, method: SignedMethod = "GET") -> str | None:
        return self._requests().signed_url(key, seconds, method)

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

    Repeating them is the business of `ObjectStore`, with two exceptions that are inside obstore: the parts of a
    large upload, and the pages of a listing.
    """

    def __init__(self, root: Root, access: Access, limits: Limits) -> None:
        self._root = root
        self._access = access
        self._limits = limits
        self._credentials = CredentialProvider(access.credentials) if access.credentials else None
        self._clients: dict[Work, Any] = {}

    @cached_property
    def _direct(self) -> DirectReader | None:
        from xcargo.stores.direct import DirectReader, may_read_directly

        return DirectReader(self._sign, self._limits) if may_read_directly(self._root, self._access) else None

    def put(self, key: str, parts: Sequence[Buffer], *, mode: PutMode, seconds: float) -> None:
        work: Work = "request" if sum(map(len, parts)) <= _QUICK_UPLOAD_BYTES else "upload"
        with self._client(work, key, seconds, writing=True) as client:
            client.put(key, parts[0] if len(parts) == 1 else iter(parts), mode=mode, use_multipart=False)

    def put_in_parts(self, key: str, parts: Iterable[Buffer], *, part_bytes: int, at_once: int, seconds: float) -> None:
        """Sends the parts as they come. Each is repeated by itself, and may take that many seconds."""
        with self._client("several", key, seconds, writing=True) as client:
            client.put(key, parts, use_multipart=True, chunk_size=part_bytes, max_concurrency=at_once)

    def copy(self, source: str, target: str, *, seconds: float) -> None:
        with self._client("upload", source, seconds) as client:  # answered when all of it is copied
            client.copy(source, target)

    def get(self, key: str, *, start: int, end: int | None, seconds: float) -> Buffer:
        with self._client("request", key, seconds) as client:
            if not start and (end or 0) <= _SMALL_BYTES:
                answer = client.get(key)
                if end is None or answer.meta["size"] <= end:
                    return memoryview(answer.bytes())
                return memoryview(next(iter(answer.stream(min_chunk_size=end))))[:end]
            bounds: Any = {"offset": start} if end is None else (start, end)
            return memoryview(client.get(key, options={"range": bounds}).bytes())

    def get_into(self, key: str, view: memoryview, *, start: int, seconds: float) -> int:
        began = time.monotonic()
        filled = 0 if self._direct is None else self._direct.read_into(key, view, start=start, seconds=seconds)
        if filled == len(view):
            return filled
        with self._client("request", key, seconds - (time.monotonic() - began)) as client:
            answer = client.get(key, options={"range": (start + filled, start + len(view))})
            for received in answer.stream(min_chunk_size=_STREAM_BYTES):
                data = memoryview(received)
                view[filled : filled + len(data)] = data
                filled += len(data)
            return filled

    def head(self, key: str, *, seconds: float) -> ObjectInfo:
        with self._client("request", key, seconds) as client:
            return _info(client.head(key), key)

    def delete(self, key: str, *, seconds: float) -> None:
        with self._client("request", key, seconds) as client:
            client.delete(key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        with self._client("several", prefix) as client:
            for page in client.list(prefix or None, chunk_size=1000):
                for meta in page:
                    yield _info(meta, meta["path"])

    def folders(self) -> Sequence[str]:
        """Names of the folders at the top; each page is repeated within the limits."""
        with self._client("several", "") as client:
            return [prefix.rstrip("/") for prefix in client.list_with_delimiter()["common_prefixes"]]

    def signed_url(self, key: str, seconds: float, method: SignedMethod) -> str | None:
        """What a `SigningStore` gives.

        Signing takes the keys of an account: other credentials need a request for it. A connection's own SAS token
        opens more, and for longer, and is never handed on. What a header says (who pays, how the bucket encrypts what
        is put), a URL does not.
        """
        config = self._access.config
        if config.get("skip_signature") or "default_headers" in self._access.client:
            return None
        if method == "PUT" and "server_side_encryption" in config:
            return None
        if self._root.scheme != "s3" and not _UNRESERVED.fullmatch(f"{self._root.prefix}/{key}"):
            return None  # obstore signs such a key as it stands in the URL, and these services as it is
        with self._client("request", key):
            if self._root.scheme == "az":
                credentials = self._credentials() if self._credentials else {}
                if not credentials.get("access_key") or "sas_token" in credentials:
                    return None
            if self._root.scheme == "gs":
                account = json.loads(config.get("service_account_key") or "{}")
                if not account.get("private_key") or account.get("disable_oauth"):
                    return None
            return self._sign(key, seconds, method)

    def _sign(self, key: str, seconds: float, method: SignedMethod = "GET") -> str:
        import obstore

        return obstore.sign(self.client("request"), method, key, timedelta(seconds=seconds))

    @contextmanager
    def _client(self, work: Work, key: str, seconds: float | None = None, *, writing: bool = False) -> Iterator[Any]:
        """A client, whose errors become ours and name the object."""
        where = self._root.uri(key)
        try:
            yield self.client(work, seconds)
        except XCargoError as error:
            error.at(where)
            raise
        except Exception as error:
            if self._credentials is not None and self._credentials.error is not None:
                raise self._credentials.error.at(where) from error
            from xcargo.stores.error_mapping import map_exception

            raise map_exception(error, self._root, where, writing=writing) from error

    def client(self, work: Work, seconds: float | None = None) -> Any:
        """obstore's client for a kind of work, whose requests may take so many seconds. Makes no request.

        One with less time than usual is built for this call alone.

        Raises:
            ConfigurationError: The connection lacks what a client needs.
        """
        usual = self._limits.timeout_seconds * (0.9 if work == "several" else 0.5)
        if seconds is not None and seconds < usual:
            return self._build(work, max(seconds, 0.05))
        if work not in self._clients:
            self._clients.setdefault(work, self._build(work, usual))
        return self._clients[work]

    def _build(self, work: Work, seconds: float) -> Any:
        from obstore.store import AzureStore, GCSStore, S3Store

        config, bound = dict(self._access.config), self._limits.timeout_seconds
        endpoint = str(config.get("endpoint") or config.get("base_url") or "")
        attempt = min(seconds, bound * _SHARE_OF_SEVERAL) if work == "several" else seconds
        client = {
            "timeout": timedelta(seconds=attempt),
            "connect_timeout": timedelta(seconds=min(10.0, bound / 4, attempt)),
            "user_agent": "xcargo",
            # For how long nothing may arrive. An upload has no other sign of life than its answer.
            **({"read_timeout": timedelta(seconds=min(bound / 4, seconds))} if work == "request" else {}),
            **({"allow_http": True} if endpoint.startswith("http://") else {}),
            **self._access.client,
        }
        waits = {
            "init_backoff": timedelta(seconds=self._limits.retry_wait_seconds),
            "max_backoff": timedelta(seconds=min(self._limits.retry_max_wait_seconds, bound / 10)),
            "base": 2,
        }
        # The last repetition begins early enough to have its time.
        repetitions = {"max_retries": 100, "retry_timeout": timedelta(seconds=seconds - attempt), "backoff": waits}
        if self._root.scheme == "s3":
            # A single DELETE works everywhere; DeleteObjects is missing on some S3-compatible servers.
            config.setdefault("disable_bulk_delete", True)
            # Over TLS the channel protects the body; hashing it for the signature would halve the speed.
            config.setdefault("unsigned_payload", not endpoint.startswith("http://"))
        kind: Any = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}[self._root.scheme]
        try:
            return kind(
                self._root.bucket,
                prefix=self._root.prefix or None,
                config=config,
                client_options=client,
                retry_config=repetitions if work == "several" else {"max_retries": 0},
                credential_provider=self._credentials,
            )
        except XCargoError:
            raise
        except Exception as error:
            from xcargo.stores.error_mapping import first_line

            raise ConfigurationError(
                f"The connection does not give what a client needs: {first_line(error)}",
                where=self._root,
                hint="Check the fields of the Airflow connection named in the path.",
            ) from None


def _is_forked() -> bool:
    """Whether obstore's runtime was left behind in the parent of this process."""
    return _runtime_pid not in (None, os.getpid())


def _info(meta: Any, key: str) -> ObjectInfo:
    return ObjectInfo(key, meta["size"], meta["last_modified"], meta.get("e_tag"))
