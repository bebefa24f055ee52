"""Many tasks on one node pull the same value, four at a time, each in a process of its own.

xcargo has its node-local cache on, in an empty folder. The libraries of the value are loaded before the readers are
forked: what is measured is the value, not the import of pandas.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks import hooks
from benchmarks.payloads import payload
from benchmarks.trial import Plan, Trial

BASELINE = ("common-io",)
SHOWN = ("all_seconds", "pull_seconds", "received_bytes", "reader_received_bytes", "requests")
AT_ONCE = 4


def trials(plan: Plan) -> Iterator[Trial]:
    """The bytes that leave the store are counted by a relay, whose own work is in the seconds.

    Common IO's backend, which downloads the value for each reader anew, has but a few of them where one costs a second.
    """
    for name in plan.choose(("DataFrame, 100k rows",), ("DataFrame, 100k rows", "DataFrame, 1M rows")):
        large = "1M" in name
        for subject in (*BASELINE, "xcargo"):
            readers = 12 if plan.quick else 10 if large and subject != "xcargo" else 200
            if not large and not plan.quick:
                readers = 1000 if subject == "xcargo" else 20
            yield Trial(
                f"{name}, {readers} readers",
                subject,
                f"{__name__}:measure",
                {"name": name, "readers": readers},
                prepare=f"{__name__}:row",
                count=True,
                rounds=None if plan.quick else 1,
            )


def row(name: str, **_: Any) -> Any:
    """The row that all pull."""
    return hooks.push(payload(name))


def measure(carry: Any, readers: int, name: str) -> dict[str, Any]:
    """Fork the readers; the seconds of each pull."""
    payload(f"{name.partition(', ')[0]}, 10 KB")
    watch = hooks.Watch()
    with tempfile.TemporaryDirectory(prefix="xcargo-bench-cache-") as folder:
        os.environ["AIRFLOW__XCARGO__CACHE_PATH"] = folder
        with watch("all"), ThreadPoolExecutor(AT_ONCE) as pool:
            seconds = list(pool.map(lambda _: _reader(carry), range(readers)))
    return {"all_seconds": watch.metrics["all_seconds"], "pull_seconds": seconds, "readers": readers}


def _reader(found: Any) -> float:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            watch = hooks.Watch()
            with watch("pull"):
                hooks.whole(hooks.pull(found))
            os.write(writer, json.dumps(watch.metrics["pull_seconds"][0]).encode())
        except Exception as error:
            os.write(writer, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    try:
        return float(answer)
    except ValueError:
        raise RuntimeError(f"a reader failed: {answer}") from None
