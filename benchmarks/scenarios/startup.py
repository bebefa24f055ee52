"""What importing Airflow costs with the backend set, in a new interpreter."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Iterator
from typing import Any

from benchmarks import hooks
from benchmarks.trial import Plan, Trial

BASELINE = ("database",)
SHOWN = ("import_seconds", "import_cpu_seconds", "modules", "threads")
MODULES = ("airflow", "airflow.sdk.execution_time.task_runner")


def trials(_: Plan) -> Iterator[Trial]:
    """Airflow alone, and what a worker imports before it forks a task: that loads the backend."""
    for module in MODULES:
        for subject in (*BASELINE, "common-io", "xcargo"):
            yield Trial(f"import {module}", subject, f"{__name__}:measure", {"module": module}, bare=True)


def measure(module: str) -> dict[str, Any]:
    """Import it."""
    watch = hooks.Watch()
    with watch("import"):
        importlib.import_module(module)
    return {**watch.metrics, "modules": len(sys.modules), "threads": threading.active_count()}
