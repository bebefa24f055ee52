"""Single requests to Amazon S3, Google Cloud Storage and Azure Blob Storage, through obstore.

Repeating them is the business of ``objectstore.py``, with two exceptions that lie inside obstore: the parts of a large
upload, and the pages of a listing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Literal, Protocol

from xcargo.errors import ConfigurationError, StoreUnavailableError, XCargoError
from xcargo.model.root import Root
from xcargo.stores.base import Access, Limits, ObjectInfo, PutMode
from xcargo.stores.direct import DirectReader, may_read_directly
from xcargo.stores.error_mapping import first_line, translated
from xcargo.stores.heeding import HeedfulRequests
from xcargo.stores.signed import Method, signed_url
from xcargo.types import Buffer

__all__ = ["Client", "Requests"]

_STREAM_BYTES = 256 * 1024
"""Pieces in which a body is copied to its place: so small, they stay in the processor's cache."""

_QUICK_UPLOAD_BYTES = 8 * 1024 * 1024
"""Up to this size an upload has to be answered as soon as anything else has."""

_SHARE_OF_SEVERAL = 0.4
"""Of the time, what one attempt may take that obstore repeats."""

Work = Literal["request", "upload", "several"]


class Requests(Protocol):
    """Requests that are made once, each within ``seconds``. Errors are those of a store."""

    def put(self, key: str, parts: Sequence[Buffer], mode: PutMode, seconds: float) -> None: ...

    def put_in_parts(self, key: str, parts: Iterable[Buffer], part_bytes: int, at_once: int, seconds: float) -> None:
        """Parts travel as they come. Each is repeated by itself, and may take that many seconds."""

    def get(self, key: str, start: int, end: int | None, seconds: float) -> Buffer: ...

    def get_into(self, key: str, view: memoryview, start: int, seconds: float) -> int: ...

    def head(self, key: str, seconds: float) -> ObjectInfo: ...

    def delete(self, key: str, seconds: float) -> None: ...

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Each page is repeated within the limits."""


class Client:
    """Requests by this process."""

    def __init__(self, root: Root, access: Access, limits: Limits) -> None:
        self._root = root
        self._access = access
        self._limits = limits
        self._credentials = _Asked(access.credentials) if access.credentials else None
        self._clients: dict[Work, Any] = {}
        quiet = min(10.0, limits.timeout_seconds / 4)
        self._busy = HeedfulRequests(root, access, self._signed, quiet)
        self._direct = (
            DirectReader(partial(self._by_obstore, "GET"), quiet) if may_read_directly(root, access) else None
        )

    def put(self, key: str, parts: Sequence[Buffer], mode: PutMode, seconds: float) -> None:
        size = sum(map(len, parts))
        if mode == "overwrite" and self._busy.put(key, parts, seconds):
            return
        with _Translated(self, key, writing=True):
            client = self.open("request" if size <= _QUICK_UPLOAD_BYTES else "upload", seconds)
            import obstore

            data = parts[0] if len(parts) == 1 else iter(parts)
            obstore.put(client, key, data, mode=mode, use_multipart=False)

    def put_in_parts(self, key: str, parts: Iterable[Buffer], part_bytes: int, at_once: int, seconds: float) -> None:
        with _Translated(self, key, writing=True):
            client = self.open("several", seconds)
            import obstore

            obstore.put(client, key, parts, use_multipart=True, chunk_size=part_bytes, max_concurrency=at_once)

    def get(self, key: str, start: int, end: int | None, seconds: float) -> Buffer:
        if answer := self._busy.ask("GET", key, seconds, (start, end) if start or end is not None else None):
            return memoryview(answer.body)
        with _Translated(self, key):
            client = self.open("request", seconds)
            import obstore

            if end is None and not start:
                return memoryview(obstore.get(client, key).bytes())
            wanted: Any = {"offset": start} if end is None else (start, end)
            return memoryview(obstore.get(client, key, options={"range": wanted}).bytes())

    def get_into(self, key: str, view: memoryview, start: int, seconds: float) -> int:
        if answer := self._busy.ask("GET", key, seconds, (start, start + len(view))):
            view[: len(answer.body)] = answer.body
            return len(answer.body)
        begun = time.monotonic()
        most = min(seconds, self._limits.timeout_seconds / 2)  # as long as a request of the client's may take
        filled = self._direct.read_into(key, view, start, most) if self._direct is not None else 0
        if filled == len(view):
            return filled
        with _Translated(self, key):
            client = self.open("request", seconds - (time.monotonic() - begun))
            import obstore

            stream = obstore.get(client, key, options={"range": (start + filled, start + len(view))})
            for piece in stream.stream(min_chunk_size=_STREAM_BYTES):
                data = memoryview(piece)
                view[filled : filled + len(data)] = data
                filled += len(data)
            return filled

    def head(self, key: str, seconds: float) -> ObjectInfo:
        if answer := self._busy.ask("HEAD", key, seconds):
            return ObjectInfo(key, answer.size_bytes, answer.last_modified, answer.e_tag)
        with _Translated(self, key):
            client = self.open("request", seconds)
            import obstore

            return _info(obstore.head(client, key), key)

    def delete(self, key: str, seconds: float) -> None:
        if self._busy.ask("DELETE", key, seconds):
            return
        with _Translated(self, key):
            client = self.open("request", seconds)
            import obstore

            obstore.delete(client, key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        with _Translated(self, prefix):
            client = self.open("several")
            import obstore

            for page in obstore.list(client, prefix=prefix or None, chunk_size=1000):
                for meta in page:
                    yield _info(meta, meta["path"])

    def folders(self) -> Sequence[str]:
        """Names of the folders at the top; each page is repeated within the limits."""
        with _Translated(self, ""):
            client = self.open("several")
            import obstore

            return [prefix.rstrip("/") for prefix in obstore.list_with_delimiter(client)["common_prefixes"]]

    def signed_url(self, key: str, seconds: float, disposition: str) -> str | None:
        """A URL at which this object, and nothing else, may be read for so long; None where none can be made here."""
        with _Translated(self, key):
            given = self._credentials() if self._credentials is not None and self._root.scheme != "gs" else {}
            # A token would open more, and for longer; what a header tells, who pays, a URL does not.
            if "sas_token" in given or "default_headers" in self._access.client:
                return None
            life, config = timedelta(seconds=seconds), self._access.config
            return signed_url(self._root, config, given, self._by_obstore, "GET", key, life, disposition)

    def _signed(self, method: Method, key: str, life: timedelta) -> str | None:
        given = self._credentials() if self._credentials is not None and self._root.scheme == "az" else {}
        return signed_url(self._root, self._access.config, given, self._by_obstore, method, key, life)

    def _by_obstore(self, method: Method, key: str, life: timedelta) -> str:
        import obstore

        return obstore.sign(self.open("request"), method, key, life)

    def open(self, work: Work, seconds: float | None = None) -> Any:
        """obstore's client for a kind of work. One with less time than usual is made for this once."""
        usual = self._limits.timeout_seconds * (0.9 if work == "several" else 0.5)
        if seconds is not None and seconds < usual:
            return self._build(work, max(seconds, 0.05))
        found = self._clients.get(work)
        if found is None:
            found = self._clients.setdefault(work, self._build(work, usual))
        return found

    def _build(self, work: Work, seconds: float) -> Any:
        from obstore.store import AzureStore, GCSStore, S3Store

        root, config = self._root, dict(self._access.config)
        endpoint = str(config.get("endpoint") or config.get("base_url") or "")
        quiet = self._limits.timeout_seconds / 4
        attempt = min(seconds, self._limits.timeout_seconds * _SHARE_OF_SEVERAL) if work == "several" else seconds
        client = {
            "timeout": _duration(attempt),
            "connect_timeout": _duration(min(10.0, quiet, attempt)),
            "user_agent": "xcargo",
            # For how long nothing may come. An upload has no other sign of life than its answer.
            **({"read_timeout": _duration(min(quiet, seconds))} if work == "request" else {}),
            **({"allow_http": True} if endpoint.startswith("http://") else {}),
            **self._access.client,
        }
        options: dict[str, Any] = {
            "prefix": root.prefix or None,
            "config": config,
            "client_options": client,
            "retry_config": self._repeated(seconds - attempt) if work == "several" else {"max_retries": 0},
            "credential_provider": self._credentials,
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
                f"The connection does not give what a client needs: {first_line(error)}",
                where=root,
                hint="Check the fields of the Airflow connection named in the path.",
            ) from None

    def _repeated(self, seconds: float) -> dict[str, Any]:
        """Repetitions by obstore, the last of which begins after so many seconds at the latest."""
        wait, longest = self._limits.retry_wait_seconds, self._limits.retry_max_wait_seconds
        return {
            "max_retries": 100,
            "retry_timeout": timedelta(seconds=seconds),
            "backoff": {
                "init_backoff": timedelta(seconds=wait),
                "max_backoff": timedelta(seconds=min(longest, self._limits.timeout_seconds / 10)),
                "base": 2,
            },
        }


def _duration(seconds: float) -> str:
    return f"{max(1, round(seconds * 1000))}ms"


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


def _info(meta: Mapping[str, Any], key: str) -> ObjectInfo:
    return ObjectInfo(key, meta["size"], meta["last_modified"], meta.get("e_tag"))


class _Translated:
    """Turns obstore's errors into ours, naming the object."""

    def __init__(self, client: Client, key: str, *, writing: bool = False) -> None:
        self._root = client._root
        self._asked = client._credentials
        self._busy = client._busy
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
        found = translated(error, self._root, where, self._writing)
        if isinstance(found, StoreUnavailableError) and found.busy:
            self._busy.heed()
        raise found from error
