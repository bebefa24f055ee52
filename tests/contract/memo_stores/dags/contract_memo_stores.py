"""The Dag of the page on reusing results, over each store. As a program it runs them for each line that it is told, and
prints what became of them.

A route for each Dag says where its values go. It has a folder of its own, so that Airflow parses no other Dag for it.
"""

from __future__ import annotations

import functools
import os
import sys
from datetime import datetime
from typing import Any

import airflow
import pandas as pd

import xcargo

try:
    from airflow.sdk import DAG, task
except ImportError:
    from airflow import DAG
    from airflow.decorators import task


def _dag(store: str) -> Any:
    with DAG(f"contract_memo_{store}", start_date=datetime(2026, 1, 1), schedule=None, catchup=False) as dag:

        @task
        @xcargo.memoize
        def extract() -> pd.DataFrame:
            print(f"RUNS {store} extract")
            return pd.DataFrame({"price": range(1000)})

        @task
        @xcargo.memoize
        def clean(orders: pd.DataFrame, least_price: int) -> pd.DataFrame:
            print(f"RUNS {store} clean")
            return orders[orders.price >= least_price]

        @task
        @xcargo.memoize
        def train(orders: pd.DataFrame, rounds: int) -> Any:
            print(f"RUNS {store} train")
            return {"orders": len(orders), "weights": [rounds] * 500}

        @task
        def check(model: dict[str, object], rounds: int) -> None:
            assert model == {"orders": 998, "weights": [rounds] * 500}

        rounds = int(os.environ.get("CONTRACT_ROUNDS", "1"))
        check(train(clean(extract(), least_price=2), rounds), rounds)
    return dag


DAGS = {store: _dag(store) for store in os.environ.get("CONTRACT_STORES", "").split()}

if __name__ == "__main__":
    os.dup2(1, 2)  # what is printed and what is logged, in one order
    if not airflow.__version__.startswith("2."):
        from airflow.sdk.execution_time import supervisor

        supervisor.in_process_api_server = functools.cache(supervisor.in_process_api_server)
    for _ in sys.stdin:
        for store, dag in DAGS.items():
            run = dag.test()
            print(f"ENDS {store} {getattr(run.state, 'value', run.state)}", flush=True)
        print("ENDS all", flush=True)
