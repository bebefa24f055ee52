"""Stored values moved to where the settings say, row by row, while Airflow goes on.

For each row: the value is stored again, read back, noted in the journal, and only then the row is switched, if it still
holds what was read. Nothing of the source is deleted by that. So a migration may be killed at any moment: each row
refers to its old object or to its new one, both whole. The next one finds the rows that are left, and stores their
values under new keys. What was stored without a row is an orphan.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, cast

from xcargo.errors import (
    ConfigurationError,
    ObjectExpiredError,
    ObjectNotFoundError,
    ReferencesUnavailableError,
    StoreError,
    SweepRefusedError,
    XCargoError,
)
from xcargo.lifecycle.references import ReferenceSource, XComRow
from xcargo.pipeline.prefetch import prefetch_ordered
from xcargo.stores.local import fsync_name

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "Conversion",
    "Journal",
    "Migration",
    "Move",
    "MoveResult",
    "MoveStatus",
    "NotMovableError",
    "RowWriter",
    "StaysInlineError",
]

_MAX_FAILURES = 20
"""So many failures of a store in a row mean that the rest would fail, too."""


class MoveStatus(str, Enum):
    """What became of a row. Append-only."""

    PLANNED = "planned"
    MOVED = "moved"
    LEFT = "left"
    """It cannot be moved, and is as it was."""
    FITS = "fits"
    """The value is not larger than the threshold as it would be stored, so the row is as it was."""
    CHANGED = "changed"
    """Its row was deleted or overwritten meanwhile."""
    FAILED = "failed"
    """It could not be read, stored or read back now. It is as it was."""

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Move:
    """A row that is not where the settings say. ``kind`` is ``database``, ``store``, ``legacy`` or ``stock``."""

    row: XComRow
    kind: str
    size_bytes: int
    source: str | None = None
    """URI of the object that it leaves behind; None if there is none."""


@dataclass(frozen=True)
class MoveResult:
    """How a move ended."""

    move: Move
    status: MoveStatus
    why: str = ""
    target: str | None = None


class NotMovableError(Exception):
    """Raised by a conversion: why a value cannot be moved. It stays where it is."""


class StaysInlineError(NotMovableError):
    """Raised by a conversion: the value is small enough for its row."""


class Conversion(Protocol):
    """How values are moved; knows Airflow and the store."""

    def convert(self, move: Move) -> tuple[Any, str | None]:
        """Store the value and read it back. Returns the new row and the URI of its object.

        Raises:
            NotMovableError: The value stays where it is.
            XCargoError: It could not be read or stored.
        """


class RowWriter(Protocol):
    """Changes rows; only one process of a deployment has one at a time."""

    def switch(self, row: XComRow, value: Any) -> bool:
        """Put a value into a row if the row still holds what was read. Returns whether it did."""


class Journal:
    """The file that says what was moved from where, a line each. ``--delete-source`` reads it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a", encoding="utf-8")
            fsync_name(self.path)
            if self._file.tell():
                self._file.write("\n")  # the last line may have been cut short by a crash
        except OSError as error:
            raise ConfigurationError(
                f"The journal cannot be written: {error.strerror}",
                where=self.path,
                hint="Name a file that this user may write: --journal FILE.",
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def note(self, **line: Any) -> None:
        """Add a line; it is on the disk when this returns."""
        file = cast("IO[str]", self._file)  # open inside the with block
        file.write(json.dumps({"at": time.time(), **line}) + "\n")
        file.flush()
        os.fsync(file.fileno())

    def sources(self) -> dict[str, tuple[str | None, float]]:
        """URI of each object that was left behind and is not known to be deleted -> where its value went, and when.

        Raises:
            ConfigurationError: The file is no journal.
        """
        sources: dict[str, tuple[str | None, float]] = {}
        if not self.path.exists():
            return sources
        try:
            with self.path.open(encoding="utf-8") as lines:
                for text in lines:
                    try:
                        line = json.loads(text)
                    except ValueError:
                        continue  # empty, or cut short by a crash: its row was not switched
                    if "deleted" in line:
                        sources.pop(line["deleted"], None)
                    elif line.get("from"):
                        sources[line["from"]] = (line.get("to"), float(line["at"]))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ConfigurationError(
                "The file is no journal of a migration", where=self.path, hint="Name its journal: --journal FILE."
            ) from error
        return sources


@dataclass(frozen=True)
class Migration:
    """Moves values: ``workers`` of them are converted at once, their rows switched one after another."""

    conversion: Conversion
    source: ReferenceSource
    writer: RowWriter
    journal: Journal
    workers: int = 4

    def run(self, moves: Iterable[Move]) -> Iterator[MoveResult]:
        """Move everything, in order.

        Raises:
            ReferencesUnavailableError: The database went away.
            XCargoError: The last of twenty failures of stores or connections in a row.
        """
        failures = 0
        for move, outcome in prefetch_ordered(
            moves, self._convert, size_bytes=lambda _: 0, workers=self.workers, window_bytes=0
        ):
            result = self._switch(move, *outcome) if isinstance(outcome, tuple) else self._not_moved(move, outcome)
            yield result
            is_of_store = isinstance(outcome, (StoreError, ConfigurationError))
            is_lasting = is_of_store and not isinstance(outcome, ObjectNotFoundError)
            failures = failures + 1 if result.status is MoveStatus.FAILED and is_lasting else 0
            if failures >= _MAX_FAILURES and isinstance(outcome, XCargoError):
                raise outcome

    def _convert(self, move: Move) -> tuple[Move, tuple[Any, str | None] | NotMovableError | XCargoError]:
        try:
            return move, self.conversion.convert(move)
        except (NotMovableError, XCargoError) as error:
            return move, error

    def _not_moved(self, move: Move, error: NotMovableError | XCargoError) -> MoveResult:
        if isinstance(error, (SweepRefusedError, ReferencesUnavailableError)):
            raise error
        if isinstance(error, StaysInlineError):
            return MoveResult(move, MoveStatus.FITS)
        if isinstance(error, (NotMovableError, ObjectExpiredError)):
            return MoveResult(move, MoveStatus.LEFT, str(error))
        if self.source.current(move.row) != move.row.value:
            return MoveResult(move, MoveStatus.CHANGED)
        return MoveResult(move, MoveStatus.FAILED, str(error))

    def _switch(self, move: Move, value: Any, target: str | None) -> MoveResult:
        where = move.row.coordinate
        self.journal.note(
            **{"from": move.source, "to": target},
            **{name: getattr(where, name) for name in ("dag_id", "run_id", "task_id", "map_index", "key")},
        )
        if not self.writer.switch(move.row, value):
            return MoveResult(move, MoveStatus.CHANGED)
        return MoveResult(move, MoveStatus.MOVED, target=target)
