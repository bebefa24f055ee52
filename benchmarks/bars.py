"""What xcargo has set itself to reach, as ratios: the table that says whether it does."""

from __future__ import annotations

from dataclasses import dataclass, replace

from benchmarks.results import Figure, Results
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


def _raw(case: str, least: float, *over: str, latency_ms: int = 0) -> tuple[Bar, Bar]:
    """Both ways, against the best of some clients that have no backend around them."""
    bars = _both("limits", case, least, least, latency_ms)
    return replace(bars[0], over=over), replace(bars[1], over=over)


def _over_obstore(case: str) -> tuple[Bar, Bar]:
    """Without checksums, a push is a single request of one connection."""
    push, pull = _both("limits", case, 0.8, 1)
    return replace(push, over=("obstore",)), replace(pull, over=("obstore",))


def _fan_in(way: str) -> Bar:
    cases = [f"{way} of {count} x records, 5 KB" for count in (10_000, 300)]
    return Bar("fanin", cases[0], "value_seconds", 50, latency_ms=16, baseline_case=cases[1])


BARS = (
    Bar("first", "forked, push, dict, 1 KB", "push_seconds", 30),
    Bar("first", "forked, pull, dict, 1 KB", "pull_seconds", 30),
    Bar("first", "fresh, push, dict, 1 KB", "fresh_seconds", at_most_more=0.06, over=("database",)),
    Bar("first", "fresh, pull, dict, 1 KB", "fresh_seconds", at_most_more=0.06, over=("database",)),
    Bar("first", "fresh, push, dict, 1 KB", "modules", at_most=40),
    Bar("scheduler", "push_objects", "task_seconds", at_most_more=0.3, over=("database",)),
    *_both("warm", "dict, 1 KB", 25, 20),
    *_both("many", "1000 x records, 5 KB, 1 thread", 40, 30),
    *_both("many", "1000 x records, 5 KB, 16 threads", 15, 15),
    *_raw("bytes, 1 KB", 1 / 1.15, "obstore", "boto3", "socket", latency_ms=16),
    *_both("warm", "dict, 1 MB", 13, 6),
    *_both("warm", "dict, 100 MB", 6, 3),
    *_both("warm", "records, 10 MB", 10, 10),
    *_both("warm", "records, 5750 KB", 8, 10),
    *_both("warm", "DataFrame, 100 rows", 1, 1),
    *_both("warm", "DataFrame, 10k rows", 3, 3),
    *_both("warm", "DataFrame, 1M rows", 10, 6),
    *_both("warm", "table, 1M rows", 10, 6),
    *_both("compression", "DataFrame, 1M rows, zstd", 8, 8),
    *_both("compression", "DataFrame, 1M rows, none", 10, 10),
    Bar("wire", "push, DataFrame, 1M rows", "sent_bytes", 1 / 0.6),
    Bar("wire", "push, table, 1M rows", "sent_bytes", 1 / 0.6),
    *_raw("bytes, 100 MB", 0.85),
    *_raw("numpy, 100 MB", 0.85),
    *_raw("bytes, 1 GB", 0.85),
    *_raw("numpy, 1 GB", 0.85),
    *_over_obstore("bytes, 100 MB"),
    *_over_obstore("numpy, 100 MB"),
    *_over_obstore("bytes, 1 GB"),
    *_over_obstore("numpy, 1 GB"),
    _fan_in("get_all"),
    _fan_in("iterate"),
    Bar("fanin", "iterate of 10000 x records, 5 KB", "peak_extra_bytes", at_most=64e6, latency_ms=16),
    Bar(
        "fanout",
        "DataFrame, 1M rows, 200 readers",
        "reader_received_bytes",
        50,
        baseline_case="DataFrame, 1M rows, 10 readers",
    ),
    Bar("memory", "dict, 100 MB", "push_extra_of_value", at_most=1.0),
    Bar("memory", "DataFrame, 1M rows", "push_extra_of_value", at_most=0.5),
    Bar("memory", "DataFrame, 1M rows", "push_extra_of_value", at_most=0.3),
    Bar("memory", "bytes, 100 MB", "pull_extra_of_value", at_most=1.1),
    Bar("memory", "numpy, 100 MB", "pull_extra_of_value", at_most=1.1),
    Bar("memory", "bytes, 1 GB", "pull_extra_of_value", at_most=1.1),
    Bar("memory", "numpy, 1 GB", "pull_extra_of_value", at_most=1.1),
    Bar("memory", "file, 1 GB", "push_extra_of_value", at_most=0.25),
    Bar("memory", "file, 1 GB", "pull_extra_of_value", at_most=0.25),
    Bar("inline", "a number", "push_seconds", 1.0),
    Bar("inline", "a dict of 10 texts, 1 KB", "push_seconds", 1.0),
    Bar("inline", "10 nested records", "push_seconds", 1.0),
    Bar("startup", "import airflow", "import_seconds", 0.95),
)


def markdown(results: Results) -> str:
    """Every bar that these results say something about; of a release's results, every bar."""
    lines = ["### bars", "", "| what | latency | measure | target | measured | |", "|---|---:|---|---:|---:|---|"]
    for bar in BARS:
        figure, wanted, met = _verdict(bar, results)
        if figure is None and "--release" not in results.about["command"]:
            continue
        metric = bar.metric.removesuffix("_seconds").replace("_", " ")
        case = f"{bar.case} (it: {bar.baseline_case})" if bar.baseline_case else bar.case
        line = f"| {bar.scenario}: {case} | +{bar.latency_ms} ms | {metric} | {wanted} "
        if figure is None:
            lines.append(f"{line}| | not measured |")
            continue
        unit = 1e6 if bar.at_most is not None and bar.metric.endswith("_bytes") else 1
        spread = f" ({figure.least / unit:.3g} to {figure.most / unit:.3g})" if figure.rounds > 1 else ""
        lines.append(f"{line}| {figure.median / unit:.3g}{spread} | {'met' if met else 'missed'} |")
    return "\n".join(lines) if len(lines) > 4 else ""


def _verdict(bar: Bar, results: Results) -> tuple[Figure | None, str, bool]:
    """What was measured, what was wanted, and whether it is met."""
    place = bar.scenario, bar.case, bar.latency_ms
    if bar.at_most is not None:
        figure = results.figure(*place, "xcargo", bar.metric)
        wanted = f"{bar.at_most / 1e6:g} MB" if bar.metric.endswith("_bytes") else f"{bar.at_most:g}"
        return figure, f"at most {wanted}", figure is not None and figure.median <= bar.at_most
    others = bar.over or SCENARIOS[bar.scenario].BASELINE
    best = results.best(bar.scenario, bar.baseline_case or bar.case, bar.latency_ms, others, bar.metric)
    if bar.at_most_more is not None:
        figure = results.difference(*place, best, bar.metric) if best else None
        wanted = f"at most {bar.at_most_more:g} s more than {best or ' or '.join(others)}"
        return figure, wanted, figure is not None and figure.median <= bar.at_most_more
    least = bar.at_least or 0
    figure = results.ratio(*place, best, bar.metric, baseline_case=bar.baseline_case) if best else None
    return figure, f"{least:.3g} x {best or ' or '.join(others)}", figure is not None and figure.median >= least
