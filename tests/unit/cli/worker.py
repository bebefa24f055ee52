"""What a worker does, in a process that has loaded the backend and read no settings yet."""

from __future__ import annotations

import os
from typing import Any

import xcargo
from tests.unit.cli.kit import BARE_PREFIXES
from xcargo.airflow.rows import Row

BACKEND = xcargo.XComBackend
VALUES = {"inline": (1, "x"), "object": [{"n": n, "text": "y" * n} for n in range(60)]}


def work(settings: dict[str, str], name: str, rows: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Push all values, and pull rows, by settings. Gives the rows, and what is wrong with those that were pulled."""
    for variable in [variable for variable in os.environ if variable.startswith(BARE_PREFIXES)]:
        del os.environ[variable]
    for option, text in settings.items():
        os.environ[f"AIRFLOW__XCARGO__{option.upper()}"] = text
    where: dict[str, Any] = {"dag_id": "d", "run_id": "r", "map_index": -1, "key": "return_value"}
    pushed = {f"{name}-{n}": BACKEND.serialize_value(v, task_id=f"{name}-{n}", **where) for n, v in VALUES.items()}
    wrong = {}
    for n, row in rows.items():
        try:
            if BACKEND.deserialize_value(Row(row)) != VALUES[n.rpartition("-")[2]]:
                wrong[n] = "another value"
        except xcargo.XCargoError as error:
            wrong[n] = str(error)
    return pushed, wrong
