"""A Dag that runs when its watcher says so: the watcher keeps state of the asset, in a triggerer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from airflow.sdk import Asset, AssetWatcher, dag, task
from airflow.triggers.base import BaseEventTrigger, TriggerEvent
from contract_values import large

MOMENT = datetime(2026, 1, 1)


class CursorTrigger(BaseEventTrigger):  # type: ignore[misc]
    """Uses every asynchronous method; what it found is state too, for whoever looks on."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return "contract_watch_dag.CursorTrigger", {}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        store: Any = self.asset_state_store
        found: dict[str, Any] = {}
        await store.aset("large", large(1))
        await store.aset("large", large(2))
        await store.aset("typed", {"at": MOMENT, "pair": (1, 2)})
        found["large"] = (await store.aget("large")) == large(2)
        found["typed"] = (await store.aget("typed")) == {"at": MOMENT, "pair": (1, 2)}
        await store.aset("gone", large(3))
        await store.adelete("gone")
        found["gone"] = await store.aget("gone", "nothing")
        await store.aset("found", found)
        yield TriggerEvent("done")


class ClearTrigger(BaseEventTrigger):  # type: ignore[misc]
    """Clears what it set."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return "contract_watch_dag.ClearTrigger", {}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        store: Any = self.asset_state_store
        await store.aset("one", large(4))
        await store.aset("two", large(5))
        await store.aclear()
        await store.aset("found", [await store.aget("one"), await store.aget("two")])
        yield TriggerEvent("done")


WATCHED = Asset("contract_watched", watchers=[AssetWatcher(name="cursor", trigger=CursorTrigger())])
CLEARED = Asset("contract_cleared", watchers=[AssetWatcher(name="clear", trigger=ClearTrigger())])


@dag(dag_id="contract_watch", schedule=[WATCHED, CLEARED], start_date=datetime(2024, 1, 1), catchup=False)
def watch() -> None:
    @task
    def nothing() -> None:
        return None

    nothing()


DAG = watch()
