"""What a pipeline reports of its work to metrics and traces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from xcargo.errors import ErrorKind, XCargoError
from xcargo.model.envelope import is_envelope

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
    """Why it failed: an `ErrorKind`, or ``other``. A purge never raises, but reports it here."""


Observer = Callable[[Event], object]
"""Receives each event after it, on the thread that did the work. What it raises is logged and dropped."""


def event_of(
    kind: Kind, seconds: float, row: Any, *, plain_bytes: float = 0, error: BaseException | None = None
) -> Event:
    """The event of a row that was pushed, pulled or purged, or was to be.

    Args:
        kind: What was done.
        seconds: How long it took.
        row: The envelope, or a plain value.
        plain_bytes: Length of a plain value's JSON, if it was measured.
        error: Why it failed.
    """
    if error is None:
        reason = None
    elif isinstance(error, XCargoError):
        reason = str(error.kind)
    else:
        reason = str(ErrorKind.STORE_UNAVAILABLE if isinstance(error, TimeoutError) else ErrorKind.OTHER)
    if not is_envelope(row):
        return Event(kind, seconds, size_bytes=int(plain_bytes), error=reason)
    sizes = (row.get(name) for name in ("size_bytes", "stored_bytes"))
    size_bytes, stored_bytes = (size if type(size) is int else 0 for size in sizes)
    return Event(kind, seconds, "uri" in row, size_bytes, stored_bytes, str(row.get("codec")), reason)
