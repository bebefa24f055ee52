"""What a pipeline tells of its work to whoever counts it: metrics, spans."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from xcargo.errors import ErrorKind, XCargoError
from xcargo.model.envelope import is_envelope, plain_bytes

__all__ = ["Event", "Kind", "Observer", "event_of"]

Kind = Literal["push", "pull", "purge"]


@dataclass(frozen=True)
class Event:
    """One push, pull or purge, done or failed. It holds no value and nothing of one."""

    kind: Kind
    seconds: float
    offloaded: bool = False
    """Whether the row refers to an object. Of a push that failed there is no row."""
    size_bytes: int = 0
    """Of the payload; of a value that stands in its row as it is, of its compact JSON."""
    stored_bytes: int = 0
    codec: str | None = None
    """None for a value that stands in its row as it is."""
    error: str | None = None
    """Why it failed: an :class:`~xcargo.errors.ErrorKind`, or ``other``. A purge never raises, but tells it here."""


Observer = Callable[[Event], object]
"""Is told each event after it, on the thread that did the work. What it raises is logged and dropped."""


def event_of(kind: Kind, seconds: float, row: Any, error: BaseException | None) -> Event:
    """The event of a row that was pushed, pulled or purged, or was to be."""
    if error is None:
        failed = None
    elif isinstance(error, XCargoError):
        failed = str(error.kind)
    else:
        failed = str(ErrorKind.STORE_UNAVAILABLE) if isinstance(error, TimeoutError) else "other"
    if not is_envelope(row):
        size = plain_bytes(row, math.inf) if kind == "push" and error is None else 0
        return Event(kind, seconds, size_bytes=int(size or 0), error=failed)
    sizes = (row.get(name) for name in ("size_bytes", "stored_bytes"))
    size_bytes, stored_bytes = (size if type(size) is int else 0 for size in sizes)
    return Event(kind, seconds, "uri" in row, size_bytes, stored_bytes, str(row.get("codec")), failed)
