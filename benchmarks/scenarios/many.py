"""Many small values in one process, in sequence and on threads: seconds for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks import hooks
from benchmarks.payloads import payload
from benchmarks.trial import Plan, Trial

BASELINE = ("common-io",)
SHOWN = ("push_seconds", "pull_seconds", "purge_seconds", "push_cpu_seconds", "pull_cpu_seconds")


def trials(plan: Plan) -> Iterator[Trial]:
    """5 KB each; the counts show how the work grows."""
    counts = (100,) if plan.quick else (10, 100, 1000)
    for name in plan.payloads or ("records, 5 KB",):
        for latency_ms in plan.latencies_ms:
            for count in counts:
                for threads in (1, 16):
                    if latency_ms and (count > 100 or (threads == 1 and not plan.payloads)):
                        continue  # the same as a warm push, so many times
                    for subject in (*BASELINE, "xcargo"):
                        yield Trial(
                            f"{count} x {name}, {threads} {'thread' if threads == 1 else 'threads'}",
                            subject,
                            f"{__name__}:measure",
                            {"name": name, "count": count, "threads": threads},
                            latency_ms=latency_ms,
                        )


def measure(name: str, count: int, threads: int) -> dict[str, Any]:
    """Push all, pull all, purge all."""
    hooks.warm_up()
    value, watch = payload(name), hooks.Watch()
    with ThreadPoolExecutor(threads) as pool:

        def each(work: Callable[[Any], Any], things: Iterable[Any]) -> list[Any]:
            return [work(thing) for thing in things] if threads == 1 else list(pool.map(work, things))

        with watch("push"):
            rows = each(lambda number: hooks.push(value, number), range(count))
        with watch("pull"):
            back = each(hooks.pull, rows)
        with watch("purge"):
            each(hooks.purge, rows)
    if any(found != value for found in back):
        raise ValueError("came back changed")
    return watch.metrics
