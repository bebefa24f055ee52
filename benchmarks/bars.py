"""What xcargo has set itself to reach, as ratios: the table that says whether it does."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.results import Results
from benchmarks.scenarios import SCENARIOS

__all__ = ["BARS", "Bar", "markdown"]


@dataclass(frozen=True)
class Bar:
    """A bound of a figure: how many times better than the baseline at least, or an amount at most."""

    scenario: str
    case: str
    metric: str
    at_least: float | None = None
    at_most: float | None = None
    at_most_more: float | None = None
    """Seconds that it may take longer than the baseline."""
    latency_ms: int = 0
    over: tuple[str, ...] = ()
    """Other subjects to compare with than the scenario's own."""
    baseline_case: str = ""
    """The case with which the baseline was measured, where it would take minutes with this one."""


def _both(scenario: str, case: str, push: float, pull: float, latency_ms: int = 0) -> tuple[Bar, Bar]:
    return (
        Bar(scenario, case, "push_seconds", push, latency_ms=latency_ms),
        Bar(scenario, case, "pull_seconds", pull, latency_ms=latency_ms),
    )


def _fan_in(way: str) -> Bar:
    cases = [f"{way} of {count} x records, 5 KB" for count in (10_000, 300)]
    return Bar("fanin", cases[0], "value_seconds", 50, latency_ms=16, baseline_case=cases[1])


BARS = (
    Bar("first", "forked, push, dict, 1 KB", "push_seconds", 30),
    Bar("first", "forked, pull, dict, 1 KB", "pull_seconds", 30),
    Bar("scheduler", "push_objects", "task_seconds", at_most_more=0.3, over=("database",)),
    *_both("warm", "dict, 1 KB", 25, 20),
    *_both("many", "1000 x records, 5 KB, 1 thread", 40, 30),
    *_both("many", "1000 x records, 5 KB, 16 threads", 15, 15),
    *_both("limits", "bytes, 1 KB", 1 / 1.15, 1 / 1.15, latency_ms=16),
    *_both("warm", "dict, 1 MB", 13, 6),
    *_both("warm", "dict, 100 MB", 6, 3),
    *_both("warm", "records, 10 MB", 10, 10),
    *_both("warm", "DataFrame, 1M rows", 10, 10),
    *_both("limits", "bytes, 100 MB", 0.85, 0.85),
    *_both("limits", "numpy, 100 MB", 0.85, 0.85),
    *_both("limits", "bytes, 1 GB", 0.85, 0.85),
    *_both("limits", "numpy, 1 GB", 0.85, 0.85),
    _fan_in("get_all"),
    _fan_in("iterate"),
    Bar(
        "fanout",
        "DataFrame, 1M rows, 200 readers",
        "reader_received_bytes",
        50,
        baseline_case="DataFrame, 1M rows, 10 readers",
    ),
    Bar("memory", "dict, 100 MB", "push_extra_of_value", at_most=1.0),
    Bar("memory", "DataFrame, 1M rows", "push_extra_of_value", at_most=0.3),
    Bar("memory", "bytes, 100 MB", "pull_extra_of_value", at_most=1.1),
    Bar("memory", "bytes, 1 GB", "pull_extra_of_value", at_most=1.1),
    Bar("inline", "a number", "push_seconds", 1.0),
    Bar("inline", "a dict of 10 texts, 1 KB", "push_seconds", 1.0),
    Bar("inline", "10 nested records", "push_seconds", 1.0),
    Bar("startup", "import airflow", "import_seconds", 0.95),
)


def markdown(results: Results) -> str:
    """Every bar that these results say something about."""
    lines = ["### bars", "", "| what | latency | measure | wanted | measured | |", "|---|---:|---|---:|---:|---|"]
    for bar in BARS:
        place = bar.scenario, bar.case, bar.latency_ms
        others = bar.over or SCENARIOS[bar.scenario].BASELINE
        best = results.best(bar.scenario, bar.baseline_case or bar.case, bar.latency_ms, others, bar.metric)
        if bar.at_most is not None:
            figure, wanted = results.figure(*place, "xcargo", bar.metric), f"at most {bar.at_most:g}"
            met = figure is not None and figure.median <= bar.at_most
        elif bar.at_most_more is not None:
            figure = results.difference(*place, best, bar.metric) if best else None
            wanted = f"at most {bar.at_most_more:g} s more than {best}"
            met = figure is not None and figure.median <= bar.at_most_more
        else:
            figure = results.ratio(*place, best, bar.metric, baseline_case=bar.baseline_case) if best else None
            wanted = f"{bar.at_least:.3g} x {best or ''}"
            met = figure is not None and figure.median >= (bar.at_least or 0)
        if figure is not None:
            spread = f" ({figure.least:.3g} to {figure.most:.3g})" if figure.rounds > 1 else ""
            metric = bar.metric.removesuffix("_seconds").replace("_", " ")
            case = f"{bar.case} (it: {bar.baseline_case})" if bar.baseline_case else bar.case
            line = f"{bar.scenario}: {case} | +{bar.latency_ms} ms | {metric} | {wanted} "
            lines.append(f"| {line}| {figure.median:.3g}{spread} | {'met' if met else 'missed'} |")
    return "\n".join(lines) if len(lines) > 4 else ""
