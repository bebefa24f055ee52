"""Metrics of pushes, pulls and purges through Airflow's own stats, and spans below the task's span.

Airflow's ``[metrics]`` and ``[traces]`` decide what is sent where. Where both are off, nothing is loaded or counted.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

from xcargo import __version__
from xcargo.airflow import compat

if TYPE_CHECKING:
    from xcargo.pipeline.observer import Event, Observer

__all__ = ["METRICS", "count_memo", "observer", "retry_counter", "with_current_span"]

METRICS = {
    "push.inline": "values that stay in their row",
    "push.inline_bytes": "their bytes",
    "push.offloaded": "values stored in object storage",
    "push.offloaded_bytes": "their bytes before compression",
    "push.stored_bytes": "the bytes of their objects",
    "push.duration": "milliseconds per offload, encoding and compression included",
    "push.errors": "pushes that failed",
    "push.error.KIND": "the same by kind of error",
    "pull.offloaded": "values read from object storage",
    "pull.offloaded_bytes": "their bytes after decompression",
    "pull.stored_bytes": "the bytes of their objects",
    "pull.duration": "milliseconds per pull of such a value, decompression and decoding included",
    "pull.errors": "pulls that failed",
    "pull.error.KIND": "the same by kind of error",
    "purge.offloaded": "objects deleted with their XCom",
    "purge.stored_bytes": "their bytes",
    "purge.duration": "milliseconds per deletion",
    "purge.errors": "deletions that failed, each of which leaves an orphan",
    "purge.error.KIND": "the same by kind of error",
    "retry.VERB": "retried requests: put, copy, get, head, delete, list; hedge: a second request beside a slow one",
    "memo.hits": "results that were reused",
    "memo.saved_bytes": "bytes of their objects, which were not computed and sent again",
    "memo.saved_duration": "milliseconds that each took to compute when it was",
    "memo.misses": "results that were computed, of tasks whose results may be reused",
}
"""Name after Airflow's prefix and ``xcargo.`` -> what it counts. Append-only: dashboards rely on the names."""

_SWITCHES = ("statsd_on", "statsd_datadog_enabled", "otel_on")

_T = TypeVar("_T")


def observer(conf: Any) -> Observer | None:
    """Records each push, pull and purge; None where metrics and traces are off. Loads nothing yet."""
    is_counted = _is_counted(conf)
    is_traced = conf.getboolean("traces", "otel_on", fallback=False) or _recording() is not None
    if not is_counted and not is_traced:
        return None

    def observe(event: Event) -> None:
        if is_counted:
            _count(event)
        if is_traced:
            _trace(event)

    return observe


def with_current_span(function: Callable[..., _T]) -> Callable[..., _T]:
    """The same function for other threads, where the span of this thread is the parent of its spans too."""
    if _recording() is None:
        return function
    from opentelemetry import context

    current = context.get_current()

    @wraps(function)
    def call(*arguments: Any) -> _T:
        token = context.attach(current)
        try:
            return function(*arguments)
        finally:
            context.detach(token)

    return call


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


def retry_counter(conf: Any) -> Callable[[str], None] | None:
    """Counts each request that is repeated, by its verb; None where metrics are off."""
    return _count_retry if _is_counted(conf) else None


def _count_retry(verb: str) -> None:
    compat.stats().incr(f"xcargo.retry.{verb}")


def count_memo(*, hit: bool, seconds: float = 0.0, stored_bytes: int = 0) -> None:
    """Counts a result that was reused, or not, where metrics are on."""
    if not _is_counted(compat.conf()):
        return
    stats = compat.stats()
    if not hit:
        stats.incr("xcargo.memo.misses")
        return
    stats.incr("xcargo.memo.hits")
    stats.incr("xcargo.memo.saved_bytes", stored_bytes)
    stats.timing("xcargo.memo.saved_duration", seconds * 1000)


def _is_counted(conf: Any) -> bool:
    return any(conf.getboolean("metrics", switch, fallback=False) for switch in _SWITCHES)


def _trace(event: Event) -> None:
    """A span for what went to the store, or failed, under the one that is current."""
    if (not event.offloaded and event.error is None) or _recording() is None:
        return
    from opentelemetry.trace import SpanKind, StatusCode, get_tracer

    end = time.time_ns()
    attributes = {
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
        attributes={name: value for name, value in attributes.items() if value is not None},
    )
    if event.error is not None:
        span.set_status(StatusCode.ERROR, event.error)
    span.end(end)


def _recording() -> Any:
    """The current span, if it is recorded. Without OpenTelemetry loaded there is none."""
    trace = sys.modules.get("opentelemetry.trace")
    span = trace.get_current_span() if trace is not None else None
    return span if span is not None and span.is_recording() else None
