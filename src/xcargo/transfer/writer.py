"""An encoded value -> what is stored of it, in the row or as an object -> its envelope."""

from __future__ import annotations

import base64
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from xcargo.codecs.base import Encoded, Handle, contiguous
from xcargo.errors import ConfigurationError, ObjectNotFoundError, StoreError
from xcargo.model.coordinate import MAX_OBJECT_KEY_BYTES, Coordinate
from xcargo.model.envelope import Envelope, upgrade_hint
from xcargo.model.root import Root
from xcargo.model.settings import Settings
from xcargo.model.version import __version__
from xcargo.transfer.chunks import ChunkEncoder, split_chunks
from xcargo.transfer.compression import SUFFIXES, canonical, compress_if_smaller, is_compressible
from xcargo.transfer.description import preview, shown_params, too_large, type_name
from xcargo.transfer.reporting import Progress, format_stored
from xcargo.transfer.roots import RootResolver
from xcargo.types import Buffer

if TYPE_CHECKING:
    from xcargo.transfer.encryption import Cipher

__all__ = ["ObjectWriter", "described_as", "payload_suffix"]

log = logging.getLogger(__name__)

_ENCRYPTED = ".enc"
"""How the keys of encrypted objects end."""

_LARGE_BYTES = 16 * 1024 * 1024
"""Of one buffer, from which on chunks that are only hashed are four times as large: a fifth less CPU time."""

_UNIQUE_CHARS = 16
"""What makes an object key unique, behind the last ~ in it."""


