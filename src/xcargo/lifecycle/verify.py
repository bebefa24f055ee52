"""Stored values read back: is each object there, and is it what was put?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial

from xcargo.errors import (
    CodecError,
    IntegrityError,
    MissingDependencyError,
    ObjectExpiredError,
    ObjectNotFoundError,
    RootNotFoundError,
    XCargoError,
)
from xcargo.lifecycle.references import EVERYTHING, ReferenceSource, XComFilter, XComRow
from xcargo.model.envelope import is_envelope
from xcargo.pipeline.pipeline import Pipeline
from xcargo.pipeline.prefetch import prefetch_ordered

__all__ = ["VerifiedObject", "VerifyStatus", "verify_objects"]


class VerifyStatus(str, Enum):
    """What became of an object. Append-only."""

    OK = "ok"
    MISSING = "missing"
    DAMAGED = "damaged"
    UNREADABLE = "unreadable"
    """It could not be read: no right, no answer, a root that is not configured. It may be fine."""
    EXPIRED = "expired"
    """A retention rule let it go, and its row stays."""
    GONE = "gone"
    """Its row was deleted or overwritten meanwhile, and the object with it."""

    @property
    def is_problem(self) -> bool:
        """Whether a value is lost, or may be."""
        return self in (VerifyStatus.MISSING, VerifyStatus.DAMAGED, VerifyStatus.UNREADABLE)

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class VerifiedObject:
    """One row whose object was read back."""

    row: XComRow
    status: VerifyStatus
    stored_bytes: int = 0
    why: str = ""


def verify_objects(
    source: ReferenceSource, pipeline: Pipeline, *, where: XComFilter = EVERYTHING, workers: int = 8
) -> Iterator[VerifiedObject]:
    """Read back the object of every row that refers to one, ``workers`` of them at once, in the order of the rows.

    An object that is missing because its row was changed meanwhile is no fault.
    """
    rows = (row for row in source.rows(where, only_envelopes=True) if is_envelope(row.value) and "uri" in row.value)
    verify = partial(_verify, source, pipeline)
    return prefetch_ordered(rows, verify, size_bytes=lambda _: 0, workers=workers, window_bytes=0)


def _verify(source: ReferenceSource, pipeline: Pipeline, row: XComRow) -> VerifiedObject:
    try:
        pipeline.verify(row.value, row.coordinate.dag_id)
    except XCargoError as error:
        now = source.current(row)
        if not is_envelope(now) or now.get("uri") != row.value["uri"]:
            return VerifiedObject(row, VerifyStatus.GONE)
        return VerifiedObject(row, _status_of(error), why=str(error))
    return VerifiedObject(row, VerifyStatus.OK, row.value.get("stored_bytes") or 0)


def _status_of(error: XCargoError) -> VerifyStatus:
    if isinstance(error, ObjectExpiredError):
        return VerifyStatus.EXPIRED
    if isinstance(error, (ObjectNotFoundError, RootNotFoundError)):
        return VerifyStatus.MISSING
    # What needs a library or a newer release is as it was stored.
    if isinstance(error, (IntegrityError, CodecError)) and not isinstance(error, MissingDependencyError):
        return VerifyStatus.DAMAGED
    return VerifyStatus.UNREADABLE
