"""Stored values read back: is each object there, and is it what was put?"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from typing import Any

from xcargo.errors import (
    CodecError,
    IntegrityError,
    ObjectExpiredError,
    ObjectNotFoundError,
    RootNotFoundError,
    XCargoError,
)
from xcargo.lifecycle.references import XComRow
from xcargo.model.envelope import is_envelope

__all__ = ["VerifiedObject", "VerifyStatus", "verify_objects"]


class VerifyStatus(str, Enum):
    """What became of an object. Append-only."""

    OK = "ok"
    MISSING = "missing"
    DAMAGED = "damaged"
    UNREADABLE = "unreadable"
    """It could not be read: no right, no answer, a place that is not configured. It may be fine."""
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
    rows: Iterable[XComRow],
    read_back: Callable[[XComRow], None],
    current: Callable[[XComRow], Any],
    *,
    workers: int = 8,
) -> Iterator[VerifiedObject]:
    """A verdict on each row that refers to an object, in the order of the rows, ``workers`` of them at once.

    ``read_back`` reads the object of a row and raises what is wrong with it; ``current`` gives a row's value
    now: an object that is missing because its row changed meanwhile is no fault.
    """
    waiting: deque[Future[VerifiedObject]] = deque()
    with ThreadPoolExecutor(workers, "xcargo-verify") as pool:
        try:
            for row in rows:
                if is_envelope(row.value) and "uri" in row.value:
                    waiting.append(pool.submit(_checked, row, read_back, current))
                if len(waiting) >= 4 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _checked(row: XComRow, read_back: Callable[[XComRow], None], current: Callable[[XComRow], Any]) -> VerifiedObject:
    try:
        read_back(row)
    except XCargoError as error:
        now = current(row)
        if not is_envelope(now) or now.get("uri") != row.value["uri"]:
            return VerifiedObject(row, VerifyStatus.GONE)
        return VerifiedObject(row, _verdict(error), why=str(error))
    return VerifiedObject(row, VerifyStatus.OK, row.value.get("stored_bytes") or 0)


def _verdict(error: XCargoError) -> VerifyStatus:
    if isinstance(error, ObjectExpiredError):
        return VerifyStatus.EXPIRED
    if isinstance(error, (ObjectNotFoundError, RootNotFoundError)):
        return VerifyStatus.MISSING
    if isinstance(error, (IntegrityError, CodecError)):
        return VerifyStatus.DAMAGED
    return VerifyStatus.UNREADABLE
