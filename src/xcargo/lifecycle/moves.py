"""Stored values moved to where they belong, row by row, while Airflow goes on.

For each row: the value is stored anew, read back, noted in the journal, and only then the row is switched, if it still
holds what was read. Nothing of the source is deleted by that. So a migration may be killed at any moment: each row
refers to its old object or to its new one, both whole. The next one finds the rows that are left; where it stores a
value once more, it does so under the same key.
"""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, cast

from xcargo.errors import (
    ConfigurationError,
    ObjectExpiredError,
    ObjectNotFoundError,
    ReferencesUnavailableError,
    StoreError,
    SweepRefusedError,
    XCargoError,
)
from xcargo.lifecycle.references import XComRow
from xcargo.model.coordinate import Coordinate

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "DeterministicCoordinate",
    "Journal",
    "Migration",
    "Move",
    "MoveResult",
    "MoveStatus",
    "NotMovableError",
    "StaysInlineError",
    "deletable_sources",
]

_MAX_ERRORS = 20
"""So many failures of a place in a row mean that none of the rest will go better."""


class MoveStatus(str, Enum):
    """What became of a row. Append-only."""

    PLANNED = "planned"
    MOVED = "moved"
    LEFT = "left"
    """It cannot go where it was to go, and is as it was."""
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
    """A row that is not where it belongs. ``kind`` is ``database``, ``store``, ``legacy`` or ``stock``."""

    row: XComRow
    kind: str
    size_bytes: int
    source: str | None = None
    """URI of the object that it leaves behind; None if there is none."""


@dataclass(frozen=True)
class MoveResult:
    """How a step ended."""

    step: Move
    status: MoveStatus
    why: str = ""
    target: str | None = None


class NotMovableError(Exception):
    """Raised by a conversion: why a value cannot go where it was to go."""


class StaysInlineError(NotMovableError):
    """Raised by a conversion: the value belongs into the row that it is in."""


class DeterministicCoordinate(Coordinate):
    """A coordinate whose object key is always the same, so that a value that is stored twice is stored once."""

    pin: str

    @classmethod
    def of(cls, coordinate: Coordinate, pin: str) -> DeterministicCoordinate:
        """The coordinate, with ``pin`` (hex digits) in place of what makes a key unique."""
        self = cls(**{name: getattr(coordinate, name) for name in coordinate.__dataclass_fields__})
        object.__setattr__(self, "pin", pin)
        return self

    def object_key(self, *, suffix: str = "", unique: str | None = None) -> str:
        return super().object_key(suffix=suffix, unique=unique or self.pin)


