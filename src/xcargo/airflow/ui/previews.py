"""From a row to a value that can be previewed, within the bounds of this process."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial, wraps
from typing import Any, TypeVar

from xcargo.airflow import compat, runtime
from xcargo.airflow.ui.xcoms import KEEPS_ATTEMPTS, XComRow
from xcargo.explorer.limits import BlockCache, Budget, PreviewPool
from xcargo.explorer.value import StoredValue
from xcargo.model.coordinate import Coordinate
from xcargo.model.envelope import Envelope, is_envelope
from xcargo.model.key_order import restored
from xcargo.pipeline.pipeline import Pipeline
from xcargo.transfer.description import preview

__all__ = ["budget", "in_preview_pool", "open_value", "pipeline", "pool", "signed_url", "summary"]

_T = TypeVar("_T")

_WORKERS = 4
"""Values that are read at once in this process, so that memory is bounded whoever asks."""

_SECONDS = 15.0
_SIGNED_SECONDS = 60.0
_CACHE_BYTES = 64 * 1024 * 1024

pool = PreviewPool(_WORKERS, queue_seconds=20, seconds=_SECONDS + 1)


def budget(seconds: float = _SECONDS) -> Budget:
    """What one request may take."""
    return Budget(max_bytes=runtime.settings().max_preview_bytes, seconds=seconds)


def in_preview_pool(route: Callable[..., _T]) -> Callable[..., Any]:
    """Makes a route of a function that reads values."""

    @wraps(route)
    async def answer(*args: Any, **parameters: Any) -> _T:
        return await pool.run(partial(route, *args, **parameters))

    # Names in annotations are those of the route's module, where FastAPI would not look for them.
    answer.__signature__ = inspect.signature(route, eval_str=True)  # type: ignore[attr-defined]
    return answer


@cache
def pipeline() -> Pipeline:
    """One whose requests to a store end in the time of a preview: else a store that stalls would hold all threads."""
    settings = runtime.settings()
    return runtime.open_pipeline(replace(settings, timeout_seconds=min(settings.timeout_seconds, _SECONDS)))


@cache
def _block_cache() -> BlockCache:
    return BlockCache(_CACHE_BYTES)


def open_value(row: XComRow, limits: Budget) -> StoredValue:
    """The value behind a row. No request yet."""
    value = row.value
    if not is_envelope(value):
        xcom = row.id
        coordinate = Coordinate(xcom.dag_id, xcom.run_id, xcom.task_id, xcom.key, xcom.map_index)
        value = pipeline().push_inline(restored(value), coordinate)
    handle = pipeline().handle(value, row.id.dag_id)
    return StoredValue.from_envelope(Envelope.from_row(value), handle.open, cache=_block_cache(), budget=limits)


def signed_url(row: XComRow) -> str | None:
    """Where a browser gets the object itself, for a minute; None where it is to be streamed. It is in no log."""
    if not runtime.settings().ui_signed_downloads or not is_envelope(row.value):
        return None
    return pipeline().signed_url(row.value, row.id.dag_id, _SIGNED_SECONDS)


def summary(row: XComRow) -> dict[str, Any]:
    """What a list shows of a row, without a request to any store."""
    xcom = row.id
    shown: dict[str, Any] = {
        "dag_id": xcom.dag_id,
        "run_id": xcom.run_id,
        "task_id": xcom.task_id,
        "key": xcom.key,
        "map_index": xcom.map_index,
        "attempt": xcom.attempt or None,
        "every_attempt": KEEPS_ATTEMPTS,
        "stored_at": row.stored_at.isoformat() if row.stored_at else None,
        "row_bytes": row.row_bytes,
        "where": "row",
    }
    if not is_envelope(row.value):
        not_fetched = row.value is None and row.row_bytes > len("null")
        kind = "?" if not_fetched else "None" if row.value is None else type(row.value).__name__
        return shown | {"type": kind, "size_bytes": row.row_bytes, "preview": _masked_preview(row.value)}
    try:
        envelope = Envelope.from_row(row.value)
    except Exception as error:
        return shown | {"type": "?", "problem": str(error)[:500]}
    return shown | {
        "type": envelope.type,
        "codec": envelope.codec,
        "size_bytes": envelope.size_bytes,
        "stored_bytes": envelope.stored_bytes,
        "compression": envelope.compression,
        "where": "object" if envelope.uri else "row",
        "uri": envelope.uri,
        "checksum": envelope.checksum,
        "created_at": envelope.created_at,
        "preview": envelope.preview,
        "shape": envelope.params.get("shape"),
    }


def _masked_preview(value: Any) -> str | None:
    """The beginning of a value that is in its row, unless previews are turned off."""
    shown = preview(value, runtime.settings().preview_chars)
    return None if shown is None else compat.mask(shown)
