"""An envelope -> the source of its payload, verified as it is read."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator

from blake3 import blake3

from xcargo.codecs.source import BytesSource, DeferredSource, Source
from xcargo.errors import DecodeError, EnvelopeError, IntegrityError, XCargoError
from xcargo.model.envelope import Envelope
from xcargo.model.root import Root
from xcargo.model.settings import Settings
from xcargo.model.tombstone import TOMBSTONE_BYTES, expired
from xcargo.stores.base import Limits, get_into
from xcargo.transfer.cache import MIN_BYTES, CachedSource, NodeCache
from xcargo.transfer.chunks import ChunkDecoder, ChunkTable, checksum_mismatch
from xcargo.transfer.compression import decompress
from xcargo.transfer.encryption import TAG_BYTES, ChunkContext, Cipher
from xcargo.transfer.object_source import ObjectSource, truncated
from xcargo.transfer.roots import Places
from xcargo.types import Buffer

__all__ = ["Fetch"]


class Fetch:
    """Reads payloads."""

    def __init__(self, settings: Settings, places: Places, limits: Limits) -> None:
        self._keys = settings.encryption_keys
        self._places = places
        self._limits = limits
        self._cache = NodeCache(settings.cache_path, settings.cache_size_bytes) if settings.cache_path else None

    def source(self, envelope: Envelope) -> Source:
        """Where the payload is read from: the row, the node's cache, or the object. No request until it is read."""
        found = self._source(envelope)
        if self._cache is None or not envelope.uri or not MIN_BYTES <= found.size_bytes <= self._cache.size_bytes:
            return found
        if envelope.encryption:  # whose payload is not for the disk of a node
            return found
        # The name tells the place too, so that no row gets from here what it would not get from there.
        told = f"{envelope.uri} {envelope.checksum} {envelope.compression} {envelope.size_bytes}"
        return CachedSource(found, self._cache, f"payload:{blake3(told.encode()).hexdigest()}")

    def verify(self, envelope: Envelope) -> None:
        """Read a payload back from where it is stored, past the node's cache, and hold it against the envelope.

        Memory holds a bounded part of a large one. Raises what a pull would raise.
        """
        read = sum(len(piece) for piece in self._source(envelope).iter_chunks())
        if read != envelope.size_bytes:
            raise truncated(read, envelope.size_bytes)

    def hashed(self, envelope: Envelope) -> tuple[Callable[[], bytes], Iterator[Buffer]]:
        """A payload from where it is stored, piece by piece and once, and what gives its hash when it was read."""
        digest = blake3()

        def pieces() -> Iterator[Buffer]:
            for piece in self._source(envelope).iter_chunks():
                digest.update(piece)
                yield piece

        return digest.digest, pieces()

    def _source(self, envelope: Envelope) -> Source:
        if envelope.uri is None:
            try:
                stored: Buffer = base64.b64decode(envelope.data or "", validate=True)
            except binascii.Error as error:
                raise DecodeError(f"The row's data is not base64: {error}") from error
            return BytesSource(decompress(envelope.compression, stored, envelope.size_bytes))
        root, key = self._places.of(envelope.uri)
        reader = StoredObject(self._places, root, key, limits=self._limits)
        cipher = None
        if envelope.encryption:
            cipher = Cipher.from_json(envelope.encryption, self._keys, object_key=key, codec=envelope.codec)
        if envelope.chunks:
            table = ChunkTable.from_json(
                envelope.chunks,
                checksum=envelope.checksum or "",
                size_bytes=envelope.size_bytes,
                stored_bytes=envelope.stored_bytes,
                tag_bytes=TAG_BYTES if cipher else 0,
            )
            return ObjectSource(reader, ChunkDecoder(table, envelope.compression, cipher), limits=self._limits)

        def load() -> Buffer:
            try:
                stored = reader.get()
                _verify(stored, envelope)
                if cipher is not None:
                    stored = cipher.decrypt(stored, ChunkContext(0, True, envelope.size_bytes, envelope.compression))
                return decompress(envelope.compression, stored, envelope.size_bytes)
            except IntegrityError as error:
                raise reader.explain(error).at(envelope.uri) from None
            except XCargoError as error:
                error.at(envelope.uri)
                raise

        return DeferredSource(envelope.size_bytes, load)


class StoredObject:
    """One object below a configured root, read by ranges: the :class:`RangeReader` of an :class:`ObjectSource`."""

    def __init__(self, places: Places, root: Root, key: str, *, limits: Limits) -> None:
        self._places = places
        self._root = root
        self._key = key
        self._limits = limits

    @property
    def uri(self) -> str:
        return self._root.uri(self._key)

    def get(self, start: int = 0, end: int | None = None) -> Buffer:
        return self._places.work(self._root, self._limits, lambda store: store.get(self._key, start=start, end=end))

    def get_into(self, start: int, view: memoryview) -> int:
        return self._places.work(self._root, self._limits, lambda store: get_into(store, self._key, view, start=start))

    def explain(self, error: IntegrityError) -> XCargoError:
        """The error for an object that expired, if that is why its bytes do not match. One request."""
        try:
            return expired(bytes(self.get(end=TOMBSTONE_BYTES))) or error
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
