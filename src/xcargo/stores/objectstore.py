"""Amazon S3, Google Cloud Storage and Azure Blob Storage (and what speaks their protocols), through obstore.

obstore's runtime lives in threads. A child that is forked after its parent made a request would wait for them for ever,
so there every request goes through a fresh helper process instead (``relay.py``).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import chain
from typing import Any

from xcargo.errors import (
    AccessDeniedError,
    ConfigurationError,
    IntegrityError,
    ObjectExistsError,
    ObjectNotFoundError,
    RootNotFoundError,
    StoreError,
    StoreUnavailableError,
    XCargoError,
)
from xcargo.root import Root
from xcargo.stores.base import Access, Buffer, Limits, ObjectInfo, PutMode, Store, Watched, get_into

__all__ = ["ObjectStore"]

_WHOLE_PARTS = 4
"""An object of more than this many parts is put in parts."""

_STREAM_PARTS = 2
"""Parts of an object of unknown length are this much larger: S3 takes 10,000 of them."""

_IN_FLIGHT_BYTES = 128 * 1024 * 1024
"""Bound of what parts under way hold in memory."""

_STREAM_BYTES = 256 * 1024
"""Pieces in which a body is copied to its place: so small, they stay in the processor's cache."""

_runtime_pid: int | None = None


