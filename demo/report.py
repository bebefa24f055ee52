"""What the demo prints: progress while it works, then where each value went."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TextIO

from demo.cluster import XComRow

MARKER_PREFIX = "xcargo/"


class Ticker:
    """Shows the current step and its seconds: one line that is updated on a terminal, else one line per step."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stderr
        self._begin = self._since = time.monotonic()
        self._step = ""

    @property
    def seconds(self) -> float:
        """Seconds since the ticker was made."""
        return time.monotonic() - self._begin

    def __call__(self, step: str) -> None:
        if step != self._step:
            self.done()
            self._step, self._since = step, time.monotonic()
            if not self._out.isatty():
                self._out.write(f"{self.seconds:6.1f} s  {step}\n")
        if self._out.isatty():
            self._out.write(f"\r\x1b[K{self._line()} …")
        self._out.flush()

    def done(self) -> None:
        """End the current step, leaving its line and its duration."""
        if self._step and self._out.isatty():
            self._out.write(f"\r\x1b[K{self._line()} ({time.monotonic() - self._since:.1f} s)\n")
        self._step = ""

    def _line(self) -> str:
        return f"{self.seconds:6.1f} s  {self._step}"


@dataclass(frozen=True)
class StoredValue:
    """Where the value of an XCom row is stored, and how many bytes it takes there."""

    dag_id: str
    task_id: str
    key: str
    type: str
    size_bytes: int
    """Length of the encoded value before compression."""
    stored_bytes: int
    location: str
    """The URI of the object, or "database"."""

    @property
    def in_database(self) -> bool:
        """Whether the value itself is in the row."""
        return self.location == "database"


def stored_value(row: XComRow) -> StoredValue:
    """Read a raw row without xcargo's own reader, by the documented format."""
    names = (row.dag_id, row.task_id, row.key)
    value = row.value
    if isinstance(value, dict) and str(value.get("__id__", "")).startswith(MARKER_PREFIX):
        return StoredValue(
            *names,
            value["type"],
            value["size_bytes"],
            value["stored_bytes"],
            value.get("uri", "database"),
        )
    return StoredValue(*names, type(value).__name__, row.row_bytes, row.row_bytes, "database")


def table_of_values(rows: Iterable[XComRow]) -> str:
    """A table with a line for every row, and what its columns mean."""
    from xcargo.transfer.reporting import format_bytes  # only here: without xcargo, the demo says how to install it

    header = ("Dag", "task", "key", "type", "size", "stored", "location")
    lines = [
        (p.dag_id, p.task_id, p.key, p.type, format_bytes(p.size_bytes), format_bytes(p.stored_bytes), p.location)
        for p in map(stored_value, rows)
    ]
    legend = "size: as encoded; stored: after compression; location: the row in the database, or the object's URL"
    return f"{table(header, lines, right={4, 5})}\n\n{legend}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: set[int]) -> str:
    """Text in columns; those in `right` are aligned to the right."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join(padded).rstrip()

    return "\n".join([line(header), line(["-" * width for width in widths]), *map(line, rows)])
