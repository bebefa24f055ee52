"""Two Dags whose rows and objects are forged between push and pull. Each reports what its pulls came to."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowSkipException
from airflow.sdk.execution_time.xcom import XCom
from cluster_parts import MEETING, frame, numbers_of, on, text

VALUES: dict[str, Callable[[], Any]] = {
    "text": lambda: text(1),
    "nested": lambda: {"deep": [text(2), 1.5, None]},
    "array": lambda: numbers_of(1),
    "frame": lambda: frame(1, 1),
    "chunks": lambda: numbers_of(8),
    "secret": lambda: "what only the victim may read " * 500,
}
PARAMS = {"pushed": {}, "pulled": [], "deleted": [], "ends": False}
"""Kinds of values by key; keys; whether the run ends with the push."""


def wait_for(path: Path, seconds: float = 600) -> Path:
    until = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < until, f"no {path.name}"
        time.sleep(0.1)
    return path


def outcome(ti: Any, key: str) -> dict[str, Any]:
    """The beginning of the value, or the error; and by how much the most memory that this process had was raised."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        told = {"value": repr(ti.xcom_pull(task_ids="push", key=key))[:100]}
    except Exception as error:
        told = {"error": type(error).__name__, "text": str(error)}
    return told | {"kilobytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before}


@task(**on("signing"))
def push(params: Any, ti: Any) -> None:
    for key, kind in params["pushed"].items():
        ti.xcom_push(key, VALUES[kind]())
    if params["ends"]:
        raise AirflowSkipException


@task(**on("two"))
def plant() -> None:
    """Write rows into another Dag's run, as Airflow lets every task."""
    for row in json.loads(wait_for(MEETING / "forged.json").read_text()):
        XCom._set_xcom_in_db(**row)
    (MEETING / "planted").touch()


@task
def pull(params: Any, ti: Any) -> None:
    wait_for(MEETING / "planted")
    # Not returned: Airflow logs what a task returns.
    told = {key: outcome(ti, key) for key in params["pulled"]}
    (MEETING / f"{ti.dag_id}.{ti.task_id}.json").write_text(json.dumps(told))


@task(**on("two"))
def delete(params: Any, ti: Any) -> None:
    for key in params["deleted"]:
        XCom.delete(key=key, dag_id=ti.dag_id, run_id=ti.run_id, task_id="push", map_index=-1)


def pulls() -> list[Any]:
    return [pull.override(task_id=f"pull_{worker}", **on(worker))() for worker in ("signing", "two")]


@dag(schedule=None, params=PARAMS)
def victim() -> None:
    push() >> pulls()


@dag(schedule=None, params=PARAMS)
def attacker() -> None:
    push() >> plant() >> pulls() >> delete()


victim()
attacker()
