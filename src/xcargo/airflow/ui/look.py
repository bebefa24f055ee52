"""From a row to a value that can be looked into, within the bounds of this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from xcargo.airflow import compat, runtime
from xcargo.airflow.ui.rows import KEEPS_ATTEMPTS, Found
from xcargo.coordinate import Coordinate
from xcargo.envelope import Envelope, is_envelope
from xcargo.explore.bounds import Budget, Gate
from xcargo.explore.value import Shelf, Value
from xcargo.keyorder import restored
from xcargo.preview import preview

__all__ = ["budget", "envelope_of", "looking", "opened", "signed_url", "told"]

_LOOKS = 4
"""Values that are read at once in this process."""

_SECONDS = 15.0
_SIGNED_SECONDS = 60.0
_SHELF_BYTES = 64 * 1024 * 1024

_gate = Gate(_LOOKS, patience_seconds=20)
_shelf = Shelf(_SHELF_BYTES)


def budget(seconds: float = _SECONDS) -> Budget:
    """What one request may take."""
    return Budget(max_bytes=runtime.settings().max_preview_bytes, seconds=seconds)


@contextmanager
def looking() -> Iterator[None]:
    """While a value is read: no more than a few at once, so that memory stays bounded whoever asks."""
    with _gate.entered():
        yield


def opened(found: Found, limits: Budget) -> Value:
    """The value behind a row. No request yet."""
    place, row = found.place, found.value
    if not is_envelope(row):
        where = Coordinate(place.dag_id, place.run_id, place.task_id, place.key, place.map_index)
        plain = restored(row)
        row = runtime.run(lambda pipeline: pipeline.enveloped(plain, where))
    handle = runtime.run(lambda pipeline: pipeline.handle(row, place.dag_id))
    return Value.of(Envelope.from_row(row), handle.open, _shelf, limits)


def signed_url(found: Found) -> str | None:
    """Where a browser gets the object itself, for a minute; None where it is to be streamed. It is in no log."""
    if not runtime.settings().ui_signed_downloads or not is_envelope(found.value):
        return None
    return runtime.run(lambda pipeline: pipeline.signed_url(found.value, found.place.dag_id, _SIGNED_SECONDS))


def envelope_of(value: Any) -> Envelope | None:
    """The envelope that a row is, if it is one that can be read."""
    return Envelope.from_row(value) if is_envelope(value) else None


def told(found: Found) -> dict[str, Any]:
    """What a list shows of a row, without a request to any store."""
    place = found.place
    shown: dict[str, Any] = {
        "dag_id": place.dag_id,
        "run_id": place.run_id,
        "task_id": place.task_id,
        "key": place.key,
        "map_index": place.map_index,
        "attempt": place.attempt or None,
        "every_attempt": KEEPS_ATTEMPTS,
        "stored_at": found.stored_at.isoformat() if found.stored_at else None,
        "row_bytes": found.row_bytes,
    }
    try:
        envelope = envelope_of(found.value)
    except Exception as error:
        return shown | {"type": "?", "where": "row", "problem": str(error)[:500]}
    if envelope is None:
        kind = "?" if found.value is None and found.row_bytes > 4 else _plain_type(found.value)
        return shown | {"type": kind, "where": "row", "size_bytes": found.row_bytes, "preview": _plain(found.value)}
    return shown | {
        "type": envelope.type,
        "codec": envelope.codec,
        "size_bytes": envelope.size_bytes,
        "stored_bytes": envelope.stored_bytes,
        "compression": envelope.compression,
        "where": "object" if envelope.uri else "row",
        "uri": envelope.uri,
        "checksum": envelope.checksum,
        "chunks": len(envelope.chunks.get("digests", "")) > 0 if envelope.chunks else False,
        "created_at": envelope.created_at,
        "preview": envelope.preview,
        "shape": envelope.params.get("shape"),
        "name": envelope.params.get("name") or envelope.params.get("directory"),
    }


def _plain_type(value: Any) -> str:
    return "None" if value is None else type(value).__name__


def _plain(value: Any) -> str | None:
    """The beginning of a value that stands in its row, unless previews are turned off."""
    shown = preview(value, runtime.settings().preview_chars)
    return None if shown is None else compat.mask(shown)
