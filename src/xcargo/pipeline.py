"""The way of a value: codec -> compression -> store -> envelope, and back.

One encoding, one put; one get. The object exists before the row does: a crash between leaves an orphan, never a row
that refers to nothing.
"""

from __future__ import annotations

import base64
import binascii
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from itertools import chain, islice
from typing import Any, TypeVar

from blake3 import blake3

from xcargo.cache import MIN_BYTES, Cached, NodeCache
from xcargo.chunks import Chunks, Sealing, SpentError, altered, cut
from xcargo.codecs.base import Buffer, Encoded, contiguous
from xcargo.codecs.registry import Registry
from xcargo.codecs.source import Held, Late, Source
from xcargo.compression import SUFFIXES, canonical, decompress, pays_off, require, squeezed
from xcargo.coordinate import MAX_OBJECT_KEY_BYTES, Coordinate
from xcargo.envelope import Envelope, Json, is_envelope, plain_bytes
from xcargo.errors import (
    AccessDeniedError,
    ConfigurationError,
    DecodeError,
    EnvelopeError,
    XCargoError,
)
from xcargo.handle import Lazy
from xcargo.legacy import expand, resolve
from xcargo.preview import preview, shown_params, type_name
from xcargo.progress import Progress
from xcargo.reader import ObjectSource, short
from xcargo.root import Root
from xcargo.settings import Settings
from xcargo.stores.base import Limits, Store, get_into
from xcargo.stores.open import StorePool

__all__ = ["Pipeline"]

log = logging.getLogger(__name__)

_T = TypeVar("_T")


