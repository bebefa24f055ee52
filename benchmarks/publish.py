"""A run's tables and plots in the documentation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from benchmarks import bars, tables
from benchmarks.results import Results

__all__ = ["IMAGES", "PAGE", "write"]

PAGE = Path(__file__).resolve().parent.parent / "docs" / "performance.md"
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
    text = PAGE.read_text("utf-8")
    text = _filled(text, "figures", bars.markdown(first).removeprefix("### bars\n\n"))
    text = _filled(text, "growth", "\n\n".join([*pictures, tables.growth(first).removeprefix("### growth\n\n")]))
    text = _filled(text, "tables", "\n\n".join(everything))
    PAGE.write_text(text, "utf-8")


def _deeper(part: Results) -> str:
    """Tables whose headings do not repeat those of the first store."""
    return re.sub(r"^### (\w+)$", rf"### \1, {part.about['store']}", tables.markdown(part), flags=re.MULTILINE)


def _filled(text: str, name: str, content: str) -> str:
    before, begin, rest = text.partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- end of {name} -->")
    if not begin or not end:
        raise SystemExit(f"{PAGE} has no place for {name}")
    return f"{before}{begin}\n{content}\n\n{end}{after}"
