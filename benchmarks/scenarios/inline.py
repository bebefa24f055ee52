"""A value that stays in the metadata database: what the hooks cost, against Airflow's own backend."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from benchmarks import hooks
from benchmarks.trial import Plan, Trial

BASELINE = ("database",)
SHOWN = ("push_seconds", "pull_seconds")
VALUES: dict[str, Any] = {
    "a number": 23,
    "a text of 100 characters": "x" * 100,
    "a dict of one number": {"a": 23},
    "a dict of 10 texts, 1 KB": {f"key{n}": "x" * 90 for n in range(10)},
    "10 nested records": [{"id": n, "tags": ["a", "b"], "nested": {"x": n, "y": None}} for n in range(10)],
}
OPERATIONS = 300


def trials(_: Plan) -> Iterator[Trial]:
    """Each with the threshold that is the default of its backend or its tutorial."""
    from xcargo.model.settings import Settings  # here, since a measured process may have another release

    env = {
        "AIRFLOW__XCARGO__THRESHOLD_BYTES": str(Settings.threshold_bytes),
        "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD": "1048576",
    }
    for name in VALUES:
        for subject in (*BASELINE, "common-io", "xcargo"):
            yield Trial(name, subject, f"{__name__}:measure", {"name": name}, env=env)


def measure(name: str) -> dict[str, Any]:
    """Push and pull one after the other, after one that is not counted."""
    value = VALUES[name]
    row = hooks.push(value)
    if hooks.pull(row) != value:
        raise ValueError("came back changed")
    pushes, pulls = [], []
    for _ in range(OPERATIONS):
        started = time.perf_counter()
        row = hooks.push(value)
        pushed = time.perf_counter()
        hooks.pull(row)
        pulls.append(time.perf_counter() - pushed)
        pushes.append(pushed - started)
    return {"push_seconds": pushes, "pull_seconds": pulls}
