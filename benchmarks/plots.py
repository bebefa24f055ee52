"""Results as pictures."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.payloads import bytes_of
from benchmarks.results import Results

__all__ = ["draw"]

COLOURS = {"xcargo": "#1f6f8b", "common-io": "#c8553d", "database": "#777777"}
VERBS = {"push_seconds": "-", "pull_seconds": "--"}


def draw(results: Results, folder: Path) -> list[Path]:
    """The plots for which there are figures, as SVG files in the folder."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams.update({"svg.hashsalt": "xcargo", "font.size": 10, "svg.fonttype": "path"})
    folder.mkdir(parents=True, exist_ok=True)
    drawn = [plot(results, folder) for plot in (_sizes, _counts, _fan_in, _first)]
    return [path for path in drawn if path]


def _sizes(results: Results, folder: Path) -> Path | None:
    """Seconds by size of the value, a panel a kind."""
    kinds: dict[str, list[str]] = {}
    for latency_ms, case in results.cases("warm"):
        if not latency_ms:
            kinds.setdefault(case.partition(", ")[0], []).append(case)
    kinds = {kind: cases for kind, cases in kinds.items() if len(cases) > 2}
    return _panels(results, "warm", kinds, _size, "bytes", folder / "bench-sizes.svg")


def _counts(results: Results, folder: Path) -> Path | None:
    """Seconds by number of values."""
    cases = [case for latency_ms, case in results.cases("many") if not latency_ms]
    groups = {text: [case for case in cases if case.endswith(text)] for text in ("1 thread", "16 threads")}
    groups = {text: found for text, found in groups.items() if len(found) > 2}
    return _panels(results, "many", groups, _count, "values of 5 KB", folder / "bench-counts.svg")


def _fan_in(results: Results, folder: Path) -> Path | None:
    """Seconds by number of mapped tasks, 16 ms away."""
    far = max((latency_ms for latency_ms, _ in results.cases("fanin")), default=0)
    groups: dict[str, list[str]] = {}
    for latency_ms, case in results.cases("fanin"):
        if latency_ms == far:
            groups.setdefault(f"{case.partition(' of ')[0]}, +{far} ms", []).append(case)
    groups = {text: found for text, found in groups.items() if len(found) > 1}
    path = folder / "bench-fan-in.svg"
    return _panels(results, "fanin", groups, lambda c: _count(c.partition(" of ")[2]), "mapped results", path, far)


def _first(results: Results, folder: Path) -> Path | None:
    """Bars: the first push and pull of a process."""
    cases = [(latency_ms, case) for latency_ms, case in results.cases("first") if case.startswith("forked")]
    if not cases:
        return None
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 0.5 + 0.6 * len(cases)), layout="constrained")
    for place, (latency_ms, case) in enumerate(cases):
        for offset, subject in ((-0.18, "common-io"), (0.18, "xcargo")):
            found = results.figure("first", case, latency_ms, subject, f"{case.split(', ')[1]}_seconds")
            if found:
                label = subject if not place else None
                spread = [[found.median - found.least], [found.most - found.median]]
                axes.barh(
                    place + offset, found.median, 0.32, xerr=spread, color=COLOURS[subject], label=label, capsize=2
                )
                axes.text(found.most * 1.08, place + offset, f"{found.median * 1e3:.0f} ms", va="center", fontsize=8)
    names = [case.removeprefix("forked, ") + f", +{ms} ms" for ms, case in cases]
    axes.set(yticks=range(len(cases)), yticklabels=names, xscale="log", xlabel="seconds, first of a task's process")
    axes.margins(x=0.15)
    axes.invert_yaxis()
    axes.legend()
    return _saved(figure, folder / "bench-first.svg")


def _panels(
    results: Results,
    scenario: str,
    groups: dict[str, list[str]],
    place: Callable[[str], float],
    unit: str,
    path: Path,
    latency_ms: int = 0,
) -> Path | None:
    if not groups:
        return None
    import matplotlib.pyplot as plt

    columns = min(3, len(groups))
    lines = -(-len(groups) // columns)
    figure, grid = plt.subplots(lines, columns, figsize=(4 * columns, 3.2 * lines), squeeze=False, layout="constrained")
    for axes, (title, cases) in zip(grid.flat, groups.items(), strict=False):
        for subject, colour in COLOURS.items():
            for metric, style in VERBS.items():
                points = [(place(case), results.figure(scenario, case, latency_ms, subject, metric)) for case in cases]
                known = sorted((x, found) for x, found in points if found)
                if known:
                    xs = [x for x, _ in known]
                    label = f"{subject}, {metric.partition('_')[0]}"
                    axes.plot(xs, [y.median for _, y in known], style, color=colour, marker=".", label=label)
                    axes.fill_between(
                        xs, [y.least for _, y in known], [y.most for _, y in known], color=colour, alpha=0.15
                    )
        axes.set(title=title, xscale="log", yscale="log", xlabel=unit, ylabel="seconds")
        axes.grid(True, alpha=0.3)
        axes.legend(fontsize=7)
    for axes in list(grid.flat)[len(groups) :]:
        axes.remove()
    return _saved(figure, path)


def _saved(figure: Any, path: Path) -> Path:
    import matplotlib.pyplot as plt

    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return path


def _size(case: str) -> float:
    return float(bytes_of(case.partition(", ")[2]))


def _count(case: str) -> float:
    match = re.match(r"\d+", case)
    assert match
    return float(match[0])