class Pipeline:
    """Push, pull and purge of values, by settings.

    Raises an :class:`~xcargo.errors.XCargoError` that names the XCom or the object. ``describe`` may change a preview
    before it is written (Airflow masks its secrets there).
    """

    def __init__(
        self,
        settings: Settings,
        codecs: Registry,
        stores: StorePool,
        *,
        describe: Callable[[str], str] = str,
    ) -> None:
        self.settings = settings
        self._codecs = codecs
        self._stores = stores
        self._describe = describe
        self._compression = canonical(settings.compression)
        require(self._compression)
        self._limits = Limits(settings.timeout_seconds, settings.part_bytes, settings.part_concurrency)
        self._cache = NodeCache(settings.cache_path, settings.cache_size_bytes) if settings.cache_path else None
        self._purge_limits = Limits(settings.purge_timeout_seconds, settings.part_bytes, 1)

    def push(self, value: Any, coordinate: Coordinate, *, inline_only: bool = False) -> Json:
        """The row for a value, after its object, if it needs one, is stored.

        A value whose size is above ``threshold_bytes`` is offloaded: one request. Size is the length of its compact
        JSON if the row can hold it as it is (:func:`~xcargo.envelope.is_plain`), of its payload otherwise.
        ``inline_only`` keeps it in the row whatever its size.
        """
        threshold = self.settings.threshold_bytes if not inline_only else -1
        limit = math.inf if threshold < 0 else threshold
        size = None if limit == 0 else plain_bytes(value, limit)
        if size is not None and size <= limit:
            return value  # type: ignore[no-any-return]
        try:
            encoded = self._codecs.encode(value)
            payload_bytes = encoded.size_bytes
            if payload_bytes is None:
                encoded = _begun(encoded, limit)
                payload_bytes = encoded.size_bytes
            if limit == 0 or size is not None or payload_bytes is None or payload_bytes > limit:
                return self._offload(value, encoded, coordinate)
            return self._inlined(value, encoded)
        except XCargoError as error:
            error.at(coordinate)
            raise

    def enveloped(self, value: Any) -> Json:
        """The row that holds a value in an envelope although it could stand there as it is. No request."""
        return self._inlined(value, self._codecs.encode(value))

    def pull(self, row: Any) -> Any:
        """The value of a row that is an envelope. One request if it refers to an object."""
        envelope = Envelope.from_row(row)
        try:
            return self._lazy(envelope).load()
        except XCargoError as error:
            if envelope.uri:
                error.at(envelope.uri)
            raise

    def handle(self, row: Any) -> Lazy:
        """A handle of the value of a row, envelope or plain. No request."""
        envelope: Any = row if is_envelope(row) else self.enveloped(row)
        return self._lazy(Envelope.from_row(envelope))

    def _lazy(self, envelope: Envelope) -> Lazy:
        def source() -> Source:
            found = self._source(envelope)
            if self._cache is None or not envelope.uri or not MIN_BYTES <= found.size_bytes <= self._cache.size_bytes:
                return found
            # The name tells all that the payload follows from, so that no row can claim another one's place.
            told = f"{envelope.checksum} {envelope.compression} {envelope.size_bytes}"
            return Cached(found, self._cache, f"payload:{blake3(told.encode()).hexdigest()}")

        return Lazy(self._codecs, envelope, source)

    def pull_legacy(self, text: str, load_json: Callable[[str], Any]) -> Any:
        """The value behind a string that another backend left, or the string itself if it is no reference."""
        reference = resolve(text, self.settings.legacy_roots)
        if reference is None:
            return text
        where = reference.root.uri(reference.key)
        data = self._with_store(reference.root, self._limits, lambda store: store.get(reference.key))
        try:
            return load_json(expand(reference.compression, data).decode("utf-8"))
        except XCargoError as error:
            error.at(where)
            raise
        except ValueError as error:
            raise DecodeError(f"The old object is not JSON: {error}", where=where) from error

    def purge(self, row: Any) -> bool:
        """Delete the object of a row, if the row is one of our envelopes; one that is gone counts as deleted.

        Never raises, never takes longer than ``purge_timeout_seconds``: a purge that fails leaves an orphan and a line
        in the log. Returns whether an object was deleted. One request.
        """
        try:
            if not is_envelope(row):
                return False
            envelope = Envelope.from_row(row)
            if envelope.uri is None:
                return False
            root, key = self._place(envelope.uri)
            store = self._stores.store(root, self._purge_limits)
        except Exception as error:
            log.warning("xcargo left the object of a cleared XCom in place: %s", error)
            return False
        failures: list[BaseException] = []

        def delete() -> None:
            try:
                store.delete([key])
            except BaseException as error:
                failures.append(error)

        # A thread of its own, since nothing else bounds what a name server or a file system may take.
        thread = threading.Thread(target=delete, name="xcargo-purge", daemon=True)
        thread.start()
        thread.join(self.settings.purge_timeout_seconds)
        if thread.is_alive():
            log.warning("xcargo gave up deleting %s after %s s", envelope.uri, self.settings.purge_timeout_seconds)
            return False
        if failures:
            log.warning("xcargo left an object in place: %s", failures[0])
        return not failures

    def _inlined(self, value: Any, encoded: Encoded) -> Json:
        payload = contiguous(encoded)
        compression, stored = self._compressed(payload)
        data = base64.b64encode(stored).decode()
        return self._envelope(value, encoded, compression, len(payload), len(stored), data=data).to_row()

    def _offload(self, value: Any, encoded: Encoded, coordinate: Coordinate) -> Json:
        root = self.settings.root
        if root is None:
            raise ConfigurationError(
                f"{encoded.size_bytes or 'Many'} bytes belong into object storage, but {self.settings.no_root_reason}",
                hint="Set AIRFLOW__XCARGO__PATH (or path in section [xcargo]) on every component, for example to "
                "s3://my_aws_conn@my-bucket/xcom.",
            )
        started = time.perf_counter()
        chunks: Iterable[Buffer] = cut(encoded.parts)
        if isinstance(encoded.parts, Sequence):
            chunks = ahead = list(chunks)
        else:
            ahead = list(islice(chunks, 2))
            chunks = chain(ahead, chunks)
        if len(ahead) < 2:
            payload = ahead[0] if ahead else b""
            compression, stored = self._compressed(payload)
            uri = self._put(root, coordinate, encoded, compression, [stored], len(stored))
            envelope = self._envelope(
                value,
                encoded,
                compression,
                len(payload),
                len(stored),
                uri=uri,
                checksum=f"blake3:{blake3(stored).hexdigest()}",
            )
        else:
            worth = any(pays_off(self._compression, chunk) for chunk in ahead)
            compression = self._compression if worth else "none"
            expected = encoded.size_bytes or encoded.expected_bytes
            progress = Progress(f"stores XCom {coordinate.key!r}", expected)
            sealing = Sealing(chunks, compression, progress.advance)
            uri = self._put(root, coordinate, encoded, compression, sealing, expected)
            table = sealing.table
            envelope = self._envelope(
                value,
                encoded,
                compression if table.compressed else "none",
                table.starts[-1],
                table.offsets[-1],
                uri=uri,
                checksum=table.checksum(),
                chunks=table.to_json(),
            )
        log.info(
            "xcargo stored XCom %r (%s, %d bytes) as %d bytes in %s, %.3f s",
            coordinate.key,
            envelope.type,
            envelope.size_bytes,
            envelope.stored_bytes,
            envelope.uri,
            time.perf_counter() - started,
        )
        return envelope.to_row()

    def _put(
        self,
        root: Root,
        coordinate: Coordinate,
        encoded: Encoded,
        compression: str,
        parts: Iterable[Buffer],
        expected_bytes: int | None,
    ) -> str:
        """Store the parts under a fresh key. Returns the object's URI."""
        key = coordinate.object_key(suffix=encoded.suffix + SUFFIXES[compression])
        if len(root.prefix) + 1 + len(key) > MAX_OBJECT_KEY_BYTES:
            raise ConfigurationError(
                f"The object key would be longer than {MAX_OBJECT_KEY_BYTES} bytes", hint="Shorten [xcargo] path."
            )
        self._with_store(root, self._limits, lambda store: store.put(key, parts, expected_bytes=expected_bytes))
        return root.uri(key)

    def _compressed(self, payload: Buffer) -> tuple[str, Buffer]:
        """Name of the compression that was worth it, and what to store."""
        shorter = squeezed(self._compression, payload)
        return ("none", payload) if shorter is None else (self._compression, shorter)

    def _envelope(
        self, value: Any, encoded: Encoded, compression: str, size_bytes: int, stored_bytes: int, **place: Any
    ) -> Envelope:
        shown = preview(value, self.settings.preview_chars)
        return Envelope(
            type=type_name(value),
            codec=encoded.codec,
            size_bytes=size_bytes,
            stored_bytes=stored_bytes,
            compression=compression,
            params=shown_params(encoded.codec, encoded.params, self.settings.preview_chars, self._describe),
            preview=None if shown is None else self._describe(shown),
            created_at=datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            **place,
        )

    def _source(self, envelope: Envelope) -> Source:
        """Where the payload is read from. The object of one chunk is read at once, with one request."""
        if envelope.uri is None:
            try:
                stored: Buffer = base64.b64decode(envelope.data or "", validate=True)
            except binascii.Error as error:
                raise DecodeError(f"The row's data is not base64: {error}") from error
            return Held(decompress(envelope.compression, stored, envelope.size_bytes))
        root, key = self._place(envelope.uri)
        if envelope.chunks:
            chunks = Chunks.from_json(
                envelope.chunks, envelope.checksum or "", envelope.size_bytes, envelope.stored_bytes
            )

            def fetch(start: int, end: int) -> Buffer:
                return self._with_store(root, self._limits, lambda store: store.get(key, start=start, end=end))

            def fetch_into(start: int, view: memoryview) -> int:
                return self._with_store(root, self._limits, lambda store: get_into(store, key, view, start=start))

            return ObjectSource(fetch, fetch_into, chunks, envelope.compression, self._limits, envelope.uri)

        def load() -> Buffer:
            try:
                stored = self._with_store(root, self._limits, lambda store: store.get(key))
                _verify(stored, envelope)
                return decompress(envelope.compression, stored, envelope.size_bytes)
            except XCargoError as error:
                error.at(envelope.uri)
                raise

        return Late(envelope.size_bytes, load)

    def _place(self, uri: str) -> tuple[Root, str]:
        """Root and object key of a URI; it is followed only below a configured root."""
        root = self.settings.root_of(uri)
        if root is None:
            configured = ", ".join(map(str, self.settings.roots)) or "none"
            raise EnvelopeError(
                "The row refers to a place below none of the configured roots",
                where=uri[:300],
                hint=f"Configured: {configured}. If [xcargo] path was changed, add the former one to read_paths.",
            )
        return root, root.object_key(uri)

    def _with_store(self, root: Root, limits: Limits, work: Callable[[Store], _T]) -> _T:
        try:
            return work(self._stores.store(root, limits))
        except AccessDeniedError as error:
            # Credentials may have been rotated since this process looked them up.
            self._stores.forget(root)
            try:
                return work(self._stores.store(root, limits))
            except SpentError:
                raise error from None


def _verify(stored: Buffer, envelope: Envelope) -> None:
    """Raise IntegrityError unless the bytes are those that were put."""
    if len(stored) != envelope.stored_bytes:
        raise short(len(stored), envelope.stored_bytes)
    algorithm, _, expected = (envelope.checksum or "").partition(":")
    if algorithm != "blake3":
        raise EnvelopeError(f"The envelope has an unknown kind of checksum, {algorithm!r}")
    if blake3(stored).hexdigest() != expected:
        raise altered()


def _begun(encoded: Encoded, limit: float) -> Encoded:
    """The same, its payload made until it is known to be above ``limit``, or to its end."""
    parts, begun, size = iter(encoded.parts), [], 0
    for part in parts:
        begun.append(part)
        size += len(part)
        if size > limit:
            return replace(encoded, parts=chain(begun, parts))
    return replace(encoded, parts=begun)
