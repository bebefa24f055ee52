"""The peers' tables and plot, and their page in the documentation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.peers.environments import PEERS
from benchmarks.results import Figure, Results

__all__ = ["FAN_IN", "MANY_VALUES", "cases", "draw", "markdown", "standing"]

MANY_VALUES = "1,000 x records, 5 KB"
FAN_IN = "fan-in of 1,000 x records, 5 KB"
VERBS = ("push", "pull")
_COLOURS = {"push": "#1f6f8b", "pull": "#7fb7c9"}
_OTHERS = {"push": "#8a8a8a", "pull": "#c9c9c9"}
_HEAD = "| client | push | pull | requests | sent | received | memory, push | memory, pull | exact | bit flipped |"


def markdown(results: Results) -> str:
    """Where xcargo stands, and a table for each case."""
    return f"### peers\n\n{standing(results)}\n\n{cases(results)}"


def cases(results: Results) -> str:
    """A table for each case, and which releases of the peers they are of."""
    head = f"{_HEAD}\n|---|{'---:|' * 7}---|---|"
    parts = [f"### {case}\n\n{head}\n{_rows(results, case)}" for case in _cases(results)]
    releases = sorted({pin.replace("==", " ") for peer in PEERS.values() for pin in peer.requirements if "==" in pin})
    return "\n\n".join([*parts, f"Peers: {', '.join(releases)}."])


def standing(results: Results) -> str:
    """xcargo against the best that is exact and notices damage, and against the best that is not or does not."""
    lines = [
        "| what | xcargo | best that is exact and checks | it / xcargo | best of the others | it / xcargo | |",
        "|---|---:|---|---:|---|---:|---|",
    ]
    for case in _cases(results):
        for verb in VERBS:
            mine = _figure(results, case, "xcargo", f"{verb}_seconds")
            if mine is None:
                continue
            cells, met = [], True
            for careful, least in ((True, 1.0), (False, 1 / 1.1)):
                others = [s for s in _others(results) if _is_careful(results, s, case) is careful]
                best = results.best("peers", case, 0, others, f"{verb}_seconds")
                ratio = results.ratio("peers", case, 0, best, f"{verb}_seconds") if best else None
                cells += [best or "", _spread(ratio) if ratio else ""]
                met = met and (ratio is None or ratio.median >= least)
            verdict = "met" if met else "missed"
            lines.append(f"| {verb}, {case} | {_shown(mine, f'{verb}_seconds')} | {' | '.join(cells)} | {verdict} |")
    return "\n".join(lines)


def draw(results: Results, folder: Path) -> Path | None:
    """Push and pull of each client, a panel a case. Points, since a bar has no beginning on a logarithmic axis."""
    cases = list(_cases(results))
    if not cases:
        return None
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullFormatter

    columns = 2
    lines = -(-len(cases) // columns)
    figure, grid = plt.subplots(lines, columns, figsize=(11, 3.1 * lines), squeeze=False, layout="constrained")
    for axes, case in zip(grid.flat, cases, strict=False):
        subjects = [s for s in ("xcargo", *_others(results)) if _figure(results, case, s, "pull_seconds")]
        for place, subject in enumerate(subjects):
            for offset, verb in ((-0.2, "push"), (0.2, "pull")):
                found = _figure(results, case, subject, f"{verb}_seconds")
                if found is None:
                    continue
                colour = (_COLOURS if subject == "xcargo" else _OTHERS)[verb]
                spread = [[found.median - found.least], [found.most - found.median]]
                axes.errorbar(found.median, place + offset, xerr=spread, fmt="o", color=colour, capsize=2)
                axes.text(found.most * 1.1, place + offset, f"{verb} {_seconds(found.median)}", va="center", fontsize=7)
        axes.set(
            title=case, yticks=range(len(subjects)), yticklabels=subjects, xscale="log", xlabel="seconds, logarithmic"
        )
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(True, axis="x", alpha=0.3)
        low, high = axes.get_xlim()
        axes.set_xlim(low, high * 6)  # room for the figures beside the points
        axes.invert_yaxis()
    for axes in list(grid.flat)[len(cases) :]:
        axes.remove()
    path = folder / "bench-peers.svg"
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return path


def _cases(results: Results) -> Iterator[str]:
    return (case for _, case in results.cases("peers"))


def _others(results: Results) -> list[str]:
    return [subject for subject in results.subjects("peers") if subject.partition("@")[0] != "xcargo"]


def _figure(results: Results, case: str, subject: str, metric: str) -> Figure | None:
    return results.figure("peers", case, 0, subject, metric)


def _rows(results: Results, case: str) -> str:
    return "\n".join(filter(None, (_row(results, case, s) for s in results.subjects("peers"))))


def _row(results: Results, case: str, subject: str) -> str:
    def cell(metric: str) -> str:
        found = _figure(results, case, subject, metric)
        return _shown(found, metric) if found else ""

    exact = _figure(results, case, subject, "exact")
    note = results.note("peers", case, 0, subject).partition(":")[0]
    if exact is None and not note:
        return ""
    cells = (
        cell("push_seconds"),
        cell("pull_seconds") or note,
        ", ".join(filter(None, (cell("push_requests"), cell("pull_requests")))),
        cell("push_sent_bytes"),
        cell("pull_received_bytes"),
        cell("push_peak_bytes"),
        cell("pull_peak_bytes"),
        "" if exact is None else "yes" if exact.least else "no",
        _damage(results, case, subject),
    )
    return f"| {subject} | {' | '.join(cells)} |"


def _damage(results: Results, case: str, subject: str) -> str:
    found = {kind: _figure(results, case, subject, kind) for kind in ("noticed", "wrong", "crashed", "harmless")}
    words = {"wrong": "wrong value", "crashed": "other error", "harmless": "no harm"}
    return ", ".join(
        f"{figure.median:g} {words.get(kind, kind)}" for kind, figure in found.items() if figure and figure.median
    )


def _is_careful(results: Results, subject: str, case: str) -> bool:
    """Whether values of this kind come back exactly, and no damage stays unnoticed."""
    exact = _figure(results, case, subject, "exact")
    kind = case.partition(", ")[0].rpartition(" x ")[2]
    unnoticed: list[Any] = [
        _figure(results, other, subject, outcome)
        for other in _cases(results)
        if other.startswith(kind)
        for outcome in ("wrong", "crashed")
    ]
    return bool(exact and exact.median) and not any(figure and figure.median for figure in unnoticed)


def _shown(figure: Figure, metric: str) -> str:
    from benchmarks.tables import shown

    return shown(figure, metric)


def _spread(ratio: Figure) -> str:
    spread = f" ({ratio.least:.2f} to {ratio.most:.2f})" if ratio.rounds > 1 else ""
    return f"**{ratio.median:.2f}**{spread}"


def _seconds(value: float) -> str:
    return f"{value:.2g} s" if value >= 1 else f"{value * 1e3:.3g} ms"
