"""Push and pull in a process that has done so before, by kind and size of the value."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

from benchmarks import hooks, memory
from benchmarks.payloads import bytes_of, payload
from benchmarks.trial import Plan, Trial

BASELINE = ("common-io",)
SHOWN = ("push_seconds", "pull_seconds", "push_cpu_seconds", "pull_cpu_seconds")

QUICK = ("dict, 1 KB", "dict, 1 MB", "records, 10 MB", "DataFrame, 1M rows", "numpy, 100 MB", "bytes, 100 MB")
RELEASE = (
    *("dict, 100 B", "dict, 1 KB", "dict, 10 KB", "dict, 100 KB", "dict, 1 MB", "dict, 10 MB", "dict, 100 MB"),
    *("records, 1 KB", "records, 100 KB", "records, 1 MB", "records, 5750 KB", "records, 10 MB"),
    *("DataFrame, 100 rows", "DataFrame, 10k rows", "DataFrame, 1M rows", "table, 1M rows"),
    *("numpy, 1 KB", "numpy, 100 KB", "numpy, 10 MB", "numpy, 100 MB", "numpy, 1 GB"),
    *("bytes, 1 KB", "bytes, 100 KB", "bytes, 10 MB", "bytes, 100 MB", "bytes, 1 GB"),
    *("file, 1 MB", "file, 10 MB", "file, 100 MB"),
)
FULL = (
    *("dict, 100 B", "dict, 1 KB", "dict, 10 KB", "dict, 100 KB", "dict, 1 MB", "dict, 10 MB", "dict, 100 MB"),
    *("dict, 1 GB", "records, 1 KB", "records, 100 KB", "records, 1 MB", "records, 10 MB", "records, 100 MB"),
    *("DataFrame, 100 rows", "DataFrame, 10k rows", "DataFrame, 1M rows", "DataFrame, 10M rows", "table, 1M rows"),
    *("numpy, 1 KB", "numpy, 100 KB", "numpy, 1 MB", "numpy, 10 MB", "numpy, 100 MB", "numpy, 1 GB"),
    *("bytes, 1 KB", "bytes, 100 KB", "bytes, 1 MB", "bytes, 10 MB", "bytes, 100 MB", "bytes, 1 GB"),
    *("file, 1 MB", "file, 100 MB", "file, 1 GB"),
)
FAR = 1_000_000
"""Larger values are measured without added latency only: there a request more or less counts little. So are all but
the quick form's, unless everything is to be measured."""
MINUTES = 500_000_000
"""From here on one round takes Common IO's backend minutes."""


def trials(plan: Plan) -> Iterator[Trial]:
    """Each payload with each backend."""
    for name in plan.choose(QUICK, RELEASE, FULL):
        size = bytes_of(name.partition(", ")[2])
        for latency_ms in plan.latencies_ms:
            if latency_ms and (size > FAR or name not in QUICK) and plan.extent != "full" and not plan.payloads:
                continue
            for subject in (*BASELINE, "xcargo"):
                yield Trial(
                    name,
                    subject,
                    f"{__name__}:measure",
                    {"name": name, "repeat": repeats(size, latency_ms)},
                    latency_ms=latency_ms,
                    rounds=1 if size >= MINUTES and not plan.payloads and subject in BASELINE else None,
                )


def repeats(size: int, latency_ms: int) -> int:
    """Operations a process: enough to see past the clock, few enough to end."""
    return 30 if size <= 10_000 and not latency_ms else 10 if size <= 1_000_000 else 3 if size < MINUTES else 1


def measure(name: str, repeat: int) -> dict[str, Any]:
    """Push, pull and purge, over and over, after one round on a small value that is not counted."""
    hooks.warm_up()
    value, watch = payload(name), hooks.Watch()
    gc.collect()
    for number in range(repeat):
        memory.at_hand(bytes_of(name.partition(", ")[2]))
        with watch("push"):
            row = hooks.push(value)
        with watch("pull"):
            back = hooks.whole(hooks.pull(row))
        if number == 0 and not hooks.same(back, value):
            raise ValueError("came back changed")
        del back
        with watch("purge"):
            hooks.purge(row)
    return watch.metrics
