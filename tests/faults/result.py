"""What a cell came to."""

from __future__ import annotations

from dataclasses import dataclass

from .cells import Cell

__all__ = ["Result"]


@dataclass(frozen=True)
class Result:
    """Outcome of a cell, and whether it is as it must be."""

    cell: Cell
    outcome: str
    seconds: float
    leftovers: str
    wrong: str
    """Empty, or why the cell is red."""