class ObjectWriter:
    """Stores payloads and describes them in envelopes. ``mask`` hides secrets in what an envelope shows of a value."""

    def __init__(self, settings: Settings, roots: RootResolver, *, mask: Callable[[str], str]) -> None:
        self._roots = roots
        self._mask = mask
        self._streamed: set[Root] = set()
        self._compressions = {variant.compression: canonical(variant.compression) for variant in settings.variants}
        if any(variant.encryption_key for variant in settings.variants):
            from xcargo.transfer.encryption import require

            require()

    def inline(self, value: Any, encoded: Encoded, settings: Settings) -> Envelope:
        """The envelope that holds the payload itself. No request."""
        payload = contiguous(encoded)
        compression = self._compressions[settings.compression]
        shorter = compress_if_smaller(compression, payload)
        stored = payload if shorter is None else shorter
        return Envelope(
            size_bytes=len(payload),
            stored_bytes=len(stored),
            compression="none" if shorter is None else compression,
            data=base64.b64encode(stored).decode(),
            **self._description(value, encoded, settings),
        )

    def store(self, value: Any, encoded: Encoded, coordinate: Coordinate, settings: Settings) -> Envelope:
        """The envelope of a payload that was put as an object, under a new key. One request, or parallel parts.

        What is below the same root already, and encrypted with the same key, is copied there: two requests.
        """
        started = time.perf_counter()
        copied = self._copy(encoded, coordinate, settings)
        stored = copied or self._put(encoded, coordinate, settings)
        envelope = Envelope(**stored, **self._description(value, encoded, settings))
        log.info(
            "xcargo %s %s %r: %s, %s in %s, %.3f s",
            "copied" if copied else "stored",
            coordinate.kind,
            coordinate.key,
            envelope.type,
            format_stored(envelope.size_bytes, envelope.stored_bytes),
            envelope.uri,
            time.perf_counter() - started,
        )
        return envelope

    def _put(self, encoded: Encoded, coordinate: Coordinate, settings: Settings) -> dict[str, Any]:
        """What an envelope says of the new object."""
        root = _root(settings, encoded)
        body = self._body(encoded, coordinate, settings)
        key = _object_key(root, coordinate, encoded, body.compression, settings)
        parts = body.parts(lambda: _cipher(settings, key, encoded))
        self._roots.store(root).put(key, parts, expected_bytes=body.expected_bytes)
        return {"uri": root.uri(key), **body.stored()}

    def _copy(self, encoded: Encoded, coordinate: Coordinate, settings: Settings) -> dict[str, Any] | None:
        """The same of a copy that the store itself made; None where the payload has to be put, which verifies it.

        Raises ObjectNotFoundError if the object is gone.
        """
        original = _original(encoded)
        if original is None or original.codec != encoded.codec:
            return None
        root, source = self._roots.resolve(original.uri or "")
        if root != settings.root or original.encryption.get("key") != getattr(settings.encryption_key, "name", None):
            return None
        key = _object_key(root, coordinate, encoded, original.compression, settings)
        from xcargo.transfer.encryption import encryption_of_copy

        encryption = encryption_of_copy(original.encryption, source, key)
        if encryption is None:
            return None
        store = self._roots.store(root)
        try:
            store.copy(source, key)
        except ObjectNotFoundError:
            raise
        except (ConfigurationError, StoreError) as error:
            if root not in self._streamed:
                self._streamed.add(root)
                log.info("xcargo streams what %s does not copy by itself: %s", root, error.what)
            return None
        if store.head(key).size_bytes != original.stored_bytes:
            # The original is damaged or has expired, which reading it shows; or Azure, which may, still copies.
            with suppress(StoreError):
                store.delete([key])
            return None
        names = ("size_bytes", "stored_bytes", "compression", "checksum", "chunks")
        return {"uri": root.uri(key), "encryption": encryption, **{name: getattr(original, name) for name in names}}

    def _body(self, encoded: Encoded, coordinate: Coordinate, settings: Settings) -> _OneChunk | _ManyChunks:
        compression, parts = self._compressions[settings.compression], encoded.parts
        rest = split_chunks(parts)
        if encoded.size_bytes is None:
            rest = _limited(rest, settings)
        first = list(islice(rest, 2))
        if len(first) < 2:
            return _OneChunk(first[0] if first else b"", compression)
        chunks: Iterable[Buffer]
        sample: Iterable[Buffer]
        if isinstance(parts, Sequence):
            chunks = sample = _Chunks(parts)
        else:
            chunks, sample = chain(first, rest), first
        whole = (chunk for chunk in sample if len(chunk) >= len(first[0]))  # a short last one says nothing
        if not any(is_compressible(compression, chunk) for chunk in whole):
            compression = "none"
            if isinstance(parts, Sequence) and len(parts) == 1 and len(parts[0]) >= _LARGE_BYTES:
                chunks = _Chunks(parts, 4)
        expected = encoded.size_bytes or encoded.expected_bytes
        progress = Progress(f"stores {coordinate.kind} {coordinate.key!r}", expected)
        return _ManyChunks(chunks, compression, expected_bytes=expected, progress=progress)

    def _description(self, value: Any, encoded: Encoded, settings: Settings) -> dict[str, Any]:
        """What an envelope says of the value itself."""
        original = _original(encoded) if isinstance(value, Handle) else None
        return {
            "type": type_name(value),
            "codec": encoded.codec,
            "params": shown_params(encoded.codec, encoded.params, settings.preview_chars, self._mask),
            "preview": None if original else preview(value, settings.preview_chars, self._mask),
            "created_at": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            "created_by": f"xcargo {__version__}",
            **(described_as(original, settings) if original else {}),
            "reused": getattr(value, "origin", {}) if isinstance(value, Handle) else {},
        }


class _OneChunk:
    """The body of an object whose payload is one chunk: compressed and checksummed as a whole."""

    def __init__(self, payload: Buffer, compression: str) -> None:
        shorter = compress_if_smaller(compression, payload)
        self.compression = "none" if shorter is None else compression
        self.expected_bytes: int | None = None
        self._size_bytes = len(payload)
        self._bytes = payload if shorter is None else shorter
        self._cipher: Cipher | None = None

    def parts(self, new_cipher: Callable[[], Cipher | None]) -> Iterable[Buffer]:
        self._cipher = new_cipher()
        if self._cipher is not None:
            context = self._cipher.context(0, True, self._size_bytes, self.compression)
            self._bytes = self._cipher.encrypt(self._bytes, context)
        self.expected_bytes = len(self._bytes)
        return [self._bytes]

    def stored(self) -> dict[str, Any]:
        """What an envelope says of the stored bytes."""
        return {
            "size_bytes": self._size_bytes,
            "stored_bytes": len(self._bytes),
            "compression": self.compression,
            "checksum": f"blake3:{blake3(self._bytes).hexdigest()}",
            "encryption": self._cipher.to_json() if self._cipher is not None else {},
        }


