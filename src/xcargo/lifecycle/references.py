"""What refers to stored objects: rows of XComs, the runs that they belong to, and where both are read. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Protocol

from xcargo.errors import ReferencesUnavailableError
from xcargo.model.coordinate import Coordinate
from xcargo.model.envelope import FORMAT, MARKER, VERSION, is_envelope, upgrade_hint

__all__ = ["EVERYTHING", "Reference", "ReferenceSource", "Run", "XComFilter", "XComRow", "reference_in"]


@dataclass(frozen=True)
class Run:
    """A Dag run. ``date`` is its logical date, or the date after which it runs if it has none (Airflow 3).

    A pull with ``include_prior_dates`` reads the row of any run of the Dag whose ``date`` is not later than its own.
    """

    dag_id: str
    run_id: str
    state: str | None = None
    """Airflow's word: ``queued``, ``running``, ``success`` or ``failed``."""
    ended: datetime | None = None
    date: datetime | None = None


@dataclass(frozen=True)
class Reference:
    """One row, of an XCom or of the state store, that refers to an object. All times are in UTC."""

    coordinate: Coordinate
    """Of a row in an archive whose task was deleted, too, only what the row itself holds: the other parts are empty."""
    uri: str
    stored_bytes: int
    size_bytes: int
    created_at: datetime | None
    """When the value was pushed, by the clock of the worker."""
    source: str
    """Table of the row, or ``rest``."""
    run_state: str | None = None
    run_ended: datetime | None = None
    run_date: datetime | None = None

    @property
    def archived(self) -> bool:
        """Whether the row is in a table where ``airflow db clean`` keeps what it deleted."""
        return self.source.startswith("_")


@dataclass(frozen=True)
class XComRow:
    """A row, of an XCom or of the state store: its value as JSON, or as bytes where it is none (pickled, Airflow 2)."""

    coordinate: Coordinate
    value: Any = field(repr=False)
    source: str
    """Table of the row, or ``rest``."""
    run: Run | None = None
    raw: Any = field(default=None, repr=False)
    """The value as the database holds it."""
    identity: tuple[Any, ...] = ()
    """What finds the row again: in a database its primary key."""

    @property
    def archived(self) -> bool:
        """Whether it is in a table where ``airflow db clean`` keeps what it deleted: such a row is only read."""
        return self.source.startswith("_")


@dataclass(frozen=True)
class XComFilter:
    """Matches the XComs that match every part that is not None; ``*`` stands for any characters."""

    dag_id: str | None = None
    run_id: str | None = None
    task_id: str | None = None
    key: str | None = None
    map_index: int | None = None
    state: bool | None = None
    """Whether to match rows of the state store, or XComs; None matches both."""
    asset: str | None = None
    """Matches keys of the state of such assets only."""

    def matches(self, coordinate: Coordinate) -> bool:
        """Whether a coordinate matches."""
        parts = ("dag_id", "run_id", "task_id", "key")
        if self.state not in (None, coordinate.state is not None):
            return False
        if self.asset is not None and not _matches(self.asset, (coordinate.state and coordinate.state.asset) or ""):
            return False
        return all(_matches(getattr(self, name), getattr(coordinate, name)) for name in parts) and (
            self.map_index is None or self.map_index == coordinate.map_index
        )


EVERYTHING = XComFilter()


class ReferenceSource(Protocol):
    """Where live references are read from: the metadata database, or Airflow's REST API.

    Its methods stream in bounded memory, and raise ReferencesUnavailableError as soon as they cannot list everything.
    """

    @property
    def origin(self) -> Mapping[str, str]:
        """``database`` or ``api``, and where that is, without credentials."""

    @property
    def hides_attempts(self) -> bool:
        """Whether rows of earlier attempts cannot be read (REST, Airflow 3.4).

        An object of one attempt may then be in use as long as its run exists.
        """

    @property
    def hides_dags(self) -> bool:
        """Whether there may be Dags that cannot be seen (REST: those that the user has no right to).

        An object of a Dag that `runs` does not show may then be in use.
        """

    @property
    def hides_state(self) -> bool:
        """Whether rows of the state store are not read (REST): any of its objects may then be in use."""

    def iterate(self, where: XComFilter = EVERYTHING) -> Iterator[Reference]:
        """Every reference that was there from the beginning to the end of the iteration; archives come last."""

    def runs(self, where: XComFilter = EVERYTHING) -> Iterator[Run]:
        """Every Dag run, whether it has XComs or not; ``where`` counts with Dag and run."""

    def rows(self, where: XComFilter = EVERYTHING, *, only_envelopes: bool = False) -> Iterator[XComRow]:
        """The rows themselves, in the same order; all of them, or those whose value is (or may be) an envelope."""

    def current(self, row: XComRow) -> Any:
        """The value of a row now; None if the row is gone."""


def reference_in(row: XComRow) -> Reference | None:
    """What a row refers to, or None if its value is in the row itself. Every envelope with a URI is a reference.

    One of the present version with neither is made up: it refers to nothing, and must not keep sweeps from working.

    Raises:
        ReferencesUnavailableError: The envelope is of a newer xcargo and has neither a URI nor data.
    """
    envelope, run = row.value, row.run
    if not is_envelope(envelope):
        return None
    uri = envelope.get("uri")
    if type(uri) is not str:
        if type(envelope.get("data")) is str or envelope[MARKER] == f"{FORMAT}/{VERSION}":
            return None
        raise ReferencesUnavailableError(
            f"A row holds an envelope ({envelope[MARKER]}) of which it is not known what it refers to",
            where=row.coordinate,
            hint=upgrade_hint(envelope.get("created_by")) or "Upgrade xcargo here to the version that the workers run.",
        )
    return Reference(
        row.coordinate,
        uri,
        _count(envelope.get("stored_bytes")),
        _count(envelope.get("size_bytes")),
        parse_time(envelope.get("created_at")),
        row.source,
        run.state if run else None,
        run.ended if run else None,
        run.date if run else None,
    )


def parse_time(value: Any) -> datetime | None:
    """A time in UTC as a database or JSON writes it; without a zone it is in UTC already. None if it is no time."""
    if isinstance(value, str):
        try:
            # Python 3.10 reads neither a Z nor fractions of other than 3 or 6 digits.
            value = datetime.fromisoformat(
                re.sub(r"\.(\d+)", lambda m: f".{m[1][:6]:0<6}", value.strip().replace("Z", "+00:00"))
            )
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    try:
        return value.replace(tzinfo=timezone.utc) if value.tzinfo is None else value.astimezone(timezone.utc)
    except OverflowError:  # in the year 1 or 9999 of another zone
        return None


def _count(value: Any) -> int:
    return value if type(value) is int and value >= 0 else 0


def _matches(pattern: str | None, text: str) -> bool:
    if pattern is None:
        return True
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text, re.DOTALL) is not None
