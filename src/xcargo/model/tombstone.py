"""Tombstone: what replaces an object whose value expired by a retention rule.

It takes the object's own key, so that one put both frees the bytes and lets a pull say, without another request, that
the value expired and did not get lost. It goes when its row goes: then it is an orphan like any other.
"""

from __future__ import annotations

import json
from datetime import datetime

from xcargo.errors import ObjectExpiredError

__all__ = ["TOMBSTONE_BYTES", "expired", "tombstone"]

_MARK = b'{"__id__":"xcargo/expired"'
TOMBSTONE_BYTES = 512
"""Length of a tombstone, or one less."""


def tombstone(rule: str, at: datetime, stored_bytes: int) -> bytes:
    """What replaces an object of ``stored_bytes`` bytes, whose length it never has."""
    note = {"__id__": "xcargo/expired", "at": at.isoformat(timespec="seconds"), "rule": _clipped(rule)}
    text = json.dumps(note, separators=(",", ":")).encode()
    return text.ljust(TOMBSTONE_BYTES - (stored_bytes == TOMBSTONE_BYTES))


def _clipped(rule: str) -> str:
    return "".join(c if c.isascii() and c.isprintable() and c not in '"\\\\' else "?" for c in rule[:300])


def expired(start: bytes) -> ObjectExpiredError | None:
    """The error to raise for an object that begins like this, if it is a tombstone."""
    if not start.startswith(_MARK):
        return None
    try:
        note = json.loads(start)
    except ValueError:  # a part of one
        note = {}
    return ObjectExpiredError(
        f"The value expired at {note.get('at', 'some time')}, by the retention rule {note.get('rule', '')!r}",
        hint="Run the task that pushed it again, or keep such values for longer: [xcargo] retention.",
    )
