"""The first push and the first pull of a process: forked from a warm supervisor as tasks are, and a new interpreter."""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from benchmarks import hooks
from benchmarks.payloads import payload
from benchmarks.trial import Plan, Trial

BASELINE = ("common-io",)
SHOWN = (
    "push_seconds",
    "pull_seconds",
    "push_cpu_seconds",
    "pull_cpu_seconds",
    "import_seconds",
    "process_seconds",
    "fresh_seconds",
    "fresh_cpu_seconds",
    "modules",
)
_AS_A_POD = (
    *("execution_time.execute_workload", "execution_time.supervisor", "execution_time.task_runner"),
    *("definitions.dag", "definitions.decorators", "bases.hook"),
)
"""What a Kubernetes task has imported of Airflow's SDK before it pushes or pulls."""


def trials(plan: Plan) -> Iterator[Trial]:
    """Both kinds of process; the interpreter only without added latency, since importing Airflow is most of it."""
    for name in plan.choose(("dict, 1 KB",), ("dict, 1 KB", "DataFrame, 10k rows")):
        for subject in (*BASELINE, "xcargo"):
            for latency_ms in plan.latencies_ms:
                common: dict[str, Any] = {"arguments": {"name": name}, "latency_ms": latency_ms}
                yield Trial(f"forked, push, {name}", subject, f"{__name__}:push", **common)
                yield Trial(f"forked, pull, {name}", subject, f"{__name__}:pull", prepare=f"{__name__}:row", **common)
            arguments = {"name": name}
            yield Trial(f"bare, push, {name}", subject, f"{__name__}:bare_push", arguments, bare=True)
        for subject in ("database", *BASELINE, "xcargo"):
            for way in ("push", "pull"):
                prepare = f"{__name__}:row"
                yield Trial(f"fresh, {way}, {name}", subject, f"{__name__}:fresh_{way}", arguments, prepare, bare=True)


def row(name: str) -> Any:
    """A row to pull."""
    return hooks.push(payload(name))


def push(name: str) -> dict[str, Any]:
    """The first push of this process."""
    value, loaded, watch = payload(name), len(sys.modules), hooks.Watch()
    with watch("push"):
        hooks.push(value)
    return {**watch.metrics, "modules": len(sys.modules) - loaded}


def pull(carry: Any, **_: Any) -> dict[str, Any]:
    """The first pull of this process."""
    loaded, watch = len(sys.modules), hooks.Watch()
    with watch("pull"):
        hooks.pull(carry)
    return {**watch.metrics, "modules": len(sys.modules) - loaded}


def bare_push(name: str) -> dict[str, Any]:
    """Importing Airflow with its backend, then the first push."""
    started = time.perf_counter()
    hooks.backend()
    imported = time.perf_counter() - started
    return {"import_seconds": imported, **push(name)}


def fresh_push(name: str, **_: Any) -> dict[str, Any]:
    """Importing the backend and the first push, in an interpreter that has imported Airflow."""
    return _fresh("serialize_value", payload(name), **hooks.WHERE)


def fresh_pull(carry: Any, **_: Any) -> dict[str, Any]:
    """The same with the first pull."""
    return _fresh("deserialize_value", SimpleNamespace(value=carry))


def _fresh(hook: str, *arguments: Any, **named: Any) -> dict[str, Any]:
    path = os.environ.pop("AIRFLOW__CORE__XCOM_BACKEND", "airflow.sdk.bases.xcom.BaseXCom")
    for module in _AS_A_POD:
        importlib.import_module(f"airflow.sdk.{module}")
    loaded, watch = len(sys.modules), hooks.Watch()
    with watch("fresh"):
        module, _, name = path.rpartition(".")
        getattr(getattr(importlib.import_module(module), name), hook)(*arguments, **named)
    return {**watch.metrics, "modules": len(sys.modules) - loaded}
