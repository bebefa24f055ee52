"""Values on their way from a codec to a look, over a source that counts what is read of it."""

from __future__ import annotations

import io
from typing import Any

from xcargo.codecs.base import contiguous
from xcargo.codecs.registry import Registry
from xcargo.explorer.bounds import Budget
from xcargo.explorer.value import Shelf, Value
from xcargo.model.envelope import Envelope

REGISTRY = Registry()


class Counted(io.BytesIO):
    """A payload that knows how many bytes were read of it."""

    taken = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.taken += len(data)
        return data


def look(
    value: Any, *, max_bytes: int = 64 << 20, seconds: float = 60, registry: Registry = REGISTRY, shelf: Any = None
) -> tuple[Value, Counted]:
    """The value as a page sees it, and what it reads from. Nothing is kept for a second look without a shelf."""
    encoded = registry.encode(value)
    payload = bytes(contiguous(encoded))
    file = Counted(payload)
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
    opened: Any = lambda: file  # noqa: E731 - a Counted stands for the buffered reader
    return Value.of(envelope, opened, shelf or Shelf(64 << 20), budget), file
