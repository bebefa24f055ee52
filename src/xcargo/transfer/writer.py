"""An encoded value -> what is stored of it, in the row or as an object -> its envelope."""

from __future__ import annotations

import base64
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timezone
from functools import partial
from itertools import chain, islice
from typing import Any

from blake3 import blake3

from xcargo.codecs.base import Encoded, contiguous
from xcargo.errors import ConfigurationError
from xcargo.model.coordinate import MAX_OBJECT_KEY_BYTES, Coordinate
from xcargo.model.envelope import Envelope
from xcargo.model.root import Root
from xcargo.model.settings import Settings
from xcargo.stores.base import Limits
from xcargo.transfer import encryption
from xcargo.transfer.chunks import ChunkEncoder, split_chunks
from xcargo.transfer.compression import SUFFIXES, canonical, compress_if_smaller, is_compressible
from xcargo.transfer.encryption import ChunkContext, Cipher
from xcargo.transfer.preview import preview, shown_params, type_name
from xcargo.transfer.progress import Progress
from xcargo.transfer.roots import Places
from xcargo.transfer.size_limits import too_large
from xcargo.types import Buffer

__all__ = ["Offload", "payload_suffix"]

log = logging.getLogger(__name__)

_UNIQUE_CHARS = 16
"""What makes an object key unique, behind the last ~ in it."""


class Offload:
    """Stores payloads. ``describe`` may change a preview before it is written."""

    def __init__(self, settings: Settings, places: Places, limits: Limits, describe: Callable[[str], str]) -> None:
        self._places = places
        self._limits = limits
        self._describe = describe
        self._compressions = {variant.compression: canonical(variant.compression) for variant in settings.variants}
        if any(variant.encryption_key for variant in settings.variants):
            encryption.require()

    def inline(self, value: Any, encoded: Encoded, settings: Settings) -> Envelope:
        """The envelope that holds the payload itself. No request."""
        payload = contiguous(encoded)
        compression, stored = self._compressed(payload, settings)
        data = base64.b64encode(stored).decode()
        return self._envelope(value, encoded, settings, compression, len(payload), len(stored), data=data)

    def store(self, value: Any, encoded: Encoded, coordinate: Coordinate, settings: Settings) -> Envelope:
        """The envelope of a payload that was put as an object, under a fresh key. One request, or parallel parts."""
        root = settings.root
        if root is None:
            raise ConfigurationError(
                f"{encoded.size_bytes or 'Many'} bytes belong into object storage, but {settings.no_root_reason}",
                hint="Set AIRFLOW__XCARGO__PATH (or path in section [xcargo]) on every component, for example to "
                "s3://my_aws_conn@my-bucket/xcom.",
            )
        started = time.perf_counter()
        begun = split_chunks(encoded.parts)
        first = list(islice(begun, 2))
        chunks: Iterable[Buffer]
        ahead: Iterable[Buffer]
        if isinstance(encoded.parts, Sequence):
            chunks = ahead = _Cut(encoded.parts)
        else:
            chunks, ahead = chain(first, begun), first
        wanted = self._compressions[settings.compression]
        if len(first) < 2:
            payload = first[0] if first else b""
            compression, stored = self._compressed(payload, settings)
            key = _object_key(root, coordinate, encoded, compression, settings)
            cipher = _cipher(settings, key, encoded)
            if cipher is not None:
                stored = cipher.encrypt(stored, ChunkContext(0, True, len(payload), compression))
            self._put(root, key, [stored], len(stored))
            size_bytes, stored_bytes = len(payload), len(stored)
            checksum, chunk_table = f"blake3:{blake3(stored).hexdigest()}", {}
        else:
            compression = wanted if any(is_compressible(wanted, chunk) for chunk in ahead) else "none"
            key = _object_key(root, coordinate, encoded, compression, settings)
            expected = encoded.size_bytes or encoded.expected_bytes
            progress = Progress(f"stores XCom {coordinate.key!r}", expected)
            chunks = chunks if encoded.size_bytes is not None else _limited(chunks, settings)
            encoder = ChunkEncoder(
                chunks,
                compression,
                on_progress=progress.advance,
                new_cipher=partial(_cipher, settings, key, encoded),
            )
            self._put(root, key, encoder, expected)
            table, cipher = encoder.table, encoder.cipher
            compression = compression if table.compressed else "none"
            size_bytes, stored_bytes = table.starts[-1], table.offsets[-1]
            checksum, chunk_table = table.checksum(), table.to_json()
        envelope = self._envelope(
            value,
            encoded,
            settings,
            compression,
            size_bytes,
            stored_bytes,
            uri=root.uri(key),
            checksum=checksum,
            chunks=chunk_table,
            encryption=cipher.to_json() if cipher is not None else {},
        )
        log.info(
            "xcargo stored XCom %r (%s, %d bytes) as %d bytes (%.1f times smaller) in %s, %.3f s",
            coordinate.key,
            envelope.type,
            envelope.size_bytes,
            envelope.stored_bytes,
            envelope.size_bytes / max(1, envelope.stored_bytes),
            envelope.uri,
            time.perf_counter() - started,
        )
        return envelope

    def _put(self, root: Root, key: str, parts: Iterable[Buffer], expected_bytes: int | None) -> None:
        self._places.work(root, self._limits, lambda store: store.put(key, parts, expected_bytes=expected_bytes))

    def _compressed(self, payload: Buffer, settings: Settings) -> tuple[str, Buffer]:
        """Name of the compression that was worth it, and what to store."""
        compression = self._compressions[settings.compression]
        shorter = compress_if_smaller(compression, payload)
        return ("none", payload) if shorter is None else (compression, shorter)

    def _envelope(
        self,
        value: Any,
        encoded: Encoded,
        settings: Settings,
        compression: str,
        size_bytes: int,
        stored_bytes: int,
        **place: Any,
    ) -> Envelope:
        shown = preview(value, settings.preview_chars)
        return Envelope(
            type=type_name(value),
            codec=encoded.codec,
            size_bytes=size_bytes,
            stored_bytes=stored_bytes,
            compression=compression,
            params=shown_params(encoded.codec, encoded.params, settings.preview_chars, self._describe),
            preview=None if shown is None else self._describe(shown),
            created_at=datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            **place,
        )


