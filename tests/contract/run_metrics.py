"""Run the Dag of metrics in this process; or push and pull below a span, as an author's own instrumentation has one."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import airflow
from contract_metrics_dag import DAG
from contract_values import large
from generation import HOOKS, as_json

from xcargo.airflow.rows import Row, load_ahead


def start_stats() -> None:
    """What Airflow 3.2 and 3.4 do in a task's process before the task; other versions need nothing."""
    if airflow.__version__.startswith("3.2."):
        from airflow.sdk.observability.metrics import stats_utils
        from airflow.sdk.observability.stats import Stats

        Stats.initialize(factory=stats_utils.get_stats_factory(Stats))
    elif airflow.__version__.startswith("3.4."):
        from airflow.sdk.observability import stats
        from airflow.sdk.observability.metrics import stats_utils

        stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=False)


def below_a_span() -> None:
    """A push, a pull, five pulls side by side, and a pull of what is gone."""
    from opentelemetry import metrics, trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    with trace.get_tracer("author").start_as_current_span("the task"):
        hooks = HOOKS[0]
        row = hooks.push(large(1), "k")
        hooks.pull(row)
        assert list(load_ahead([Row(row)] * 5)) == [large(1)] * 5  # four of them on threads
        Path(as_json(row)["uri"].removeprefix("file://")).unlink()
        with contextlib.suppress(FileNotFoundError):
            hooks.pull(row)
    current: Any = trace.get_tracer_provider()
    current.force_flush()
    current = metrics.get_meter_provider()
    if hasattr(current, "force_flush"):
        current.force_flush()  # Airflow 2 leaves what is not exported yet when it exits


if sys.argv[1] == "dag":
    run = DAG.test()
    assert str(getattr(run.state, "value", run.state)) == "success", run.state
else:
    start_stats()
    below_a_span()
