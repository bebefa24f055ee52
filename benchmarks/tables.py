"""Results as Markdown."""

from __future__ import annotations

import math

from benchmarks.groups import grouped
from benchmarks.results import Figure, Results
from benchmarks.scenarios import SCENARIOS

__all__ = ["growth", "markdown", "shown"]


def markdown(results: Results) -> str:
    """A table a scenario, and below all what they were measured on."""
    parts = [_table(results, name) for name in results.scenarios()]
    return "\n\n".join([*parts, footer(results)])


def growth(results: Results) -> str:
    """How the time grows up to the largest size or number, from one of a third or less: the exponent."""
    ways = [(s, f"{verb}_seconds") for s in ("xcargo", "common-io") for verb in ("push", "pull")]
    names = " | ".join(f"{subject}, {metric.removesuffix('_seconds')}" for subject, metric in ways)
    lines = ["### growth", "", f"| what | from | to | {names} |", "|---|---:|---:|" + "---:|" * len(ways)]
    for group in grouped(results):
        last = max(group.cases)
        xs = [max((x for x in group.cases if 3 * x <= last), default=last), last]
        if xs[0] == last:
            continue
        cells = []
        for subject, metric in ways:
            small, large = (
                results.figure(group.scenario, group.cases[x], group.latency_ms, subject, metric) for x in xs
            )
            grown = math.log(large.median / small.median) / math.log(xs[1] / xs[0]) if small and large else None
            cells.append("" if grown is None else f"{grown:.2f}")
        lines.append(f"| {group.title} | {xs[0]:,} | {xs[1]:,} {group.unit} | {' | '.join(cells)} |")
    return "\n".join(lines) if len(lines) > 4 else ""


def footer(results: Results) -> str:
    """On what it was measured."""
    about = results.about
    packages = ", ".join(f"{name} {number}" for name, number in about["packages"].items())
    return (
        f"Store: {about['store']}. Python {about['python']}, {packages}. {about['machine']}, {about['system']}. "
        "Each figure is the median of its rounds (in brackets the least and the most), rounds interleaved; a ratio is "
        "one of medians (in brackets the least and the most of the single rounds)."
    )


def _table(results: Results, scenario: str) -> str:
    module = SCENARIOS[scenario]
    if hasattr(module, "table"):
        return str(module.table(results))
    subjects = results.subjects(scenario)
    measured = [subject for subject in subjects if subject not in module.BASELINE]
    baseline = module.BASELINE[0] if len(module.BASELINE) == 1 else "best other"
    head = [f"{baseline} / {subject}" for subject in measured if module.BASELINE]
    lines = [
        f"### {scenario}",
        "",
        (module.__doc__ or "").partition("\n")[0],
        "",
        "| what | latency | measure | " + " | ".join([*subjects, *head]) + " |",
        "|---|---:|---|" + "---:|" * (len(subjects) + len(head)),
    ]
    for latency_ms, case in results.cases(scenario):
        for metric in module.SHOWN:
            place = scenario, case, latency_ms
            figures = [results.figure(*place, subject, metric) for subject in subjects]
            if not any(figures):
                continue
            best = results.best(*place, module.BASELINE, metric)
            ratios = [results.ratio(*place, best, metric, subject) if best else None for subject in measured]
            cells = [
                shown(figure, metric) if figure else results.note(*place, subject).partition(":")[0]
                for figure, subject in zip(figures, subjects, strict=True)
            ]
            cells += [_ratio(ratio) for ratio in ratios if module.BASELINE]
            name = metric.removesuffix("_seconds").removesuffix("_bytes").replace("_", " ")
            lines.append(f"| {case} | +{latency_ms} ms | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def shown(figure: Figure, metric: str) -> str:
    """Median with its spread, in a unit that suits."""
    scale, unit = _unit(figure.median, metric)
    middle, low, high = (_short(value / scale) for value in (figure.median, figure.least, figure.most))
    spread = f" ({low} to {high})" if figure.rounds > 1 and low != high else ""
    return f"{middle}{unit}{spread}"


def _unit(value: float, metric: str) -> tuple[float, str]:
    steps = {
        "_seconds": ((1, " s"), (1e-3, " ms"), (1e-6, " µs")),
        "_bytes": ((1e9, " GB"), (1e6, " MB"), (1e3, " KB"), (1, " B")),
    }
    for suffix, units in steps.items():
        if metric.endswith(suffix):
            return next((unit for unit in units if value >= unit[0]), units[-1])
    return 1, ""


def _short(number: float) -> str:
    return f"{number:.0f}" if number >= 100 or number == int(number) else f"{number:.3g}"


def _ratio(ratio: Figure | None) -> str:
    if ratio is None:
        return ""
    text = f"**{_short(ratio.median)}**"
    return f"{text} ({_short(ratio.least)} to {_short(ratio.most)})" if ratio.rounds > 1 else text
