"""XComBackend: the hooks of every Airflow generation, each a few lines over the pipeline.

This module is imported in every Airflow process, often while Airflow is half imported. So nothing that it loads may
import more of Airflow than ``BaseXCom`` (``compat.py`` sees to that), nor a store's client, numpy or the like.
"""

from __future__ import annotations

import json
from typing import Any

from xcargo.airflow import compat, lazily, runtime, sequences
from xcargo.airflow.compat import AIRFLOW_2, BLOCKING_ASYNC_HOOKS, BaseXCom
from xcargo.airflow.rows import (
    Row,
    asked_of,
    dag_asked_of,
    fetched,
    fetched_async,
    handed_back_or_loaded,
    load,
    load_all,
    parsed,
)
from xcargo.codecs import gc_tuning as collector
from xcargo.model.coordinate import Coordinate
from xcargo.model.envelope import is_envelope, is_plain, plain_bytes
from xcargo.model.key_order import marked

__all__ = ["XComBackend", "control_key"]

_CONTROL_KEYS = ("_link_", "_airflow_loop_")


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
        if type(value) is Row:
            return value.value
        if _is_its_row(value):
            row = _noted(value)
        else:
            mapped = -1 if map_index is None else map_index
            row = _push(value, Coordinate(dag_id or "", run_id or "", task_id or "", key or "", mapped))
        return json.dumps(row, separators=(",", ":"), ensure_ascii=False).encode() if AIRFLOW_2 else row

    @classmethod
    def store_value(cls, coordinate: Any, key: str, value: Any) -> Any:
        """Airflow 3.4 on: the same, told apart by attempt and loop iteration."""
        if _is_its_row(value):
            return _noted(value)
        mapped = -1 if coordinate.region_index is None else coordinate.region_index
        attempt = None if coordinate.ti_id is None else str(coordinate.ti_id)
        return _push(value, Coordinate(coordinate.dag_id, coordinate.run_id, coordinate.task_id, key, mapped, attempt))

    @staticmethod
    def deserialize_value(result: Any) -> Any:
        """Airflow 2.9 to 3.3: the value of a row. Of ``result`` only ``.value`` is there on every path."""
        return handed_back_or_loaded(result.value, getattr(result, "dag_id", None))

    @classmethod
    def load_value(cls, stored: Any) -> Any:
        """Airflow 3.4 on: the value of a row."""
        return handed_back_or_loaded(stored)

    @classmethod
    def purge(cls, xcom: Any, *_: Any) -> None:
        """Delete the object of a row that goes. Never raises; leaves alone whatever is not a reference of ours."""
        row: Any = getattr(xcom, "value", None)  # on 2.x what orm_deserialize_value gave; a text is a user's text
        if is_envelope(row) and "uri" in row:
            try:
                dag_id = getattr(xcom, "dag_id", None) or dag_asked_of()
                runtime.run(lambda pipeline: pipeline.purge(row, dag_id))
            except Exception as error:  # an unusable setting must not fail a task before it has begun
                import logging

                logging.getLogger(__name__).warning("xcargo left the object of a cleared XCom in place: %s", error)

    if AIRFLOW_2:

        def orm_deserialize_value(self) -> Any:
            """What lists and the web page show of a row: a small value itself, else its envelope. Downloads nothing."""
            row = parsed(self.value)
            return row if is_envelope(row) else super().orm_deserialize_value()

    else:

        @classmethod
        def get_one(cls, **query: Any) -> Any:
            """A value, or a handle where a parameter asks for it; one that claims to be another Dag's is refused."""
            with asked_of(query.get("dag_id")), lazily.as_annotated(query.get("task_id"), query.get("key")):
                return super().get_one(**query)

        @classmethod
        def get_all(cls, **query: Any) -> Any:
            """Values of all map indexes, in order; objects are fetched concurrently."""
            if not _loads_as_ours(cls):
                return super().get_all(**query)
            return load_all(fetched(super().get_all, **query), query.get("dag_id"))

        @classmethod
        def delete(cls, *names: Any, **query: Any) -> Any:
            """Delete a row and its object, if that is of the row's own Dag."""
            with asked_of(query.get("dag_id")):
                return super().delete(*names, **query)

    if BLOCKING_ASYNC_HOOKS:

        @classmethod
        async def aset(cls, key: str, value: Any, **coordinate: Any) -> None:
            """Store a value without holding up the event loop."""
            import asyncio

            where = {name: coordinate.get(name) for name in ("task_id", "dag_id", "run_id", "map_index")}
            row = await asyncio.to_thread(cls.serialize_value, value, key=key, **where)
            await super().aset(key, Row(row), **coordinate)

        @classmethod
        async def aget_one(cls, **query: Any) -> Any:
            """A value, loaded without holding up the event loop."""
            import asyncio

            if not _loads_as_ours(cls):
                return await super().aget_one(**query)
            found = await fetched_async(super().aget_one, **query)
            return await asyncio.to_thread(load, found.value, query.get("dag_id")) if isinstance(found, Row) else found

    if hasattr(BaseXCom, "aget_all"):

        @classmethod
        async def aget_all(cls, **query: Any) -> Any:
            """Values of all map indexes, loaded concurrently and without holding up the event loop."""
            import asyncio

            if not _loads_as_ours(cls):
                return await super().aget_all(**query)
            rows = await fetched_async(super().aget_all, **query)
            return await asyncio.to_thread(load_all, rows, query.get("dag_id"))


def control_key(key: str) -> bool:
    """Whether Airflow itself reads the rows of an XCom key as they are."""
    return key == "skipmixin_key" or key.startswith(_CONTROL_KEYS)


def _push(value: Any, coordinate: Coordinate) -> Any:
    if value is None and compat.REFUSES_NONE:
        return runtime.run(lambda pipeline: pipeline.enveloped(value, coordinate))
    control = control_key(coordinate.key)
    if control and is_plain(value):
        return value  # the scheduler and the API server read these rows as they are
    row = runtime.run(lambda pipeline: pipeline.push(value, coordinate, inline_only=control))
    return row if is_envelope(row) else _noted(row)


def _is_its_row(value: Any) -> bool:
    """Whether a value surely stands in its row as it is: most values do, and should be through here soon."""
    limit = runtime.plain_limit()
    if not limit or (value is None and compat.REFUSES_NONE):
        return False
    size = plain_bytes(value, limit)
    return size is not None and size <= limit


def _noted(row: Any) -> Any:
    """A plain row with the order of its keys noted, except where none is lost: Airflow 2 stores JSON as written."""
    kept = AIRFLOW_2 or (type(row) is not dict and type(row) is not list) or not runtime.settings().keep_key_order
    return row if kept else marked(row)


def _loads_as_ours(backend: Any) -> bool:
    """Whether a backend class loads values by the hooks of XComBackend: a subclass may have hooks of its own."""
    ours = (XComBackend.deserialize_value, XComBackend.load_value.__func__)  # type: ignore[attr-defined]
    load_value = getattr(backend, "load_value", None)
    return (getattr(backend, "deserialize_value", None), getattr(load_value, "__func__", load_value)) == ours


sequences.install(_loads_as_ours)
collector.spare_inherited()
