"""XComBackend: the hooks of every Airflow generation. They adapt Airflow's signatures; the pipeline decides.

This module is imported in every Airflow process, often while Airflow is half imported. So nothing that it loads may
import more of Airflow than ``BaseXCom`` (``compat.py`` sees to that), nor a store's client, numpy or the like.
"""

from __future__ import annotations

import json
import os
from functools import cache
from itertools import count
from typing import Any

from xcargo.airflow import rows, runtime
from xcargo.airflow.compat import AIRFLOW_2, BLOCKING_ASYNC_HOOKS, BaseXCom
from xcargo.airflow.rows import Row, querying
from xcargo.codecs.gc_tuning import freeze_after_fork
from xcargo.model.coordinate import Coordinate
from xcargo.model.envelope import is_envelope
from xcargo.pipeline.handle import Lazy

__all__ = ["XComBackend", "install", "loads_as_ours"]


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
        """Airflow 2.9 to 3.3: store a value, give its row (bytes on 2.x, JSON on 3.x)."""
        if type(value) is Row:  # from aset
            return value.value
        mapped = -1 if map_index is None else map_index
        row = _push(value, Coordinate(dag_id or "", run_id or "", task_id or "", key or "", mapped))
        return json.dumps(row, separators=(",", ":"), ensure_ascii=False).encode() if AIRFLOW_2 else row

    @classmethod
    def store_value(cls, coordinate: Any, key: str, value: Any) -> Any:
        """Airflow 3.4 on: the same, with attempt and loop iteration."""
        mapped = -1 if coordinate.region_index is None else coordinate.region_index
        attempt = None if coordinate.ti_id is None else str(coordinate.ti_id)
        where = Coordinate(coordinate.dag_id, coordinate.run_id, coordinate.task_id, key, mapped, attempt)
        return _push(value, where)

    @staticmethod
    def deserialize_value(result: Any) -> Any:
        """Airflow 2.9 to 3.3: the value of a row. Of ``result`` only ``.value`` is there on every path."""
        return rows.hook_value(result.value, getattr(result, "dag_id", None))

    @classmethod
    def load_value(cls, stored: Any) -> Any:
        """Airflow 3.4 on: the value of a row."""
        return rows.hook_value(stored)

    @classmethod
    def purge(cls, xcom: Any, *_: Any) -> None:
        """Delete the object of a row that goes. Never raises; leaves alone whatever is not a reference of ours."""
        # On 2.x the value is what orm_deserialize_value gave; a text is a user's text.
        rows.purge(getattr(xcom, "value", None), getattr(xcom, "dag_id", None))

    if AIRFLOW_2:

        def orm_deserialize_value(self) -> Any:
            """What lists and the web page show of a row: a small value itself, else its envelope. Downloads nothing."""
            row = rows.parsed(self.value)
            return row if is_envelope(row) else super().orm_deserialize_value()

    else:

        @classmethod
        def get_one(cls, **query: Any) -> Any:
            """A value, or a handle where a parameter asks for it; one that claims to be another Dag's is refused."""
            from xcargo.airflow import inputs

            handles, deferred = inputs.asks_for(query.get("task_id"), query.get("key"))
            with querying(dag_id=query.get("dag_id"), **({"handles": True} if handles else {})):
                found = super().get_one(**query)
            return inputs.Deferred(found) if deferred and isinstance(found, Lazy) else found

        @classmethod
        def get_all(cls, **query: Any) -> Any:
            """Values of all map indexes, in order; objects are fetched concurrently."""
            if not loads_as_ours(cls):
                return super().get_all(**query)
            with querying(raw=True):
                found = super().get_all(**query)
            return rows.load_all(found, query.get("dag_id"))

        @classmethod
        def delete(cls, *names: Any, **query: Any) -> Any:
            """Delete a row and its object, if that is of the row's own Dag."""
            with querying(dag_id=query.get("dag_id")):
                return super().delete(*names, **query)

    if BLOCKING_ASYNC_HOOKS:

        @classmethod
        async def aset(cls, key: str, value: Any, **coordinate: Any) -> None:
            """Store a value without holding up the event loop."""
            import asyncio

            if cls.serialize_value is not XComBackend.serialize_value:  # that of a subclass is to see the value alone
                await super().aset(key, value, **coordinate)
                return
            where = {name: coordinate.get(name) for name in ("task_id", "dag_id", "run_id", "map_index")}
            row = await asyncio.to_thread(cls.serialize_value, value, key=key, **where)
            await super().aset(key, Row(row), **coordinate)

        @classmethod
        async def aget_one(cls, **query: Any) -> Any:
            """A value, loaded without holding up the event loop."""
            import asyncio

            if not loads_as_ours(cls):
                return await super().aget_one(**query)
            with querying(raw=True):
                found = await super().aget_one(**query)
            dag_id = query.get("dag_id")
            return await asyncio.to_thread(rows.load, found.value, dag_id) if isinstance(found, Row) else found

    if hasattr(BaseXCom, "aget_all"):

        @classmethod
        async def aget_all(cls, **query: Any) -> Any:
            """Values of all map indexes, loaded concurrently and without holding up the event loop."""
            import asyncio

            if not loads_as_ours(cls):
                return await super().aget_all(**query)
            with querying(raw=True):
                found = await super().aget_all(**query)
            return await asyncio.to_thread(rows.load_all, found, query.get("dag_id"))


def _push(value: Any, coordinate: Coordinate) -> Any:
    try:
        row = runtime.pipeline().push(value, coordinate)
    except BaseException:
        for give_up in runtime.on_failed_push:
            give_up(coordinate)
        raise
    runtime.classes().warn()
    for note in runtime.on_push:
        note(coordinate, value, row)
    return row


def loads_as_ours(backend: Any) -> bool:
    """Whether a backend class loads values by the hooks of XComBackend: a subclass may have hooks of its own."""
    ours = (XComBackend.deserialize_value, XComBackend.load_value.__func__)  # type: ignore[attr-defined]
    load_value = getattr(backend, "load_value", None)
    return (getattr(backend, "deserialize_value", None), getattr(load_value, "__func__", load_value)) == ours


@cache
def install() -> None:
    """Adapt this process to the backend, once: mapped results read ahead, and forked tasks start with a frozen heap.

    A process that forks a second time is no pod of a single task, so it loads all that its tasks may need before.

    Airflow has no hook for this but looking up the class, so ``xcargo.XComBackend`` calls it.
    """
    from xcargo.airflow import inputs

    inputs.install()
    freeze_after_fork()
    forks = count(1)
    os.register_at_fork(before=lambda: runtime.preload() if next(forks) == 2 else None)
