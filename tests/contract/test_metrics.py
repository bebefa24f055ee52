"""Metrics through Airflow's own stats and spans, at real receivers of statsd and OpenTelemetry."""

from __future__ import annotations

from pathlib import Path

from ..receivers import Otlp, Statsd
from .conftest import HERE, run

SCRIPT = str(HERE / "run_metrics.py")


def test_statsd_gets_every_offload_and_pull_of_a_dag(database: Path) -> None:
    """Four large values stored and pulled, two small ones, with bytes and durations, by Airflow's own client."""
    with Statsd() as statsd:
        done = run(SCRIPT, "dag", env=statsd.env())
        assert done.returncode == 0, done.stdout + done.stderr
        counters, durations = statsd.counters(), statsd.timings("xcargo.push.duration")
        pulled = statsd.timings("xcargo.pull.duration")
    assert counters["xcargo.push.offloaded"] == 4
    assert counters["xcargo.pull.offloaded"] == 4
    assert counters["xcargo.push.inline"] >= 2
    assert counters["xcargo.push.offloaded_bytes"] == counters["xcargo.pull.offloaded_bytes"] > 4 * 100
    assert counters["xcargo.push.stored_bytes"] == counters["xcargo.pull.stored_bytes"] > 0
    assert len(durations) == len(pulled) == 4
    assert all(0 < milliseconds < 60_000 for milliseconds in durations + pulled)
    assert not [name for name in counters if ".error." in name]


def test_opentelemetry_gets_metrics_and_spans_below_the_current_one(database: Path) -> None:
    """Counters and durations; a span a push and a pull, children of the span that is current; a failure is an error."""
    with Otlp() as otlp:
        done = run(SCRIPT, "span", env=otlp.env("METRICS", "TRACES"))
        assert done.returncode == 0, done.stdout + done.stderr
        metrics, spans = otlp.metrics(), otlp.spans()
    assert metrics["xcargo.push.offloaded"] == 1
    assert metrics["xcargo.pull.offloaded"] == 6
    assert metrics["xcargo.pull.error.object_not_found"] == 1
    assert metrics["xcargo.push.duration"] > 0
    (parent,) = [span for span in spans if span.name == "the task"]
    ours = sorted((s for s in spans if s.name.startswith("xcargo.")), key=lambda s: s.end_time_unix_nano)
    assert [span.name for span in ours] == ["xcargo.push", *["xcargo.pull"] * 7]
    for span in ours:
        assert span.parent_span_id == parent.span_id
        assert parent.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
    attributes = [{a.key: a.value for a in span.attributes} for span in ours]
    assert attributes[0]["xcargo.size_bytes"].int_value == metrics["xcargo.push.offloaded_bytes"]
    assert attributes[-1]["error.type"].string_value == "object_not_found"
    assert [span.status.code for span in ours] == [0] * 7 + [2]


def test_where_nobody_listens_nothing_is_loaded() -> None:
    """Without metrics and traces, neither a stats client nor OpenTelemetry's SDK is imported by a push and a pull."""
    code = (
        "import sys\n"
        "from generation import HOOKS\n"
        "before = set(sys.modules)\n"
        "hooks = HOOKS[0]\n"
        "hooks.pull(hooks.push('x' * 20_000, 'k'))\n"
        "added = set(sys.modules) - before\n"
        "found = [n for n in added if n.startswith(('opentelemetry', 'statsd', 'datadog')) or 'stats' in n]\n"
        "assert found == [], found\n"
    )
    done = run("-c", code, env={"PYTHONPATH": str(HERE)})
    assert done.returncode == 0, done.stdout + done.stderr
