"""Rows on their way through Airflow's own code, and the values behind them."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from xcargo.airflow import compat, lazily, metrics, runtime
from xcargo.airflow.compat import AIRFLOW_2, BaseXCom
from xcargo.model.envelope import is_envelope
from xcargo.model.key_order import restored
from xcargo.pipeline.prefetch import in_order

__all__ = [
    "WINDOW_BYTES",
    "Row",
    "asked_of",
    "dag_asked_of",
    "fetched",
    "fetched_async",
    "handed_back_or_loaded",
    "load",
    "load_ahead",
    "load_all",
    "load_parsed",
    "parsed",
]

log = logging.getLogger(__name__)

WINDOW_BYTES = 64 * 1024 * 1024
"""How far values are loaded ahead of the one that is consumed: bytes of their payloads."""

_LIST_WINDOW_BYTES = 4 * WINDOW_BYTES
"""The same where all values are to be in memory together anyway."""

_UNKNOWN_BYTES = 1024 * 1024
"""What a value that another backend stored is taken to be."""

_handed_back: ContextVar[bool] = ContextVar("xcargo_handed_back", default=False)
"""Set while Airflow's own code fetches rows for us: the hooks then hand rows back as they are, wrapped in Row."""


_asked_of: ContextVar[str | None] = ContextVar("xcargo_asked_of", default=None)
"""The Dag whose rows are being asked for, as far as Airflow's hooks tell it."""


class Row:
    """A row on its way through Airflow's code: ready to store, or not loaded yet."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


@contextmanager
def asked_of(dag_id: str | None) -> Iterator[None]:
    """Remember whose rows are asked for while Airflow's own code fetches and loads them."""
    token = _asked_of.set(dag_id)
    try:
        yield
    finally:
        _asked_of.reset(token)


def dag_asked_of() -> str | None:
    """The Dag whose rows are being asked for, if that is known."""
    return _asked_of.get()


def handed_back_or_loaded(row: Any, dag_id: str | None = None) -> Any:
    """What the hooks give for a row."""
    return Row(row) if _handed_back.get() else load(row, dag_id or _asked_of.get())


def fetched(fetch: Any, *arguments: Any, **query: Any) -> Any:
    """What Airflow's own code gives, with a Row for each value that it would have had loaded."""
    token = _handed_back.set(True)
    try:
        return fetch(*arguments, **query)
    finally:
        _handed_back.reset(token)


async def fetched_async(fetch: Any, **query: Any) -> Any:
    """The same of a coroutine."""
    token = _handed_back.set(True)
    try:
        return await fetch(**query)
    finally:
        _handed_back.reset(token)


def load(row: Any, dag_id: str | None = None, *, tell: bool = True) -> Any:
    """The value of a row, whoever wrote it. ``dag_id`` is the Dag whose row it is, if that is known.

    ``tell``: a value that comes out of a store is told in the log.
    """
    raw = row
    if AIRFLOW_2:
        row = parsed(row)
    if lazily.wanted():
        plain = row if is_envelope(row) else restored(BaseXCom.deserialize_value(Row(raw)))
        return runtime.run(lambda pipeline: pipeline.handle(plain, dag_id))
    if is_envelope(row):
        started = time.perf_counter()
        value = runtime.run(lambda pipeline: pipeline.pull(row, dag_id))
        if tell and "uri" in row:
            _tell(row, time.perf_counter() - started)
        return value
    value = BaseXCom.deserialize_value(Row(raw))
    if isinstance(value, str) and "://" in value and runtime.settings().legacy_roots:
        return runtime.run(lambda pipeline: pipeline.pull_legacy(value, compat.load_json))
    return restored(value)


def _tell(row: Any, seconds: float) -> None:
    size, stored = row["size_bytes"], row["stored_bytes"]
    log.info(
        "xcargo pulled %s, %d bytes, as %d bytes (%.1f times smaller) out of %s, %.3f s",
        row.get("type"),
        size,
        stored,
        size / max(1, stored),
        row["uri"],
        seconds,
    )


def load_parsed(value: Any, dag_id: str | None = None) -> Any:
    """The value of a row that was read from the database and parsed there: JSON, or bytes that are none."""
    if AIRFLOW_2 and not is_envelope(value) and not isinstance(value, bytes):
        return load(json.dumps(value).encode(), dag_id)
    return load(value, dag_id)


def load_all(rows: Any, dag_id: str | None = None) -> Any:
    """The values of a list of fetched rows, in order, loaded concurrently. Anything else is given back."""
    if not isinstance(rows, list):
        return rows
    return list(load_ahead(rows, _LIST_WINDOW_BYTES, dag_id))


def load_ahead(rows: Iterable[Row], window_bytes: int = WINDOW_BYTES, dag_id: str | None = None) -> Iterator[Any]:
    """The values of fetched rows, in order, loaded ahead of whoever consumes them within the window."""
    started, sizes, last = time.perf_counter(), list[int](), None

    def loaded(row: Any) -> Any:
        nonlocal last
        value = load(row, dag_id, tell=False)
        size = _size_bytes(row)
        if size is not None:
            sizes.append(size)
            last = row
        return value

    try:
        yield from in_order(
            (parsed(row.value) for row in rows),
            metrics.with_current_span(loaded),
            size_bytes=_size_bytes,
            workers=runtime.settings().max_concurrency,
            window_bytes=window_bytes,
        )
    finally:
        seconds = time.perf_counter() - started
        if len(sizes) == 1 and is_envelope(last):
            _tell(last, seconds)
        elif sizes:
            log.info("xcargo pulled %d values, %d bytes, %.3f s", len(sizes), sum(sizes), seconds)


def _size_bytes(row: Any) -> int | None:
    """Payload bytes of a value that has to be fetched from a store; None for one that is in its row, or a handle."""
    if lazily.wanted():
        return None
    if is_envelope(row):
        size = row.get("size_bytes")
        return None if "uri" not in row else size if type(size) is int else 0
    reference = "://" in row if isinstance(row, str) else isinstance(row, bytes) and b"://" in row
    return _UNKNOWN_BYTES if reference and runtime.settings().legacy_roots else None


def parsed(raw: Any) -> Any:
    """A row of Airflow 2 as JSON if it is an envelope of ours, else as it is: pickled, or anyone's bytes."""
    if isinstance(raw, bytes) and raw.startswith(b'{"__id__":"xcargo/'):
        try:
            return json.loads(raw)
        except ValueError:
            return raw
    return raw
