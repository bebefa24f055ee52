"""An envelope -> the source of its payload, verified as it is read."""

from __future__ import annotations

import base64
import math
import threading
from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

from blake3 import blake3

from xcargo.codecs.source import BytesSource, DeferredSource, Source, allocate
from xcargo.errors import UPGRADE_HINT, DecodeError, EnvelopeError, IntegrityError, XCargoError
from xcargo.model.envelope import TOMBSTONE_BYTES, Envelope, expired
from xcargo.model.settings import Settings
from xcargo.stores.base import Limits
from xcargo.transfer.chunks import WORKERS, ChunkDecoder, ChunkTable, checksum_mismatch
from xcargo.transfer.compression import decompress
from xcargo.transfer.reporting import Progress
from xcargo.transfer.roots import RenewingStore, RootResolver
from xcargo.types import Buffer

if TYPE_CHECKING:
    from xcargo.transfer.encryption import Cipher

__all__ = ["RANGE_BYTES", "ObjectReader", "ObjectSource", "RangeReader", "truncated"]


class ObjectReader:
    """Reads the payloads of envelopes, verified as they are read."""

    def __init__(self, settings: Settings, roots: RootResolver) -> None:
        self._keys = settings.encryption_keys
        self._roots = roots
        self._cache = None
        if settings.cache_path:
            from xcargo.transfer.cache import NodeCache

            self._cache = NodeCache(settings.cache_path, settings.cache_size_bytes)

    def source(self, envelope: Envelope) -> Source:
        """Where the payload is read from: the row, the node's cache, or the object. No request until it is read."""
        source: Any = self._source(envelope)
        if self._cache is not None and envelope.uri and not envelope.encryption:  # what is encrypted is for no disk
            from xcargo.transfer.cache import MIN_BYTES, CachedSource

            if MIN_BYTES <= source.size_bytes <= self._cache.size_bytes:
                # The URI is part of the name: no row gets from the cache what its task may not read from the store.
                identity = f"{envelope.uri} {envelope.checksum} {envelope.compression} {envelope.size_bytes}"
                source = CachedSource(source, self._cache, f"payload:{blake3(identity.encode()).hexdigest()}")
        if envelope.uri:
            source.envelope = envelope  # so that a push of it can copy the object
        return source  # type: ignore[no-any-return]

    def verify(self, envelope: Envelope) -> None:
        """Read a payload from where it is stored, past the node's cache, and compare it with its envelope.

        Memory holds a bounded part of a large payload. Raises what a pull would raise.
        """
        read = sum(len(piece) for piece in self.iter_payload(envelope))
        if read != envelope.size_bytes:
            raise truncated(read, envelope.size_bytes)

    def iter_payload(self, envelope: Envelope) -> Iterator[Buffer]:
        """The payload from where it is stored, past the node's cache, in pieces of which few are held at once."""
        return self._source(envelope).iter_chunks()

    def _source(self, envelope: Envelope) -> Source:
        if envelope.uri is None:
            try:
                stored: Buffer = base64.b64decode(envelope.data or "", validate=True)
            except ValueError as error:  # binascii.Error is one, and so is what is no ASCII
                raise DecodeError(f"The row's data is not base64: {error}") from error
            return BytesSource(decompress(envelope.compression, stored, envelope.size_bytes))
        root, key = self._roots.resolve(envelope.uri)
        store = self._roots.store(root)
        cipher = None
        if envelope.encryption:
            from xcargo.transfer.encryption import Cipher

            cipher = Cipher.from_json(envelope.encryption, self._keys, object_key=key, codec=envelope.codec)
        if not envelope.chunks:
            return DeferredSource(envelope.size_bytes, lambda: _payload(store, key, envelope, cipher))
        table = ChunkTable.from_json(
            envelope.chunks,
            checksum=envelope.checksum or "",
            size_bytes=envelope.size_bytes,
            stored_bytes=envelope.stored_bytes,
            tag_bytes=cipher.tag_bytes if cipher else 0,
        )
        decoder = ChunkDecoder(table, envelope.compression, cipher)
        return ObjectSource(StoredObject(store, envelope, key), decoder, limits=self._roots.limits)


class StoredObject:
    """One object below a configured root, read by ranges: the `RangeReader` of an `ObjectSource`."""

    def __init__(self, store: RenewingStore, envelope: Envelope, key: str) -> None:
        self._store = store
        self._envelope = envelope
        self._key = key
        self.uri = str(envelope.uri)

    def get(self, start: int, end: int) -> Buffer:
        return self._store.get(self._key, start=start, end=end)

    def get_into(self, start: int, view: memoryview) -> int:
        return self._store.get_into(self._key, view, start=start)

    def explain(self, error: IntegrityError) -> XCargoError:
        return _explained(error, self._store, self._key, self._envelope)