class ObjectStore:
    """Store on S3, GCS or Azure. Opening it makes no request."""

    def __init__(self, root: Root, access: Access, limits: Limits) -> None:
        self._root = root
        self._access = access
        self._limits = limits
        self._credentials = _Asked(access.credentials) if access.credentials else None
        self._client: Any = None
        self._relay: tuple[int, Store] | None = None

    def put(
        self, key: str, parts: Iterable[Buffer], *, mode: PutMode = "overwrite", expected_bytes: int | None = None
    ) -> None:
        relay = self._relay_if_forked()
        if relay:
            relay.put(key, parts, mode=mode, expected_bytes=expected_bytes)
            return
        part = self._limits.part_bytes
        pieces, rest = _begin(parts, 0 if (expected_bytes or 0) > _WHOLE_PARTS * part else _WHOLE_PARTS * part)
        if rest is None or mode == "create":
            data = pieces[0] if len(pieces) == 1 else chain(pieces, rest or ())
            self._put(key, data, mode=mode, use_multipart=False)
            return
        size = max(part, expected_bytes // 9_000) if expected_bytes else _STREAM_PARTS * part
        at_once = min(self._limits.max_concurrency, max(2, _IN_FLIGHT_BYTES // size))
        watched = Watched(_sliced(chain(pieces, rest), size))
        try:
            self._put(key, watched, use_multipart=True, chunk_size=size, max_concurrency=at_once)
        except Exception:
            if watched.error is not None:
                raise watched.error from None
            raise

    def _put(self, key: str, data: Any, **options: Any) -> None:
        with _Translated(self, key, writing=True):
            client = self._open()
            import obstore

            obstore.put(client, key, data, **options)

    def get(self, key: str, *, start: int = 0, end: int | None = None) -> Buffer:
        relay = self._relay_if_forked()
        if relay:
            return relay.get(key, start=start, end=end)
        with _Translated(self, key):
            client = self._open()
            import obstore

            if end is None and not start:
                return memoryview(obstore.get(client, key).bytes())
            wanted: Any = {"offset": start} if end is None else (start, end)
            return memoryview(obstore.get(client, key, options={"range": wanted}).bytes())

    def get_into(self, key: str, view: memoryview, *, start: int) -> int:
        relay = self._relay_if_forked()
        if relay:
            return get_into(relay, key, view, start=start)
        with _Translated(self, key):
            client = self._open()
            import obstore

            filled = 0
            stream = obstore.get(client, key, options={"range": (start, start + len(view))})
            for piece in stream.stream(min_chunk_size=_STREAM_BYTES):
                data = memoryview(piece)
                view[filled : filled + len(data)] = data
                filled += len(data)
            return filled

    def head(self, key: str) -> ObjectInfo:
        relay = self._relay_if_forked()
        if relay:
            return relay.head(key)
        with _Translated(self, key):
            import obstore

            return _info(obstore.head(self._open(), key), key)

    def delete(self, keys: Iterable[str]) -> None:
        relay = self._relay_if_forked()
        if relay:
            relay.delete(keys)
            return
        import obstore

        for key in keys:
            try:
                with _Translated(self, key):
                    obstore.delete(self._open(), key)
            except ObjectNotFoundError:
                pass

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        relay = self._relay_if_forked()
        if relay:
            yield from relay.list(prefix)
            return
        with _Translated(self, prefix):
            import obstore

            for page in obstore.list(self._open(), prefix=prefix or None, chunk_size=1000):
                for meta in page:
                    yield _info(meta, meta["path"])

    def _open(self) -> Any:
        global _runtime_pid
        if self._client is None:
            self._client = _build(self._root, self._access, self._limits, self._credentials)
        _runtime_pid = os.getpid()
        return self._client

    def _relay_if_forked(self) -> Store | None:
        if _runtime_pid in (None, os.getpid()):
            return None
        if self._relay is None or self._relay[0] != os.getpid():
            from xcargo.stores.relay import RelayStore

            self._relay = (os.getpid(), RelayStore(self._root, self._access, self._limits))
        return self._relay[1]


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


class _Asked:
    """Asks for credentials on behalf of the client, and keeps the error that the client would only paraphrase."""

    def __init__(self, ask: Callable[[], Mapping[str, Any]]) -> None:
        self._ask = ask
        self.error: XCargoError | None = None

    def __call__(self) -> Mapping[str, Any]:
        try:
            found = self._ask()
        except XCargoError as error:
            self.error = error
            raise
        self.error = None
        return found


def _build(root: Root, access: Access, limits: Limits, credentials: _Asked | None) -> Any:
    from obstore.store import AzureStore, GCSStore, S3Store

    config: dict[str, Any] = dict(access.config)
    endpoint = str(config.get("endpoint") or config.get("base_url") or "")
    client = {
        "timeout": f"{limits.timeout_seconds}s",
        "connect_timeout": f"{min(10.0, limits.timeout_seconds)}s",
        "user_agent": "xcargo",
        **({"allow_http": True} if endpoint.startswith("http://") else {}),
        **access.client,
    }
    options: dict[str, Any] = {
        "prefix": root.prefix or None,
        "config": config,
        "client_options": client,
        "retry_config": {
            "max_retries": 10,
            "retry_timeout": timedelta(seconds=limits.timeout_seconds),
            "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=5), "base": 2},
        },
        "credential_provider": credentials,
    }
    try:
        if root.scheme == "s3":
            # A single DELETE works everywhere; DeleteObjects is missing on some S3-compatible servers.
            config.setdefault("disable_bulk_delete", True)
            # Over TLS the channel protects the body; hashing it for the signature would halve the speed.
            config.setdefault("unsigned_payload", not endpoint.startswith("http://"))
            return S3Store(root.bucket, **options)
        if root.scheme == "gs":
            return GCSStore(root.bucket, **options)
        return AzureStore(root.bucket, **options)
    except Exception as error:
        if isinstance(error, XCargoError):
            raise
        raise ConfigurationError(
            f"The connection does not give what a client needs: {_first_line(error)}",
            where=root,
            hint="Check the fields of the Airflow connection named in the path.",
        ) from None


def _info(meta: Mapping[str, Any], key: str) -> ObjectInfo:
    return ObjectInfo(key, meta["size"], meta["last_modified"], meta.get("e_tag"))


_ROOT_MISSING = re.compile(
    r"NoSuchBucket|ContainerNotFound|bucket does not exist|container does not exist", re.IGNORECASE
)
_DENIED = re.compile(
    r"ExpiredToken|InvalidToken|TokenRefreshRequired|InvalidAccessKeyId|SignatureDoesNotMatch|AuthenticationFailed"
    r"|AuthorizationFailure|RequestTimeTooSkewed|\b40[13] (Unauthorized|Forbidden)",
)
_REFUSED = re.compile(r"\b4(0[0-79]|1\d|2[0-8]|3\d) [A-Z]")


class _Translated:
    """Turns obstore's errors into ours, naming the object."""

    def __init__(self, store: ObjectStore, key: str, *, writing: bool = False) -> None:
        self._root = store._root
        self._asked = store._credentials
        self._key = key
        self._writing = writing

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None or not isinstance(error, Exception):
            return
        where = self._root.uri(self._key)
        if isinstance(error, XCargoError):
            error.at(where)
            return
        if self._asked is not None and self._asked.error is not None:
            self._asked.error.at(where)
            raise self._asked.error from error
        raise _translate(error, self._root, where, self._writing) from error


def _translate(error: Exception, root: Root, where: str, writing: bool) -> XCargoError:
    from obstore import exceptions

    text = _first_line(error)
    details = str(error)
    who = f"connection {root.connection_id!r}" if root.connection_id else "the default credentials"
    if isinstance(error, (FileNotFoundError, exceptions.NotFoundError)):
        if writing or _ROOT_MISSING.search(details):  # only the bucket can be missing where an object is put
            return RootNotFoundError(
                f"There is no bucket or container {root.bucket!r}",
                where=where,
                hint="Create it, or correct [xcargo] path; it is never created automatically.",
            )
        return ObjectNotFoundError(
            "The object of this XCom is not there",
            where=where,
            hint="It was deleted behind Airflow's back (a lifecycle rule?); run the task that pushed it again.",
        )
    if isinstance(error, (FileExistsError, exceptions.AlreadyExistsError, exceptions.PreconditionError)):
        return ObjectExistsError("There is already an object under this key", where=where)
    denied = isinstance(error, (PermissionError, exceptions.PermissionDeniedError, exceptions.UnauthenticatedError))
    if denied or _DENIED.search(details):
        return AccessDeniedError(
            f"The store refused {who}: {text}",
            where=where,
            hint="Check that the credentials are right and not expired, that they may read, write and delete below "
            "this path, and that this machine's clock is right. (S3 also answers so for a missing object, to someone "
            "who may not list the bucket.)",
        )
    if "redirect without LOCATION" in details:
        return ConfigurationError(
            f"Bucket {root.bucket!r} lies in another region than the one asked",
            where=where,
            hint="Set region_name in the connection's extra field (or AWS_REGION) to the bucket's region.",
        )
    if isinstance(error, exceptions.UnknownConfigurationKeyError):
        return ConfigurationError(text, where=where, hint="Check the connection's extra fields.")
    if "416 Range Not Satisfiable" in details:
        return IntegrityError(
            "The object is shorter than what was stored",
            where=where,
            hint="It was cut short or replaced; run the task that pushed it again.",
        )
    if _REFUSED.search(details):
        return StoreError(f"The store refused the request: {text}", where=where)
    return StoreUnavailableError(
        f"The store did not do its work in time: {text}",
        where=where,
        hint="It was retried. Check that this machine reaches the endpoint, then let Airflow retry the task.",
    )


def _first_line(error: Exception) -> str:
    """obstore's message without its debug dump, and without the query of a URL (it may hold a signature)."""
    text = str(error).split("\n\nDebug source", 1)[0].replace("\n", " ")
    return re.sub(r"(https?://[^\s?]+)\?\S+", r"\1?…", text)[:500]
