"""The processes in which things are measured.

``python -m benchmarks.child`` runs one job in this new interpreter; with ``--zygote MODULE…`` the process stands where
Airflow's supervisor stands: it imports the modules and forks a child for each job. Jobs and answers are JSON lines.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from typing import Any

_SECONDS = 1800


def main() -> None:
    """Serve jobs until standard input ends."""
    if sys.argv[1:2] == ["--zygote"]:
        for module in sys.argv[2:]:
            importlib.import_module(module)
        print("{}", flush=True)
        for line in sys.stdin:
            print(json.dumps(in_child(json.loads(line))), flush=True)
    else:
        print(_run(json.loads(sys.stdin.readline())), flush=True)


def _run(job: dict[str, Any]) -> str:
    os.environ.update(job["env"])
    module, _, function = job["function"].partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
        return json.dumps({"result": found(**job["arguments"])})
    except Exception as error:
        if os.environ.get("BENCHMARKS_TRACE"):
            import traceback

            traceback.print_exc()
        return json.dumps({"error": f"{type(error).__name__}: {error}"[:300]})


def in_child(job: dict[str, Any]) -> dict[str, Any]:
    """The answer to a job that a child forked from this process does."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        signal.alarm(_SECONDS)  # ends a child whose native code hangs
        with os.fdopen(writer, "w") as pipe:
            pipe.write(_run(job))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        answer = pipe.read()
    _, status = os.waitpid(pid, 0)
    if not answer:
        return {"error": f"the process ended with {os.waitstatus_to_exitcode(status)}"}
    return json.loads(answer)  # type: ignore[no-any-return]


if __name__ == "__main__":
    main()
