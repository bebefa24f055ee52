"""An envelope -> the source of its payload, verified as it is read."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator

from blake3 import blake3

from xcargo.codecs.source import BytesSource, DeferredSource, Source
from xcargo.errors import DecodeError, EnvelopeError, IntegrityError, XCargoError
from xcargo.model.envelope import Envelope
from xcargo.model.settings import Settings
from xcargo.model.tombstone import TOMBSTONE_BYTES, expired
from xcargo.transfer.cache import MIN_BYTES, CachedSource, NodeCache
from xcargo.transfer.chunks import ChunkDecoder, ChunkTable, checksum_mismatch
from xcargo.transfer.compression import decompress
from xcargo.transfer.encryption import TAG_BYTES, ChunkContext, Cipher
from xcargo.transfer.object_source import ObjectSource, truncated
from xcargo.transfer.roots import RenewingStore, RootResolver
from xcargo.types import Buffer

__all__ = ["ObjectReader"]


class ObjectReader:
    """Reads the payloads of envelopes, verified as they are read."""

    def __init__(self, settings: Settings, roots: RootResolver) -> None:
        self._keys = settings.encryption_keys
        self._roots = roots
        self._cache = NodeCache(settings.cache_path, settings.cache_size_bytes) if settings.cache_path else None

    def source(self, envelope: Envelope) -> Source:
        """Where the payload is read from: the row, the node's cache, or the object. No request until it is read."""
        source = self._source(envelope)
        if self._cache is None or not envelope.uri or not MIN_BYTES <= source.size_bytes <= self._cache.size_bytes:
            return source
        if envelope.encryption:  # whose payload is not for the disk of a node
            return source
        # The URI is part of the name, so that no row gets from the cache what its task may not read from the store.
        identity = f"{envelope.uri} {envelope.checksum} {envelope.compression} {envelope.size_bytes}"
        return CachedSource(source, self._cache, f"payload:{blake3(identity.encode()).hexdigest()}")

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
            except binascii.Error as error:
                raise DecodeError(f"The row's data is not base64: {error}") from error
            return BytesSource(decompress(envelope.compression, stored, envelope.size_bytes))
        root, key = self._roots.resolve(envelope.uri)
        store = self._roots.store(root)
        cipher = None
        if envelope.encryption:
            cipher = Cipher.from_json(envelope.encryption, self._keys, object_key=key, codec=envelope.codec)
        if not envelope.chunks:
            return DeferredSource(envelope.size_bytes, lambda: _payload(store, key, envelope, cipher))
        table = ChunkTable.from_json(
            envelope.chunks,
            checksum=envelope.checksum or "",
            size_bytes=envelope.size_bytes,
            stored_bytes=envelope.stored_bytes,
            tag_bytes=TAG_BYTES if cipher else 0,
        )
        decoder = ChunkDecoder(table, envelope.compression, cipher)
        return ObjectSource(StoredObject(store, envelope.uri, key), decoder, limits=self._roots.limits)


class StoredObject:
    """One object below a configured root, read by ranges: the `RangeReader` of an `ObjectSource`."""

    def __init__(self, store: RenewingStore, uri: str, key: str) -> None:
        self._store = store
        self._key = key
        self.uri = uri

    def get(self, start: int, end: int) -> Buffer:
        return self._store.get(self._key, start=start, end=end)

    def get_into(self, start: int, view: memoryview) -> int:
        return self._store.get_into(self._key, view, start=start)

    def explain(self, error: IntegrityError) -> XCargoError:
        return _expiry_or(error, self._store, self._key)


def _payload(store: RenewingStore, key: str, envelope: Envelope, cipher: Cipher | None) -> Buffer:
    """The payload of an object of one chunk. One request."""
    try:
        stored = store.get(key)
        _verify(stored, envelope)
        if cipher is not None:
            stored = cipher.decrypt(stored, ChunkContext(0, True, envelope.size_bytes, envelope.compression))
        return decompress(envelope.compression, stored, envelope.size_bytes)
    except IntegrityError as error:
        raise _expiry_or(error, store, key).at(envelope.uri) from None
    except XCargoError as error:
        error.at(envelope.uri)
        raise


def _expiry_or(error: IntegrityError, store: RenewingStore, key: str) -> XCargoError:
    """The error for an object that expired, if that is why its bytes do not match. One request."""
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
        raise EnvelopeError(f"The envelope has an unknown kind of checksum, {algorithm!r}")
    if blake3(stored).hexdigest() != expected:
        raise checksum_mismatch()
