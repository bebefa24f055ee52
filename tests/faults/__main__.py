"""Run cells, and note in docs/faults.md what they came to."""

from __future__ import annotations

import logging
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from tests.servers import start

from .cells import KINDS, Result, cells
from .page import updated
from .run import run

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"


def main(words: list[str]) -> int:
    """Exit code 1 if a cell is red."""
    chosen = cells(words)
    done: list[Result] = []

    def report(result: Result) -> None:
        done.append(result)
        if result.wrong or words:
            print(f"{result.cell.name}: {result.wrong or result.outcome}, {result.seconds:.1f} s", flush=True)
        elif len(done) % 50 == 0:
            print(f"{len(done)} of {len(chosen)} cells", flush=True)

    logging.getLogger("xcargo").setLevel(logging.ERROR)
    began = time.monotonic()
    with ExitStack() as stack:
        kinds = [kind for kind in KINDS if any(cell.kind == kind for cell in chosen)]
        servers = {kind: stack.enter_context(start(kind)) for kind in kinds}  # type: ignore[arg-type]
        results = run(chosen, servers, report)
    PAGE.write_text(updated(PAGE.read_text("utf-8"), results), "utf-8")
    red = sum(bool(result.wrong) for result in results)
    print(f"{len(results)} cells in {time.monotonic() - began:.0f} s, {red} red")
    return 1 if red else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