class _ManyChunks:
    """The body of an object of several chunks, which are compressed and checksummed one by one as they are sent."""

    _encoder: ChunkEncoder

    def __init__(
        self, chunks: Iterable[Buffer], compression: str, *, expected_bytes: int | None, progress: Progress
    ) -> None:
        self.compression = compression
        self.expected_bytes = expected_bytes
        self._chunks = chunks
        self._progress = progress

    def parts(self, new_cipher: Callable[[], Cipher | None]) -> Iterable[Buffer]:
        on_progress = self._progress.advance
        self._encoder = ChunkEncoder(self._chunks, self.compression, on_progress=on_progress, new_cipher=new_cipher)
        return self._encoder

    def stored(self) -> dict[str, Any]:
        """What an envelope says of the stored bytes, once they were taken."""
        table, cipher = self._encoder.table, self._encoder.cipher
        return {
            "size_bytes": table.starts[-1],
            "stored_bytes": table.offsets[-1],
            "compression": self.compression if table.compressed else "none",
            "checksum": table.checksum(),
            "chunks": table.to_json(),
            "encryption": cipher.to_json() if cipher is not None else {},
        }


class _Chunks:
    """The chunks of a payload in memory, split again by each iteration: a chunk that is a copy is held by nobody."""

    def __init__(self, parts: Sequence[Buffer], times: int = 1) -> None:
        self._parts = parts
        self._times = times

    def __iter__(self) -> Iterator[Buffer]:
        return split_chunks(self._parts, self._times)


def described_as(original: Envelope, settings: Settings) -> dict[str, Any]:
    """What an envelope says of a value that nobody decoded, since it was stored before."""
    described = {"type": original.type, "preview": (original.preview or "")[: settings.preview_chars] or None}
    if upgrade_hint(original.created_by):  # it encoded the payload
        described["created_by"] = original.created_by
    return described


def _original(encoded: Encoded) -> Envelope | None:
    """The envelope of the object in which all of the payload is stored already, if it is."""
    return getattr(encoded.stored, "envelope", None)


def payload_suffix(envelope: Envelope) -> str:
    """The suffix of an object's key that its codec chose, without those of compression and encryption."""
    _, tilde, end = (envelope.uri or "").rpartition("~")
    suffix = end[_UNIQUE_CHARS:] if tilde else ""
    for ending in (_ENCRYPTED, SUFFIXES.get(envelope.compression, "")):
        suffix = suffix.removesuffix(ending)
    return suffix


def _root(settings: Settings, encoded: Encoded) -> Root:
    if settings.root is None:
        raise ConfigurationError(
            f"{encoded.size_bytes or 'Many'} bytes go to object storage, but {settings.no_root_reason}",
            hint="Set AIRFLOW__XCARGO__PATH (or path in section [xcargo]) on every component, for example to "
            "s3://my_aws_conn@my-bucket/xcom.",
        )
    return settings.root


def _object_key(root: Root, coordinate: Coordinate, encoded: Encoded, compression: str, settings: Settings) -> str:
    """A key that was never used. Raises ConfigurationError if it would be longer than every store takes."""
    # A copy may be compressed in a way that only a newer release knows.
    suffix = encoded.suffix + SUFFIXES.get(compression, "") + (_ENCRYPTED if settings.encryption_key else "")
    key = coordinate.object_key(suffix=suffix)
    if len(root.prefix) + 1 + len(key) > MAX_OBJECT_KEY_BYTES:
        raise ConfigurationError(
            f"The object key would be longer than {MAX_OBJECT_KEY_BYTES} bytes", hint="Shorten [xcargo] path."
        )
    return key


def _cipher(settings: Settings, key: str, encoded: Encoded) -> Cipher | None:
    """What encrypts the object of this key, once."""
    if settings.encryption_key is None:
        return None
    from xcargo.transfer.encryption import Cipher

    return Cipher.new(settings.encryption_key, object_key=key, codec=encoded.codec)


def _limited(chunks: Iterable[Buffer], settings: Settings) -> Iterator[Buffer]:
    """The chunks of a payload of unknown size. Raises SizeLimitError as soon as there are too many."""
    size_bytes, warned = 0, not settings.warn_size_bytes
    for chunk in chunks:
        size_bytes += len(chunk)
        if size_bytes > (settings.max_size_bytes or math.inf):
            raise too_large(size_bytes, settings)
        if not warned and size_bytes > settings.warn_size_bytes:
            warned = True
            log.warning("xcargo stores a value of more bytes than warn_size_bytes (%d)", settings.warn_size_bytes)
        yield chunk
