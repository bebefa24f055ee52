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
from xcargo.lifecycle.references import Row
from xcargo.model.envelope import is_envelope

__all__ = ["Checked", "Verdict", "check"]


class Verdict(str, Enum):
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

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Checked:
    """One row whose object was read back."""

    row: Row
    verdict: Verdict
    stored_bytes: int = 0
    why: str = ""


def check(
    rows: Iterable[Row], read_back: Callable[[Row], None], current: Callable[[Row], Any], *, workers: int = 8
) -> Iterator[Checked]:
    """A verdict on each row that refers to an object, in the order of the rows, ``workers`` of them at once.

    ``read_back`` reads the object of a row and raises what is wrong with it; ``current`` gives a row's value
    now: an object that is missing because its row changed meanwhile is no fault.
    """
    waiting: deque[Future[Checked]] = deque()
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


def _checked(row: Row, read_back: Callable[[Row], None], current: Callable[[Row], Any]) -> Checked:
    try:
        read_back(row)
    except XCargoError as error:
        now = current(row)
        if not is_envelope(now) or now.get("uri") != row.value["uri"]:
            return Checked(row, Verdict.GONE)
        return Checked(row, _verdict(error), why=str(error))
    return Checked(row, Verdict.OK, row.value.get("stored_bytes") or 0)


def _verdict(error: XCargoError) -> Verdict:
    if isinstance(error, ObjectExpiredError):
        return Verdict.EXPIRED
    if isinstance(error, (ObjectNotFoundError, RootNotFoundError)):
        return Verdict.MISSING
    if isinstance(error, (IntegrityError, CodecError)):
        return Verdict.DAMAGED
    return Verdict.UNREADABLE
