"""What pushes, pulls and purges tell those who watch: metrics through Airflow's own stats, spans under the task's span.

Who sends them where is Airflow's business (``[metrics]``, ``[traces]``). Where both are off, nothing is loaded and
nothing is counted.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from xcargo import __version__
from xcargo.airflow import compat
from xcargo.pipeline.observer import Event, Observer
from xcargo.stores import retry as retries

__all__ = ["METRICS", "carried", "observer"]

METRICS = {
    "push.inline": "values that stay in their row",
    "push.inline_bytes": "their bytes",
    "push.offloaded": "values that go to object storage",
    "push.offloaded_bytes": "their bytes before compression",
    "push.stored_bytes": "the bytes of their objects",
    "push.duration": "milliseconds that an offload takes, encoding and compression included",
    "push.errors": "pushes that failed",
    "push.error.KIND": "the same by the kind of the error",
    "pull.offloaded": "values that come out of object storage",
    "pull.offloaded_bytes": "their bytes after decompression",
    "pull.stored_bytes": "the bytes of their objects",
    "pull.duration": "milliseconds that such a pull takes, decompression and decoding included",
    "pull.errors": "pulls that failed",
    "pull.error.KIND": "the same by the kind of the error",
    "purge.offloaded": "objects deleted with their XCom",
    "purge.stored_bytes": "their bytes",
    "purge.duration": "milliseconds that a deletion takes",
    "purge.errors": "deletions that failed, each of which leaves an orphan",
    "purge.error.KIND": "the same by the kind of the error",
    "retry.VERB": "requests that were repeated: put, get, head, delete, list; hedge for one beside a slow one",
}
"""Name, after Airflow's prefix and ``xcargo.``, and what it counts. Append-only: dashboards rely on the names."""

_SWITCHES = ("statsd_on", "statsd_datadog_enabled", "otel_on")

_T = TypeVar("_T")


def observer(conf: Any) -> Observer | None:
    """What tells of each push, pull and purge, or None where nobody listens. Loads nothing yet.

    Has retries counted too.
    """
    counted = any(conf.getboolean("metrics", switch, fallback=False) for switch in _SWITCHES)
    traced = conf.getboolean("traces", "otel_on", fallback=False) or _recording() is not None
    told = (*([_count] if counted else []), *([_trace] if traced else []))
    retries.tell(_count_retry if counted else None)
    if not told:
        return None

    def observe(event: Event) -> None:
        for tell in told:
            tell(event)

    return observe


def carried(load: Callable[..., _T]) -> Callable[..., _T]:
    """The same function for other threads, where the span of this one is the parent of its spans too."""
    if _recording() is None:
        return load
    from opentelemetry import context

    here = context.get_current()

    @wraps(load)
    def loaded(*arguments: Any) -> _T:
        token = context.attach(here)
        try:
            return load(*arguments)
        finally:
            context.detach(token)

    return loaded


def _count(event: Event) -> None:
    stats, name = compat.stats(), f"xcargo.{event.kind}"
    if event.error is not None:
        stats.incr(f"{name}.errors")
        stats.incr(f"{name}.error.{event.error}")
    elif event.offloaded:
        tags = {"codec": event.codec or ""}
        stats.incr(f"{name}.offloaded", tags=tags)
        if event.kind != "purge":
            stats.incr(f"{name}.offloaded_bytes", event.size_bytes, tags=tags)
        stats.incr(f"{name}.stored_bytes", event.stored_bytes, tags=tags)
        stats.timing(f"{name}.duration", event.seconds * 1000, tags=tags)
    elif event.kind == "push":
        stats.incr(f"{name}.inline")
        stats.incr(f"{name}.inline_bytes", event.size_bytes)


def _count_retry(verb: str) -> None:
    compat.stats().incr(f"xcargo.retry.{verb}")


def _trace(event: Event) -> None:
    """A span for what went to the store, or failed, under the one that is current."""
    if (not event.offloaded and event.error is None) or _recording() is None:
        return
    from opentelemetry.trace import SpanKind, StatusCode, get_tracer

    end = time.time_ns()
    told = {
        "xcargo.offloaded": event.offloaded,
        "xcargo.size_bytes": event.size_bytes,
        "xcargo.stored_bytes": event.stored_bytes,
        "xcargo.codec": event.codec,
        "error.type": event.error,
    }
    span = get_tracer("xcargo", __version__).start_span(
        f"xcargo.{event.kind}",
        kind=SpanKind.CLIENT,
        start_time=end - int(event.seconds * 1e9),
        attributes={name: value for name, value in told.items() if value is not None},
    )
    if event.error is not None:
        span.set_status(StatusCode.ERROR, event.error)
    span.end(end)


def _recording() -> Any:
    """The span that is current, if it is one that goes anywhere. Without OpenTelemetry loaded there is none."""
    trace = sys.modules.get("opentelemetry.trace")
    span = trace.get_current_span() if trace is not None else None
    return span if span is not None and span.is_recording() else None
