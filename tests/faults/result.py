"""What a cell came to."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .cells import UNAVAILABLE, Cell, cells

__all__ = ["Result", "keep", "kept"]

_KEPT = Path(__file__).with_name("results.json")


@dataclass(frozen=True)
class Result:
    """Outcome of a cell, and whether it is as it must be."""

    cell: Cell
    outcome: str
    seconds: float
    leftovers: str
    wrong: str
    """Empty, or why the cell is red."""

    @property
    def late(self) -> bool:
        """Whether the cell is red for want of time, and for nothing else."""
        in_vain = self.outcome == UNAVAILABLE or self.seconds > self.cell.most_seconds
        return bool(self.wrong) and in_vain and not self.leftovers


def keep(results: Iterable[Result]) -> None:
    """Note what cells came to, in place of what they came to before."""
    known = json.loads(_KEPT.read_text("utf-8")) if _KEPT.exists() else {}
    for result in results:
        known[result.cell.name] = {"outcome": result.outcome, "left": bool(result.leftovers), "wrong": result.wrong}
    ours = {cell.name: known[cell.name] for cell in cells() if cell.name in known}
    _KEPT.write_text(json.dumps(ours, indent=1) + "\n", "utf-8")


def kept() -> list[Result]:
    """What the cells came to when each was last run."""
    known = json.loads(_KEPT.read_text("utf-8"))
    found = [(cell, known[cell.name]) for cell in cells() if cell.name in known]
    return [Result(cell, told["outcome"], 0, "left" if told["left"] else "", told["wrong"]) for cell, told in found]