class _Cut:
    """The chunks of a payload, cut anew each time: none is held, and one that is a copy is made when it is wanted."""

    def __init__(self, parts: Iterable[Buffer]) -> None:
        self._parts = parts

    def __iter__(self) -> Iterator[Buffer]:
        return split_chunks(self._parts)


def payload_suffix(envelope: Envelope) -> str:
    """How the key of an object ends for its payload's sake, without what compression and encryption add."""
    _, found, end = (envelope.uri or "").rpartition("~")
    suffix = end[_UNIQUE_CHARS:] if found else ""
    for ending in (encryption.SUFFIX, SUFFIXES.get(envelope.compression, "")):
        suffix = suffix.removesuffix(ending)
    return suffix


def _object_key(root: Root, coordinate: Coordinate, encoded: Encoded, compression: str, settings: Settings) -> str:
    """A key that was never used. Raises ConfigurationError if it would be longer than every store takes."""
    suffix = encoded.suffix + SUFFIXES[compression] + (encryption.SUFFIX if settings.encryption_key else "")
    key = coordinate.object_key(suffix=suffix)
    if len(root.prefix) + 1 + len(key) > MAX_OBJECT_KEY_BYTES:
        raise ConfigurationError(
            f"The object key would be longer than {MAX_OBJECT_KEY_BYTES} bytes", hint="Shorten [xcargo] path."
        )
    return key


def _cipher(settings: Settings, key: str, encoded: Encoded) -> Cipher | None:
    """What encrypts the object of this key, once."""
    return Cipher.new(settings.encryption_key, object_key=key, codec=encoded.codec) if settings.encryption_key else None


def _limited(chunks: Iterable[Buffer], settings: Settings) -> Iterable[Buffer]:
    """The chunks of a payload whose size only its end tells, or SizeLimitError as soon as there are too many."""
    size_bytes, warned = 0, not settings.warn_size_bytes
    for chunk in chunks:
        size_bytes += len(chunk)
        if size_bytes > (settings.max_size_bytes or math.inf):
            raise too_large(size_bytes, settings)
        if not warned and size_bytes > settings.warn_size_bytes:
            warned = True
            log.warning("xcargo stores a value of more bytes than warn_size_bytes (%d)", settings.warn_size_bytes)
        yield chunk