def _payload(store: RenewingStore, key: str, envelope: Envelope, cipher: Cipher | None) -> Buffer:
    """The payload of an object of one chunk. One request."""
    try:
        stored = store.get(key, end=envelope.stored_bytes + 1)  # a byte more tells of any longer object
        _verify(stored, envelope)
        if cipher is not None:
            stored = cipher.decrypt(stored, cipher.context(0, True, envelope.size_bytes, envelope.compression))
        return decompress(envelope.compression, stored, envelope.size_bytes)
    except IntegrityError as error:
        raise _explained(error, store, key, envelope).at(envelope.uri) from None
    except XCargoError as error:
        error.at(envelope.uri)
        raise


def _explained(error: IntegrityError, store: RenewingStore, key: str, envelope: Envelope) -> XCargoError:
    """The error for an object that expired, if that is why its bytes do not match; else it with a hint. One request."""
    envelope.explain(error)
    try:
        return expired(bytes(store.get(key, end=TOMBSTONE_BYTES))) or error
    except XCargoError:
        return error


def _verify(stored: Buffer, envelope: Envelope) -> None:
    """Raise IntegrityError unless the bytes are those that were put."""
    if len(stored) != envelope.stored_bytes:
        raise truncated(len(stored), envelope.stored_bytes)
    algorithm, _, expected = (envelope.checksum or "").partition(":")
    if algorithm != "blake3":
        raise EnvelopeError(f"The envelope has an unknown kind of checksum, {algorithm[:40]!r}", hint=UPGRADE_HINT)
    if blake3(stored).hexdigest() != expected:
        raise checksum_mismatch()


_IN_FLIGHT_BYTES = 64 * 1024 * 1024
"""Bound of what compressed bytes under way hold in memory."""

_AHEAD_BYTES = 64 * 1024 * 1024
"""Bound of the payload that is read ahead of the consumer; or two ranges, if these are more."""

RANGE_BYTES = 4 * 1024 * 1024
"""Payload around a small read that comes in the same request: enough to be worth one."""

_CACHED_RANGES = 4
"""Of such ranges, as many as the last ones whose payload small reads find again; or one, if it is larger."""


class RangeReader(Protocol):
    """Reads ranges of one stored object. Methods may be called from many threads; ``get`` methods cost one request."""

    @property
    def uri(self) -> str:
        """Where the object is stored, for messages."""

    def get(self, start: int, end: int) -> Buffer:
        """Stored bytes ``start`` to ``end``; fewer if the object ends before."""

    def get_into(self, start: int, view: memoryview) -> int:
        """Fill ``view`` with stored bytes from ``start`` on. Returns how many there were."""

    def explain(self, error: IntegrityError) -> XCargoError:
        """The error to raise for bytes that are not those that were stored: a better one, if there is one."""


