"""XComBackend: the hooks of every Airflow generation, each a few lines over the pipeline.

This module is imported in every Airflow process, often while Airflow is half imported. So nothing that it loads may
import more of Airflow than ``BaseXCom`` (``compat.py`` sees to that), nor a store's client, numpy or the like.
"""

from __future__ import annotations

import json
from contextvars import ContextVar
from typing import Any

from xcargo.airflow import compat, runtime
from xcargo.airflow.compat import AIRFLOW_2, BLOCKING_ASYNC_HOOKS, BaseXCom
from xcargo.coordinate import Coordinate
from xcargo.envelope import is_envelope, is_plain
from xcargo.keyorder import marked, restored

__all__ = ["XComBackend"]

_CONTROL_KEYS = ("_link_", "_airflow_loop_")

_handed_back: ContextVar[bool] = ContextVar("xcargo_handed_back", default=False)
"""Set while Airflow's own code fetches rows for us: the hooks then hand rows back as they are, wrapped in _Row."""


class _Row:
    """A row on its way through Airflow's code: ready to store, or not loaded yet."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class XComBackend(BaseXCom):  # type: ignore[misc]
    """XCom backend: small values in the metadata database, large ones in object storage, each back as it was."""

    @staticmethod
    def serialize_value(
        value: Any,
        *,
        key: str | None = None,
        task_id: str | None = None,
        dag_id: str | None = None,
        run_id: str | None = None,
        map_index: int | None = None,
    ) -> Any:
        """Airflow 2.9 to 3.3: store a value, give what stands in its row (bytes on 2.x, JSON on 3.x)."""
        if isinstance(value, _Row):
            return value.value
        mapped = -1 if map_index is None else map_index
        row = _push(value, Coordinate(dag_id or "", run_id or "", task_id or "", key or "", mapped))
        return json.dumps(row, separators=(",", ":"), ensure_ascii=False).encode() if AIRFLOW_2 else row

    @classmethod
    def store_value(cls, coordinate: Any, key: str, value: Any) -> Any:
        """Airflow 3.4 on: the same, told apart by attempt and loop iteration."""
        mapped = -1 if coordinate.region_index is None else coordinate.region_index
        attempt = None if coordinate.ti_id is None else str(coordinate.ti_id)
        return _push(value, Coordinate(coordinate.dag_id, coordinate.run_id, coordinate.task_id, key, mapped, attempt))

    @staticmethod
    def deserialize_value(result: Any) -> Any:
        """Airflow 2.9 to 3.3: the value of a row. Of ``result`` only ``.value`` is there on every path."""
        return _handed_back_or_loaded(result.value)

    @classmethod
    def load_value(cls, stored: Any) -> Any:
        """Airflow 3.4 on: the value of a row."""
        return _handed_back_or_loaded(stored)

    @classmethod
    def purge(cls, xcom: Any, *_: Any) -> None:
        """Delete the object of a row that goes. Never raises; leaves alone whatever is not a reference of ours."""
        row: Any = getattr(xcom, "value", None)  # on 2.x what orm_deserialize_value gave; a text is a user's text
        if is_envelope(row) and "uri" in row:
            try:
                runtime.run(lambda pipeline: pipeline.purge(row))
            except Exception as error:  # an unusable setting must not fail a task before it has begun
                import logging

                logging.getLogger(__name__).warning("xcargo left the object of a cleared XCom in place: %s", error)

    if AIRFLOW_2:

        def orm_deserialize_value(self) -> Any:
            """What lists and the web page show of a row: a small value itself, else its envelope. Downloads nothing."""
            row = _parsed(self.value)
            return row if is_envelope(row) else super().orm_deserialize_value()

    else:

        @classmethod
        def get_all(cls, **query: Any) -> Any:
            """Values of all map indexes, in order; objects are fetched concurrently."""
            return _load_all(_rows(super().get_all, query))

    if BLOCKING_ASYNC_HOOKS:

        @classmethod
        async def aset(cls, key: str, value: Any, **coordinate: Any) -> None:
            """Store a value without holding up the event loop."""
            import asyncio

            where = {name: coordinate.get(name) for name in ("task_id", "dag_id", "run_id", "map_index")}
            row = await asyncio.to_thread(cls.serialize_value, value, key=key, **where)
            await super().aset(key, _Row(row), **coordinate)

        @classmethod
        async def aget_one(cls, **query: Any) -> Any:
            """A value, loaded without holding up the event loop."""
            import asyncio

            found = await _rows_async(super().aget_one, query)
            return await asyncio.to_thread(_load, found.value) if isinstance(found, _Row) else found

    if hasattr(BaseXCom, "aget_all"):

        @classmethod
        async def aget_all(cls, **query: Any) -> Any:
            """Values of all map indexes, loaded concurrently and without holding up the event loop."""
            import asyncio

            return await asyncio.to_thread(_load_all, await _rows_async(super().aget_all, query))


def _push(value: Any, coordinate: Coordinate) -> Any:
    if value is None and compat.REFUSES_NONE:
        return runtime.run(lambda pipeline: pipeline.enveloped(value))
    control = coordinate.key == "skipmixin_key" or coordinate.key.startswith(_CONTROL_KEYS)
    if control and is_plain(value):
        return value  # the scheduler and the API server read these rows as they are
    row = runtime.run(lambda pipeline: pipeline.push(value, coordinate, inline_only=control))
    if AIRFLOW_2 or is_envelope(row) or not runtime.settings().keep_key_order:
        return row  # Airflow 2 stores JSON as it is written
    return marked(row)


def _handed_back_or_loaded(row: Any) -> Any:
    return _Row(row) if _handed_back.get() else _load(row)


def _load(row: Any) -> Any:
    """The value of a row, whoever wrote it."""
    raw = row
    if AIRFLOW_2:
        row = _parsed(row)
    if is_envelope(row):
        return runtime.run(lambda pipeline: pipeline.pull(row))
    value = BaseXCom.deserialize_value(_Row(raw))
    if isinstance(value, str) and "://" in value and runtime.settings().legacy_roots:
        return runtime.run(lambda pipeline: pipeline.pull_legacy(value, compat.load_json))
    return restored(value)


def _load_all(rows: Any) -> Any:
    if not isinstance(rows, list):
        return rows
    raw = [row.value for row in rows]
    if sum(map(is_envelope, raw)) < 2:
        return [_load(row) for row in raw]
    return runtime.run(lambda pipeline: pipeline.pull_many(raw, _load))


def _rows(fetch: Any, query: dict[str, Any]) -> Any:
    token = _handed_back.set(True)
    try:
        return fetch(**query)
    finally:
        _handed_back.reset(token)


async def _rows_async(fetch: Any, query: dict[str, Any]) -> Any:
    token = _handed_back.set(True)
    try:
        return await fetch(**query)
    finally:
        _handed_back.reset(token)


def _parsed(raw: Any) -> Any:
    """A row of Airflow 2 as JSON if it is an envelope of ours, else as it is: pickled, or anyone's bytes."""
    if isinstance(raw, bytes) and raw.startswith(b'{"__id__":"xcargo/'):
        try:
            return json.loads(raw)
        except ValueError:
            return raw
    return raw
