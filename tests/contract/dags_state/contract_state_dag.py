"""A Dag whose tasks keep state: of their own and of an asset. It runs on Airflow 3.3 and later."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from airflow.sdk import Asset, dag, task
from contract_values import large

ORDERS = Asset("contract_orders")
MOMENT = datetime(2026, 1, 1, tzinfo=timezone.utc)


@dag(dag_id="contract_state", schedule=None, start_date=datetime(2024, 1, 1), catchup=False)
def state() -> None:
    @task
    def keep(task_state_store: Any = None) -> None:
        task_state_store.set("small", {"b": 1, "a": "é"})
        task_state_store.set("large", large(1))
        task_state_store.set("large", large(2))
        task_state_store.set("typed", {"at": MOMENT, "pair": (1, 2)})
        task_state_store.set("gone", large(3))
        task_state_store.delete("gone")
        assert task_state_store.get("small") == {"b": 1, "a": "é"}
        assert list(task_state_store.get("small")) == ["b", "a"]
        assert task_state_store.get("large") == large(2)
        assert task_state_store.get("typed") == {"at": MOMENT, "pair": (1, 2)}
        assert task_state_store.get("gone", "nothing") == "nothing"

    @task
    def cleared(n: int, task_state_store: Any = None) -> None:
        task_state_store.set("one", large(n))
        task_state_store.set("two", large(n + 10))
        assert task_state_store.get("one") == large(n)
        if n == 1:
            task_state_store.clear()
            assert task_state_store.get("one") is None

    @task(inlets=[ORDERS])
    def orders(asset_state_store: Any = None) -> None:
        store = asset_state_store[ORDERS]
        store.set("cursor", large(4))
        assert store.get("cursor") == large(4)
        store.set("gone", large(5))
        store.delete("gone")
        assert store.get("gone") is None

    @task(inlets=[ORDERS])
    def reader(asset_state_store: Any = None) -> None:
        assert asset_state_store.get("cursor") == large(4)
        assert asset_state_store.get("old", "none") in ("none", large(6))  # what Common IO's backend may have left

    cleared.expand(n=[1, 2])
    keep()
    orders() >> reader()


@dag(dag_id="contract_state_old", schedule=None, start_date=datetime(2024, 1, 1), catchup=False)
def old() -> None:
    @task(inlets=[ORDERS])
    def write(asset_state_store: Any = None) -> None:
        asset_state_store.set("old", large(6))
        asset_state_store.set("old small", "text")

    write()


DAG, OLD_DAG = state(), old()
