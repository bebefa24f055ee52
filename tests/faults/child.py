"""A cell in a process of its own, named on standard input; what it came to on standard output.

On a disk, which needs a mount namespace, all of it; of a cell with a wrong clock the operation alone.
"""

from __future__ import annotations

import json
import sys
import tempfile

from .cells import cells
from .run import Disk, Operation, examine

about = json.load(sys.stdin)
(cell,) = [cell for cell in cells() if cell.name == about["cell"]]
if cell.kind == "file":
    with tempfile.TemporaryDirectory() as folder:
        result = examine(cell, Disk(cell, folder))
    print(json.dumps({"outcome": result.outcome, "seconds": result.seconds, "leftovers": result.leftovers}))
else:
    operation = Operation(cell, about["rows"])
    outcome, seconds = operation.timed(about["root"], about["connection"])
    print(json.dumps({"outcome": outcome, "seconds": seconds, "row": operation.row}))
