"""A run's tables and plots in the documentation: the peers have a page of their own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from benchmarks import bars, tables
from benchmarks.peers import report
from benchmarks.results import Results

__all__ = ["IMAGES", "PAGE", "PEERS_PAGE", "write", "write_peers"]

PAGE = Path(__file__).resolve().parent.parent / "docs" / "performance.md"
PEERS_PAGE = PAGE.parent / "peers.md"
IMAGES = PAGE.parent / "images"

_CAPTIONS = {
    "bench-first.svg": "The first push and pull of a task's process",
    "bench-sizes.svg": "Seconds of a push and a pull by the size of the value",
    "bench-counts.svg": "Seconds of all pushes and pulls by the number of values",
    "bench-fan-in.svg": "Seconds to pull all results of a mapped task by their number",
}


def write(results: Results, plots: Sequence[Path]) -> None:
    """Put the bars, the plots and all tables into their places on the page about performance."""
    first, *others = (results.on(store) for store in results.stores())
    pictures = [f"![{_CAPTIONS[path.name]}](images/{path.name})" for path in plots]
    everything = [tables.markdown(first), *(f"Again over {part.about['store']}:\n\n{_deeper(part)}" for part in others)]
    growth = [*pictures, tables.growth(first).removeprefix("### growth\n\n")]
    _fill(PAGE, "figures", bars.markdown(first).removeprefix("### bars\n\n"))
    _fill(PAGE, "growth", "\n\n".join(growth))
    _fill(PAGE, "tables", "\n\n".join(everything))


def write_peers(results: Results) -> None:
    """Put where xcargo stands among its peers, and their tables, on their page."""
    _fill(PEERS_PAGE, "standing", report.standing(results))
    _fill(PEERS_PAGE, "tables", f"{report.cases(results)}\n\n{tables.footer(results)}")


def _deeper(part: Results) -> str:
    """Tables whose headings do not repeat those of the first store."""
    return re.sub(r"^### (\w+)$", rf"### \1, {part.about['store']}", tables.markdown(part), flags=re.MULTILINE)


def _fill(page: Path, name: str, content: str) -> None:
    before, begin, rest = page.read_text("utf-8").partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- end of {name} -->")
    if not begin or not end:
        raise SystemExit(f"{page} has no place for {name}")
    page.write_text(f"{before}{begin}\n{content}\n\n{end}{after}", "utf-8")
