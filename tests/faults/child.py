"""Cells in a process of their own, named on standard input; what they came to on standard output.

On a disk, which needs a mount namespace, all of a cell; of one with a wrong clock the operation alone.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from .cells import Cell, cells
from .run import Disk, Operation, examine


def _done(cell: Cell, about: dict[str, Any]) -> dict[str, Any]:
    if cell.kind == "file":
        result = examine(cell, Disk(cell, Path(os.environ["CALLS_BELOW"], f"{cell.seed:08x}")))
        return {"outcome": result.outcome, "seconds": result.seconds, "leftovers": result.leftovers}
    operation = Operation(cell, about["rows"])
    outcome, seconds = operation.timed(about["root"], about["connection"])
    return {"outcome": outcome, "seconds": seconds, "row": operation.row}


job = json.load(sys.stdin)
by_name = {cell.name: cell for cell in cells()}
print(json.dumps([_done(by_name[name], job) for name in job["cells"]]))