class Journal:
    """The file that tells what was moved from where, a line each: what ``--delete-source`` goes by."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a", encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(
                f"The journal cannot be written: {error.strerror}",
                where=self.path,
                hint="Name a file that this user may write: --journal FILE.",
            ) from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()

    def note(self, **line: Any) -> None:
        """Add a line; it is on the disk when this returns."""
        file = cast("IO[str]", self._file)  # open inside the with block
        file.write(json.dumps({"at": time.time(), **line}) + "\n")
        file.flush()
        os.fsync(file.fileno())

    def sources(self) -> dict[str, tuple[str | None, float]]:
        """URI of each object that was left behind and is not known to be deleted -> where its value went, and when."""
        found: dict[str, tuple[str | None, float]] = {}
        if not self.path.exists():
            return found
        with self.path.open(encoding="utf-8") as lines:
            for text in lines:
                try:
                    line = json.loads(text)
                except ValueError:
                    continue  # cut short by a crash: its row was not switched
                if "deleted" in line:
                    found.pop(line["deleted"], None)
                elif line.get("from"):
                    found[line["from"]] = (line.get("to"), float(line["at"]))
        return found


@dataclass(frozen=True)
class Migration:
    """What a migration does with a row, given by those who know Airflow."""

    convert: Callable[[Move], tuple[Any, str | None]]
    """Stores a step's value where it belongs and reads it back. Gives the new row and the object's URI.
    Raises NotMovableError, or an XCargoError."""
    switch: Callable[[XComRow, Any], bool]
    """Puts a value into a row if the row still holds what was read. Gives whether it did."""
    current: Callable[[XComRow], Any]
    """The value of a row now; None if it is gone."""
    workers: int = 4

    def run(self, steps: Iterable[Move], journal: Journal) -> Iterator[MoveResult]:
        """Move everything; values are converted at once by several workers, rows switched one after another.

        Raises the last error after twenty failures in a row, ReferencesUnavailableError when the database goes away.
        """
        waiting: deque[tuple[Move, Future[tuple[Any, str | None]]]] = deque()
        failures = 0
        with ThreadPoolExecutor(self.workers, "xcargo-migrate") as pool:
            try:
                for step in _ahead(steps, waiting, pool, self):
                    moved, error = self._finished(*step, journal)
                    failures = failures + 1 if error is not None else 0
                    yield moved
                    if error is not None and failures >= _MAX_ERRORS:
                        raise error
            finally:
                for _, future in waiting:
                    future.cancel()

    def _finished(
        self, step: Move, future: Future[tuple[Any, str | None]], journal: Journal
    ) -> tuple[MoveResult, XCargoError | None]:
        try:
            value, target = future.result()
        except StaysInlineError:
            return MoveResult(step, MoveStatus.FITS), None
        except NotMovableError as why:
            return MoveResult(step, MoveStatus.LEFT, str(why)), None
        except (SweepRefusedError, ReferencesUnavailableError):
            raise
        except ObjectExpiredError as error:
            return MoveResult(step, MoveStatus.LEFT, str(error)), None
        except XCargoError as error:
            if self.current(step.row) != step.row.value:
                return MoveResult(step, MoveStatus.CHANGED), None
            is_of_the_place = isinstance(error, (StoreError, ConfigurationError))
            lasting = error if is_of_the_place and not isinstance(error, ObjectNotFoundError) else None
            return MoveResult(step, MoveStatus.FAILED, str(error)), lasting
        where = step.row.coordinate
        journal.note(
            **{"from": step.source, "to": target},
            **{name: getattr(where, name) for name in ("dag_id", "run_id", "task_id", "map_index", "key")},
        )
        if not self.switch(step.row, value):
            return MoveResult(step, MoveStatus.CHANGED), None
        return MoveResult(step, MoveStatus.MOVED, target=target), None


def _ahead(
    steps: Iterable[Move],
    waiting: deque[tuple[Move, Future[tuple[Any, str | None]]]],
    pool: ThreadPoolExecutor,
    migration: Migration,
) -> Iterator[tuple[Move, Future[tuple[Any, str | None]]]]:
    for step in steps:
        waiting.append((step, pool.submit(migration.convert, step)))
        if len(waiting) >= 2 * migration.workers:
            yield waiting.popleft()
    while waiting:
        yield waiting.popleft()


def deletable_sources(
    sources: Mapping[str, tuple[str | None, float]],
    referred: set[str],
    *,
    now: float,
    grace_seconds: float,
    is_whole: Callable[[str], bool],
) -> Iterator[tuple[str, str]]:
    """Each source object with the reason to keep it, empty if it may go.

    It may go if no row refers to it, the value that was made of it is in use and whole, and that has been so for
    ``grace_seconds``: a task that read the row before may still be reading the object. ``referred`` holds every URI of
    ``sources`` and of their targets that a row refers to.
    """
    for source, (target, at) in sources.items():
        if source in referred:
            yield source, "a row refers to it"
        elif now - at < grace_seconds:
            yield source, f"it was left less than {grace_seconds:.0f} s ago"
        elif target is not None and target not in referred:
            yield source, "no row refers to what was made of it; xcargo gc looks after both"
        elif target is not None and not is_whole(target):
            yield source, "what was made of it cannot be read back"
        else:
            yield source, ""
