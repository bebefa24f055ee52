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
    """Shows the current step and its seconds: one living line on a terminal, else a line a step."""

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
class Placed:
    """An XCom row, read for its place: where its value lies, and what it takes there."""

    dag_id: str
    task_id: str
    key: str
    type: str
    size_bytes: int
    """Length of the encoded value before compression."""
    stored_bytes: int
    place: str
    """The URI of the object, or "database"."""

    @property
    def in_database(self) -> bool:
        """The value itself stands in the row."""
        return self.place == "database"


def placed(row: XComRow) -> Placed:
    """Read the place of a value from its raw row, without xcargo: by the format it documents."""
    names = (row.dag_id, row.task_id, row.key)
    value = row.value
    if isinstance(value, dict) and str(value.get("__id__", "")).startswith(MARKER_PREFIX):
        return Placed(
            *names,
            value["type"],
            value["size_bytes"],
            value["stored_bytes"],
            value.get("uri", "database"),
        )
    return Placed(*names, type(value).__name__, row.row_bytes, row.row_bytes, "database")


def place_table(rows: Iterable[XComRow]) -> str:
    """A table of every row: Dag, task, key, type, size, stored size, place."""
    header = ("Dag", "task", "key", "type", "size", "stored", "place")
    lines = [
        (p.dag_id, p.task_id, p.key, p.type, size(p.size_bytes), size(p.stored_bytes), p.place)
        for p in map(placed, rows)
    ]
    return table(header, lines, right={4, 5})


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


def size(count: int) -> str:
    """A number of bytes for people: 9 B, 11.3 KB, 870.1 KB (1 KB is 1000 bytes)."""
    if count < 1000:
        return f"{count} B"
    for unit, scale in (("KB", 1e3), ("MB", 1e6)):
        if count < 1000 * scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count / 1e9:.1f} GB"
