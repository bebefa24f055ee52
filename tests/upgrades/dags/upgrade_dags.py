"""Dags that push on one release of Airflow what a later one pulls: ``python upgrade_dags.py KIND|pull``."""

from __future__ import annotations

import datetime as dt
import functools
import json
import os
import sys
from pathlib import Path
from typing import Any

import airflow
import pandas as pd

from tests.exact import assert_exact

if airflow.__version__.startswith("2."):
    from airflow import DAG
    from airflow.operators.python import PythonOperator
else:
    from airflow.providers.standard.operators.python import PythonOperator
    from airflow.sdk import DAG
    from airflow.sdk.execution_time import supervisor

    supervisor.in_process_api_server = functools.cache(supervisor.in_process_api_server)

QUIET: dict[str, Any] = {"show_return_value_in_logs": False}
START = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)
JSON: dict[str, Any] = {
    "small": {"name": "x", "id": [None, True, 2.5, 2**60]},
    "text": 'NaN, "quoted" \\u0000 \\\\ ü',
    "large": [{"n": n, "text": f"text {n}: NaN, -Infinity"} for n in range(500)],
}
WHEN = {"when": START}
FRAME = {"frame": pd.DataFrame({"n": range(300), "t": pd.date_range("2026", periods=300, tz="UTC"), "f": 0.5})}
OURS = {
    **JSON,
    **FRAME,
    "tuple": (1, {2}, dt.date(2026, 1, 1), float("nan"), float("-inf")),
    "nul": ["a\0b", "\ud800"],
    "nul_column": pd.DataFrame({"a\0b": [1.5]}),
    "bytes": b"\0\1\xff" * 3,
    "numbers": [1e300, -0.0, 2**80, 10**15 + 0.5],
    "order": {"longer": 1, "a": {"zz": 1, "b": 2}},
    "mapped": [{"n": n, "text": "x" * 2000} for n in range(3)],
}
KINDS: dict[str, dict[str, Any]] = {
    "xcargo": OURS,
    "guarded": OURS,
    "common_io": JSON,
    "stock": JSON | WHEN,
    "pickled": {"set": {1, 2}},
}
"""Who wrote the values -> name of the task -> value. ``guarded`` is xcargo with keys of both kinds."""


def value_of(kind: str, name: str, number: int | None = None) -> Any:
    value = KINDS[kind][name]
    return value if number is None else value[number]


def pushing(kind: str) -> Any:
    """A Dag with a task for each value; that of a mapped one is mapped."""
    with DAG(f"upgrade_{kind}", schedule=None, start_date=START) as dag:
        for name in KINDS[kind]:
            operator: Any = PythonOperator
            if name == "mapped":
                arguments = [{"kind": kind, "name": name, "number": n} for n in range(3)]
                operator.partial(task_id=name, python_callable=value_of, **QUIET).expand(op_kwargs=arguments)
            else:
                operator(task_id=name, python_callable=value_of, op_kwargs={"kind": kind, "name": name}, **QUIET)
    return dag


def compare(found: Any, value: Any) -> str:
    """``exact``, ``equal``, or what came back."""
    try:
        assert_exact(found, value)
    except AssertionError:
        return "equal" if isinstance(value, (dict, dt.datetime)) and found == value else f"not {found!r:.200}"
    return "exact"


def check(kind: str, name: str, run_id: str, ti: Any = None) -> None:
    """Pull the value of a task and report what came back."""
    found = ti.xcom_pull(dag_id=f"upgrade_{kind}", task_ids=name, run_id=run_id)
    outcome = compare(list(found) if name == "mapped" else found, KINDS[kind][name])
    with Path(os.environ["UPGRADE_REPORT"]).open("a") as file:
        print(json.dumps([kind, name, outcome]), file=file)


def pulling(runs: dict[str, str]) -> Any:
    """A Dag that pulls all values of these runs, by kind."""
    with DAG("upgrade_pull", schedule=None, start_date=START) as dag:
        for kind, run_id in runs.items():
            for name in KINDS[kind]:
                arguments = {"kind": kind, "name": name, "run_id": run_id}
                PythonOperator(task_id=f"{kind}.{name}", python_callable=check, op_kwargs=arguments)
    return dag


if airflow.__version__.startswith("2."):
    dags = {kind: pushing(kind) for kind in KINDS}
else:
    dags = {"pull": pulling(json.loads(os.environ.get("UPGRADE_RUNS", "{}")))}

if __name__ == "__main__":
    run = dags[sys.argv[1]].test()
    assert str(getattr(run.state, "value", run.state)) == "success", run.state
    print(run.run_id)
