"""A process that stands where Airflow's supervisor stands: it has imported Airflow, and forks a child for each task.

Reads a JSON line a job from standard input, ``{"payload": name, "repeat": n}``, and answers with one: seconds of each
push and pull in a fresh child (the first is the cold one), how much the child's memory grew at its peak, and whether
the value came back the same.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from types import SimpleNamespace
from typing import Any

from benchmarks.payloads import PAYLOADS

WHERE = {"key": "return_value", "dag_id": "bench", "task_id": "task", "run_id": "run", "map_index": -1}


def main() -> None:
    """Serve jobs until standard input ends."""
    import airflow.sdk.execution_time.supervisor
    import airflow.sdk.execution_time.task_runner  # noqa: F401
    from airflow.sdk.execution_time.xcom import XCom

    print(json.dumps({"backend": XCom.__module__}), flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        print(json.dumps(_in_child(XCom, PAYLOADS[job["payload"]], job["repeat"])), flush=True)


def _in_child(backend: Any, make: Any, repeat: int) -> dict[str, Any]:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            result = _measure(backend, make(), repeat)
        except Exception as error:
            result = {"error": f"{type(error).__name__}: {error}"[:200]}
        with os.fdopen(writer, "w") as pipe:
            json.dump(result, pipe)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        answer: dict[str, Any] = json.load(pipe)
    os.waitpid(pid, 0)
    return answer


def _measure(backend: Any, value: Any, repeat: int) -> dict[str, Any]:
    pushes, pulls, same = [], [], True
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(repeat):
        started = time.perf_counter()
        row = backend.serialize_value(value, **WHERE)
        pushed = time.perf_counter()
        back = backend.deserialize_value(SimpleNamespace(value=row))
        pulls.append(time.perf_counter() - pushed)
        pushes.append(pushed - started)
        same = same and _same(back, value)
        del back
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"push": pushes, "pull": pulls, "same": same, "grown_mb": grown / 1024}


def _same(left: Any, right: Any) -> bool:
    if type(left) is not type(right):
        return False
    if hasattr(right, "equals"):
        return bool(left.equals(right))
    return bool((left == right).all()) if hasattr(right, "dtype") else bool(left == right)


if __name__ == "__main__":
    main()
