"""Values on their way from a codec to a preview, over a file that counts what is read of it."""

from __future__ import annotations

import io
from typing import Any

from xcargo.codecs.base import contiguous
from xcargo.codecs.registry import Registry
from xcargo.codecs.source import BytesSource
from xcargo.explorer.limits import BlockCache, Budget, Payload
from xcargo.explorer.value import StoredValue
from xcargo.model.envelope import Envelope

REGISTRY = Registry()


class CountedFile(io.BytesIO):
    """A payload that knows how many bytes were read of it."""

    taken = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.taken += len(data)
        return data


def stored(
    value: Any, *, max_bytes: int = 64 << 20, seconds: float = 60, registry: Registry = REGISTRY
) -> tuple[StoredValue, CountedFile]:
    """The value as a page sees it, and the file that it reads from."""
    encoded = registry.encode(value)
    payload = bytes(contiguous(encoded))
    file = CountedFile(payload)
    envelope = Envelope(
        type=type(value).__name__,
        codec=encoded.codec,
        size_bytes=len(payload),
        stored_bytes=len(payload),
        params=dict(encoded.params),
        uri="file:///x/y",
        checksum="blake3:0",
    )
    budget = Budget(max_bytes=max_bytes, seconds=seconds)
    opener: Any = lambda: file  # noqa: E731 - a CountedFile stands for the buffered reader
    return StoredValue.from_envelope(envelope, opener, cache=BlockCache(64 << 20), budget=budget), file


def preview(value: Any, **options: Any) -> StoredValue:
    """The value as a page sees it."""
    return stored(value, **options)[0]


def bytes_payload(data: bytes | bytearray, *, max_bytes: int = 64 << 20, name: str = "") -> Payload:
    """These bytes as a payload."""
    return Payload(BytesSource(data), name, cache=BlockCache(1 << 20), budget=Budget(max_bytes=max_bytes, seconds=20))
