"""One operation in a process of its own: told on standard input, its outcome on standard output."""

from __future__ import annotations

import json
import sys
import time

from tests.unit.conftest import make_pipeline

from .run import SETTINGS, Operation

told = json.load(sys.stdin)
operation = Operation(told["name"], told["seed"], told["rows"])
bounds = dict.fromkeys(("timeout_seconds", "purge_timeout_seconds"), told["timeout_seconds"])
pipeline = make_pipeline(told["root"], connection=told["connection"], **SETTINGS, **bounds)
began = time.monotonic()
outcome = operation.outcome(pipeline)
print(json.dumps({"outcome": outcome, "row": operation.row, "seconds": time.monotonic() - began}))
