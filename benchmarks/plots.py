"""Results as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.groups import Group, grouped
from benchmarks.peers import report
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
    names = {"warm": "bench-sizes.svg", "many": "bench-counts.svg", "fanin": "bench-fan-in.svg"}
    groups = grouped(results)
    drawn = [
        _panels(results, [group for group in groups if group.scenario == scenario], folder / name)
        for scenario, name in names.items()
    ]
    return [path for path in (*drawn, _first(results, folder), report.draw(results, folder)) if path]


def _first(results: Results, folder: Path) -> Path | None:
    """Bars: the first push and pull of a process."""
    cases = [(latency_ms, case) for latency_ms, case in results.cases("first") if case.startswith("forked")]
    if not cases:
        return None
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 1 + 0.6 * len(cases)), layout="constrained")
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
    low, high = axes.get_xlim()
    axes.set_xlim(low, high * 3)  # room for the figures at the ends of the bars
    axes.invert_yaxis()
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper right", ncols=2)
    return _saved(figure, folder / "bench-first.svg")


def _panels(results: Results, groups: list[Group], path: Path) -> Path | None:
    """Seconds by size or number, a panel a group."""
    if not groups:
        return None
    import matplotlib.pyplot as plt

    columns = min(3, len(groups))
    lines = -(-len(groups) // columns)
    figure, grid = plt.subplots(lines, columns, figsize=(4 * columns, 3.2 * lines), squeeze=False, layout="constrained")
    for axes, group in zip(grid.flat, groups, strict=False):
        for subject, colour in COLOURS.items():
            for metric, style in VERBS.items():
                points = [
                    (x, results.figure(group.scenario, case, group.latency_ms, subject, metric))
                    for x, case in sorted(group.cases.items())
                ]
                known = [(x, found) for x, found in points if found]
                if known:
                    xs = [x for x, _ in known]
                    label = f"{subject}, {metric.partition('_')[0]}"
                    axes.plot(xs, [y.median for _, y in known], style, color=colour, marker=".", label=label)
                    axes.fill_between(
                        xs, [y.least for _, y in known], [y.most for _, y in known], color=colour, alpha=0.15
                    )
        axes.set(title=group.title, xscale="log", yscale="log", xlabel=group.unit, ylabel="seconds")
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
