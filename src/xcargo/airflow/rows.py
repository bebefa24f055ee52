"""Rows on their way through Airflow's own code, and the values behind them.

Airflow's code calls the hooks of a backend for each row that it fetches, without what its caller knows: whose rows they
are, and that they are to be loaded together later, or not at all. So the caller notes that with `querying`, where
the hooks look it up. There is no other state of that kind.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from xcargo.airflow import compat, metrics, runtime
from xcargo.airflow.compat import AIRFLOW_2, BaseXCom
from xcargo.errors import printable
from xcargo.model.envelope import is_envelope
from xcargo.model.key_order import restored
from xcargo.transfer.reporting import format_stored

if TYPE_CHECKING:
    from xcargo.lifecycle.references import XComRow

__all__ = [
    "UNKNOWN_BYTES",
    "WINDOW_BYTES",
    "Query",
    "Row",
    "bytes_to_fetch",
    "handles_wanted",
    "hook_value",
    "load",
    "load_ahead",
    "load_all",
    "load_parsed",
    "load_row",
    "parsed",
    "purge",
    "querying",
]

log = logging.getLogger(__name__)

WINDOW_BYTES = 64 * 1024 * 1024
"""How far values are loaded ahead of the one that is consumed: bytes of their payloads."""

_LIST_WINDOW_BYTES = 4 * WINDOW_BYTES
"""The same where all values are to be in memory together anyway."""

UNKNOWN_BYTES = 1024 * 1024
"""What a value that another backend stored is assumed to take."""


@dataclass(frozen=True)
class Query:
    """What is known of the rows that Airflow's code is fetching in this context."""

    dag_id: str | None = None
    """The Dag whose rows they are, if that is known."""
    raw: bool = False
    """Whether the hooks give rows as they are, each in a `Row`, instead of loading their values."""
    handles: bool = False
    """Whether the values are to be handles (`xcargo.Lazy`)."""


_query: ContextVar[Query] = ContextVar("xcargo_query", default=Query())  # noqa: B039 - it is frozen


@contextmanager
def querying(**fields: Any) -> Iterator[None]:
    """While the block calls Airflow's code, the hooks find these fields of a `Query`."""
    token = _query.set(replace(_query.get(), **fields))
    try:
        yield
    finally:
        _query.reset(token)


def handles_wanted() -> bool:
    """Whether the caller of Airflow's code in this context asked for handles."""
    return _query.get().handles


class Row:
    """A row on its way through Airflow's code: ready to store, or not loaded yet."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def hook_value(row: Any, dag_id: str | None = None) -> Any:
    """What a hook that Airflow's code calls gives for a row: its value, or the row as it is."""
    return Row(row) if _query.get().raw else load(row, dag_id)


def purge(row: Any, dag_id: str | None) -> None:
    """Delete the object of a row. Never raises."""
    if not is_envelope(row) or "uri" not in row:
        return
    try:
        runtime.pipeline().purge(row, dag_id or _query.get().dag_id)
    except Exception as error:  # an unusable setting must not fail a task before it has begun
        log.warning("xcargo left the object of a cleared XCom in the store: %s", error)


def load(row: Any, dag_id: str | None = None, *, logged: bool = True) -> Any:
    """The value of a row, whoever wrote it.

    Args:
        row: As the hooks get it: JSON, or bytes on Airflow 2.
        dag_id: The Dag whose row it is, if that is known.
        logged: Whether a value that comes out of a store has a line in the log.
    """
    query, raw = _query.get(), row
    dag_id = dag_id or query.dag_id
    if AIRFLOW_2:
        row = parsed(row)
    if is_envelope(row):
        if query.handles:
            return runtime.pipeline().handle(row, dag_id)
        started = time.perf_counter()
        value = runtime.pipeline().pull(row, dag_id)
        if logged and "uri" in row:
            _log_pull(row, time.perf_counter() - started)
        return value
    value = BaseXCom.deserialize_value(Row(raw))
    if isinstance(value, str) and "://" in value and runtime.settings().legacy_roots:
        value = runtime.pipeline().pull_legacy(value, compat.load_json)
    else:
        value = restored(value)
    return runtime.pipeline().handle(value, dag_id) if query.handles else value


def _log_pull(row: Any, seconds: float) -> None:
    stored = format_stored(row["size_bytes"], row["stored_bytes"])
    kind = printable(str(row.get("type")))
    log.info("xcargo pulled %s, %s out of %s, %.3f s", kind, stored, row["uri"], seconds)


def load_parsed(value: Any, dag_id: str | None = None) -> Any:
    """The value of a row that was read from the database and parsed there: JSON, or bytes that are none."""
    if AIRFLOW_2 and not is_envelope(value) and not isinstance(value, bytes):
        return load(json.dumps(value).encode(), dag_id)
    return load(value, dag_id)


def load_row(row: XComRow) -> Any:
    """The value of a row that was read from the database, of an XCom or of the state store."""
    dag_id, state = row.coordinate.dag_id, row.coordinate.state
    if state is None:
        return load_parsed(row.value, dag_id)
    from xcargo.airflow.references.tables import state_text

    return runtime.state_pipeline().pull_text(state_text(row.raw), dag_id, state=state)


def load_all(rows: Any, dag_id: str | None = None) -> Any:
    """The values of a list of raw rows, in order, loaded concurrently. Anything else is returned as it is."""
    if not isinstance(rows, list):
        return rows
    return list(load_ahead(rows, _LIST_WINDOW_BYTES, dag_id))


def load_ahead(rows: Iterable[Row], window_bytes: int = WINDOW_BYTES, dag_id: str | None = None) -> Iterator[Any]:
    """The values of raw rows, in order, loaded ahead of whoever consumes them within the window."""
    from xcargo.pipeline.prefetch import prefetch_ordered

    started, sizes, last = time.perf_counter(), list[int](), None

    def loaded(row: Any) -> Any:
        nonlocal last
        value = load(row, dag_id, logged=False)
        size = bytes_to_fetch(row)
        if size is not None:
            sizes.append(size)
            last = row
        return value

    try:
        yield from prefetch_ordered(
            (parsed(row.value) for row in rows),
            metrics.with_current_span(loaded),
            size_bytes=bytes_to_fetch,
            workers=runtime.settings().max_concurrency,
            window_bytes=window_bytes,
        )
    finally:
        seconds = time.perf_counter() - started
        if len(sizes) == 1 and is_envelope(last):
            _log_pull(last, seconds)
        elif sizes:
            log.info("xcargo pulled %d values, %d bytes, %.3f s", len(sizes), sum(sizes), seconds)


def bytes_to_fetch(row: Any) -> int | None:
    """Payload bytes of a value that has to be fetched from a store; None for one that is in its row, or a handle."""
    if _query.get().handles:
        return None
    if is_envelope(row):
        size = row.get("size_bytes")
        return None if "uri" not in row else size if type(size) is int else 0
    reference = "://" in row if isinstance(row, str) else isinstance(row, bytes) and b"://" in row
    return UNKNOWN_BYTES if reference and runtime.settings().legacy_roots else None


def parsed(raw: Any) -> Any:
    """A row of Airflow 2 as JSON if it is an envelope of ours, else as it is: pickled, or anyone's bytes."""
    if isinstance(raw, bytes) and raw.startswith(b'{"__id__":"xcargo/'):
        try:
            return json.loads(raw)
        except ValueError:
            return raw
    return raw
