"""A task hands on what it got: as a handle, which the store copies, or loaded and pushed again.

Over the S3 server and below a local folder; a handle of what is on S3 is streamed to a folder.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

from benchmarks import hooks
from benchmarks.memory import Peak, at_hand
from benchmarks.payloads import payload, size_of
from benchmarks.trial import Plan, Trial

BASELINE = ()
SHOWN = ("task_seconds", "task_cpu_seconds", "peak_extra_bytes", "requests", "sent_bytes", "received_bytes")


def trials(plan: Plan) -> Iterator[Trial]:
    """Each in a process of its own, timed in rounds; on S3 also counted once, by a relay whose own work takes time."""
    folder = tempfile.mkdtemp(prefix="xcargo-bench-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    files = f"file://{folder}"
    for name in plan.choose(("bytes, 100 MB",), ("bytes, 100 MB", "bytes, 1 GB")):
        for case, root, to in (("S3", "", ""), ("files", files, files), ("S3 to files", "", files)):
            for way in ("handle", "load"):
                for count in (False, True) if not to else (False,):
                    yield Trial(
                        f"{name}, {case}, {way}",
                        "xcargo",
                        f"{__name__}:{way}",
                        {"name": name, "root": root, "to": to, "counted": count},
                        prepare=f"{__name__}:row",
                        count=count,
                        rounds=1 if count else None,
                    )


def row(name: str, root: str, **_: Any) -> Any:
    """The row of what the task before returned."""
    _store_below(root)
    return hooks.push(payload(name))


def handle(carry: Any, **where: Any) -> dict[str, Any]:
    """Get a handle and return it."""
    import xcargo

    with xcargo.lazy():
        return _task(carry, **where)


def load(carry: Any, **where: Any) -> dict[str, Any]:
    """Get the value and return it."""
    return _task(carry, **where)


def _task(carry: Any, name: str, to: str, counted: bool, **_: Any) -> dict[str, Any]:
    _store_below(to)
    if counted:
        hooks.push(hooks.pull(carry))
        return {}
    hooks.warm_up()
    at_hand(size_of(name, None))
    watch, peak = hooks.Watch(), Peak()
    with watch("task"):
        pushed = hooks.push(hooks.pull(carry))
    extra = peak.extra_bytes()
    hooks.purge(pushed)
    return {**watch.metrics, "peak_extra_bytes": extra}


def _store_below(root: str) -> None:
    if root:
        os.environ["AIRFLOW__XCARGO__READ_PATHS"] = os.environ["AIRFLOW__XCARGO__PATH"]
        os.environ["AIRFLOW__XCARGO__PATH"] = root