class ObjectSource:
    """Source of an object of several chunks.

    Reading all of an object up to four times ``part_bytes`` makes one request, of a larger one parallel requests of
    about ``part_bytes``. Bytes that are neither compressed nor encrypted are read into the payload's memory and
    verified there; of others no more than 64 MiB are held beside the payload.
    """

    def __init__(self, reader: RangeReader, decoder: ChunkDecoder, *, limits: Limits) -> None:
        self._reader = reader
        self._decoder = decoder
        self._limits = limits
        self._starts, self._offsets = decoder.table.starts, decoder.table.offsets
        # Small reads load and cache ranges of whole chunks: range n is chunks _firsts[n] to _firsts[n + 1].
        starts, count = self._starts, len(decoder.table)
        self._firsts = [n for n in range(count) if not n or starts[n] // RANGE_BYTES != starts[n - 1] // RANGE_BYTES]
        self._firsts.append(count)
        self._range_starts = [starts[n] for n in self._firsts]
        self._cached: OrderedDict[int, Buffer] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def size_bytes(self) -> int:
        return self._starts[-1]

    def read(self, start: int, end: int) -> Buffer:
        start, end = max(start, 0), min(end, self.size_bytes)
        if start >= end:
            return b""
        starts = self._range_starts
        first, last = bisect_right(starts, start) - 1, bisect_right(starts, end - 1) - 1
        begin = starts[first]
        if first == last:
            return memoryview(self._load_range(first))[start - begin : end - begin]
        view = memoryview(allocate(starts[last + 1] - begin))
        missing = [n for n in range(first, last + 1) if not self._copy_cached(n, view[starts[n] - begin :])]
        if missing:  # loaded as one stretch, since those in the cache are nearly always at its ends
            self._fill(view[starts[missing[0]] - begin :], self._firsts[missing[0]], self._firsts[missing[-1] + 1])
            for n in missing[1 - _CACHED_RANGES :]:  # where the next read is likely to begin
                if starts[n + 1] - starts[n] < _CACHED_RANGES * RANGE_BYTES:
                    self._cache(n, bytes(view[starts[n] - begin : starts[n + 1] - begin]))
        return view[start - begin : end - begin]

    def read_into(self, view: memoryview) -> None:
        self._fill(view, 0, len(self._decoder.table))

    def iter_chunks(self) -> Iterator[Buffer]:
        progress = Progress(f"reads {self._reader.uri}", self.size_bytes)
        workers = max(1, min(self._limits.max_concurrency, 4))
        ahead: deque[Future[memoryview]] = deque()

        def take() -> memoryview:
            payload = ahead.popleft().result()
            progress.advance(len(payload))
            return payload

        pool = ThreadPoolExecutor(workers, thread_name_prefix="xcargo-read")
        try:
            for first, end in self._requests(0, len(self._decoder.table), max_bytes=self._limits.part_bytes):
                ahead.append(pool.submit(self._load, first, end))
                if len(ahead) > max(1, min(workers, _AHEAD_BYTES // (self._starts[end] - self._starts[first]))):
                    yield take()
            while ahead:
                yield take()
        finally:  # left early, or after an error: nothing more is fetched
            pool.shutdown(cancel_futures=True)

    def _load_range(self, n: int) -> Buffer:
        """The payload of range ``n``; the last few are cached, since small reads tend to follow one another."""
        with self._lock:
            payload = self._cached.get(n)
        if payload is None:
            payload = self._load(self._firsts[n], self._firsts[n + 1]).toreadonly()
            self._cache(n, payload)
        return payload

    def _cache(self, n: int, payload: Buffer) -> None:
        with self._lock:
            self._cached[n] = payload
            while len(self._cached) > 1 and sum(map(len, self._cached.values())) > _CACHED_RANGES * RANGE_BYTES:
                self._cached.popitem(last=False)

    def _copy_cached(self, n: int, view: memoryview) -> bool:
        """Copy range ``n`` to the beginning of ``view`` if it is cached. Returns whether it is."""
        with self._lock:
            payload = self._cached.get(n)
        if payload is not None:
            view[: len(payload)] = payload
        return payload is not None

    def _load(self, first: int, end: int) -> memoryview:
        """The payload of the chunks ``first`` to ``end``. One request."""
        view = memoryview(allocate(self._starts[end] - self._starts[first]))
        self._read_chunks(view, first, end)
        return view

    def _fill(self, view: memoryview, first: int, end: int) -> None:
        """Put the payload of the chunks ``first`` to ``end`` into the beginning of ``view``, in parallel."""
        starts = self._starts
        if self._offsets[end] - self._offsets[first] <= 4 * self._limits.part_bytes:
            with ThreadPoolExecutor(min(WORKERS, end - first), thread_name_prefix="xcargo-read") as pool:
                self._read_chunks(view[: starts[end] - starts[first]], first, end, pool.map)
            return
        workers = max(1, self._limits.max_concurrency)
        if self._decoder.table.compressed or self._decoder.cipher is not None:
            workers = min(workers, max(2, _IN_FLIGHT_BYTES // self._limits.part_bytes))
        progress = Progress(f"reads {self._reader.uri}", starts[end] - starts[first])

        def read(request: tuple[int, int]) -> None:
            payload = view[starts[request[0]] - starts[first] : starts[request[1]] - starts[first]]
            self._read_chunks(payload, *request)
            progress.advance(len(payload))

        with ThreadPoolExecutor(workers, thread_name_prefix="xcargo-read") as pool:
            requests = [pool.submit(read, request) for request in self._requests(first, end)]
            try:
                for request in requests:
                    request.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _requests(self, first: int, end: int, *, max_bytes: float = math.inf) -> Iterator[tuple[int, int]]:
        """Neighbouring chunks whose stored bytes make about ``part_bytes``, and their payload ``max_bytes`` at most."""
        starts, offsets = self._starts, self._offsets
        while first < end:
            last = first + 1
            while (
                last < end
                and offsets[last + 1] - offsets[first] <= self._limits.part_bytes
                and starts[last + 1] - starts[first] <= max_bytes
            ):
                last += 1
            yield first, last
            first = last

    def _read_chunks(self, view: memoryview, first: int, end: int, map_chunks: Any = map) -> None:
        """Fetch the chunks ``first`` to ``end``, verify them, and fill ``view`` with their payload. One request.

        ``map_chunks`` decodes them: `map`, or that of a pool.
        """
        starts, offsets = self._starts, self._offsets
        expected = offsets[end] - offsets[first]
        try:
            if expected == len(view) and self._decoder.cipher is None:  # no chunk is compressed
                stored, length = view, self._reader.get_into(offsets[first], view)
            else:
                stored = memoryview(self._reader.get(offsets[first], offsets[end]))
                length = len(stored)
            if length != expected:
                raise truncated(offsets[first] + length, offsets[-1])

            def decode(n: int) -> None:
                payload = view[starts[n] - starts[first] : starts[n + 1] - starts[first]]
                chunk = stored[offsets[n] - offsets[first] : offsets[n + 1] - offsets[first]]
                self._decoder.decode_into(payload, payload if stored is view else chunk, n)

            for _ in map_chunks(decode, range(first, end)):
                pass
        except IntegrityError as error:
            raise self._reader.explain(error).at(self._reader.uri) from None
        except XCargoError as error:
            error.at(self._reader.uri)
            raise


def truncated(length: int, stored_bytes: int) -> IntegrityError:
    """The error for an object that is not as long as it was stored; what is too much was not read."""
    least = "at least " if length > stored_bytes else ""
    return IntegrityError(
        f"The object has {least}{length} bytes, {stored_bytes} were stored",
        hint="It was cut short or replaced; run the task that pushed it again.",
    )
