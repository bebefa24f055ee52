"""Run cells, keep what they came to, and write docs/faults.md of what all came to."""

from __future__ import annotations

import logging
import sys
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from tests.servers import start

from .cells import KINDS, cells
from .result import Result, keep, kept
from .run import run
from .table import page

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"


def main(words: list[str]) -> int:
    """Exit code 1 if a cell is red."""
    chosen = cells(words)
    counts: Counter[bool] = Counter()

    def told(result: Result) -> None:
        counts[bool(result.wrong)] += 1
        if result.wrong or words:
            print(f"{result.cell.name}: {result.wrong or result.outcome}, {result.seconds:.1f} s", flush=True)
        elif sum(counts.values()) % 50 == 0:
            print(f"{sum(counts.values())} of {len(chosen)} cells, {counts[True]} red", flush=True)

    logging.getLogger("xcargo").setLevel(logging.ERROR)
    began = time.monotonic()
    with ExitStack() as stack:
        kinds = [kind for kind in KINDS if any(cell.kind == kind for cell in chosen)]
        servers = {kind: stack.enter_context(start(kind)) for kind in kinds}  # type: ignore[arg-type]
        results = run(chosen, servers, told)
    keep(results)
    PAGE.write_text(page(kept()), "utf-8")
    print(f"{len(results)} cells in {time.monotonic() - began:.0f} s, {counts[True]} red")
    return 1 if counts[True] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
