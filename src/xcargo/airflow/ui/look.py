"""From a row to a value that can be looked into, within the bounds of this process."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial, wraps
from typing import Any, TypeVar

from xcargo.airflow import compat, runtime
from xcargo.airflow.ui.rows import KEEPS_ATTEMPTS, Found
from xcargo.explorer.bounds import Budget, Looks
from xcargo.explorer.value import Shelf, Value
from xcargo.model.coordinate import Coordinate
from xcargo.model.envelope import Envelope, is_envelope
from xcargo.model.key_order import restored
from xcargo.pipeline.pipeline import Pipeline
from xcargo.transfer.preview import preview

__all__ = ["budget", "envelope_of", "looking", "looks", "opened", "pipeline", "signed_url", "told"]

_T = TypeVar("_T")

_LOOKS = 4
"""Values that are read at once in this process."""

_SECONDS = 15.0
_SIGNED_SECONDS = 60.0
_SHELF_BYTES = 64 * 1024 * 1024

looks = Looks(_LOOKS, patience_seconds=20, seconds=_SECONDS + 1)
"""No more than a few values are read at once, so that memory stays bounded whoever asks."""

_shelf = Shelf(_SHELF_BYTES)


def budget(seconds: float = _SECONDS) -> Budget:
    """What one request may take."""
    return Budget(max_bytes=runtime.settings().max_preview_bytes, seconds=seconds)


def looking(route: Callable[..., _T]) -> Callable[..., Any]:
    """Makes a route of a function that reads values."""

    @wraps(route)
    async def answered(*args: Any, **asked: Any) -> _T:
        return await looks.do(partial(route, *args, **asked))

    # Names in annotations are those of the route's module, where FastAPI would not look for them.
    answered.__signature__ = inspect.signature(route, eval_str=True)  # type: ignore[attr-defined]
    return answered


@cache
def pipeline() -> Pipeline:
    """One whose requests to a store end in the time of a look: else a store that stalls would hold all places."""
    settings = runtime.settings()
    return runtime.opened(replace(settings, timeout_seconds=min(settings.timeout_seconds, _SECONDS)))


def opened(found: Found, limits: Budget) -> Value:
    """The value behind a row. No request yet."""
    place, row = found.place, found.value
    if not is_envelope(row):
        where = Coordinate(place.dag_id, place.run_id, place.task_id, place.key, place.map_index)
        plain = restored(row)
        row = pipeline().enveloped(plain, where)
    handle = pipeline().handle(row, place.dag_id)
    return Value.of(Envelope.from_row(row), handle.open, _shelf, limits)


def signed_url(found: Found, disposition: str) -> str | None:
    """Where a browser gets the object itself, for a minute; None where it is to be streamed. It is in no log."""
    if not runtime.settings().ui_signed_downloads or not is_envelope(found.value):
        return None
    return pipeline().signed_url(found.value, found.place.dag_id, _SIGNED_SECONDS, disposition)


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
