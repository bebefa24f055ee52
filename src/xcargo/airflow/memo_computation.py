"""A memoized result while its task computes it: others may wait for it, and its entry is stored with its row."""

from __future__ import annotations

import logging
import time
from asyncio import CancelledError
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from threading import Event
from typing import Any

from xcargo.airflow import compat, runtime
from xcargo.airflow.memo_fingerprint import Options
from xcargo.errors import ObjectExistsError, XCargoError
from xcargo.model.coordinate import Coordinate
from xcargo.pipeline.memo import Claim, Entries, Entry, Fingerprint

__all__ = ["RETURN_VALUE", "Computation", "RunningTask", "computing", "forget", "is_computing"]

log = logging.getLogger(__name__)

RETURN_VALUE = "return_value"
"""XCom key of what a task returns."""

_FIRST_PAUSE_SECONDS, _LAST_PAUSE_SECONDS = 0.5, 10.0

_inside: ContextVar[bool] = ContextVar("xcargo_memoized", default=False)


@dataclass(frozen=True)
class RunningTask:
    """The task instance that runs."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    attempt: str | None
    task: Any = field(compare=False, repr=False)

    @classmethod
    def of(cls, context: Any) -> RunningTask:
        """That of Airflow's context."""
        ti = context["ti"]
        mapped = getattr(ti, "map_index", None)
        attempt = str(ti.id) if compat.KEEPS_ATTEMPTS and getattr(ti, "id", None) else None
        return cls(ti.dag_id, ti.run_id, ti.task_id, -1 if mapped is None else mapped, attempt, ti.task)

    @property
    def identity(self) -> tuple[str, str, str, int]:
        """As claims have it."""
        return self.dag_id, self.run_id, self.task_id, self.map_index

    def coordinate(self, key: str = RETURN_VALUE) -> Coordinate:
        """That of one of its XComs."""
        return Coordinate(self.dag_id, self.run_id, self.task_id, key, self.map_index, self.attempt)


@dataclass
class Computation:
    """A result that is being computed, and its rows so far."""

    options: Options
    fingerprint: Fingerprint
    entries: Entries
    task: RunningTask
    started: float = 0.0
    is_claimed: bool = False
    """Whether others may wait for it."""
    rows: dict[str, Any] = field(default_factory=dict)
    is_computed: bool = False
    """Whether the function has returned: a result that it pushes by itself is not yet the one."""
    result: Any = None
    """What it returned."""

    def claim(self, wait: timedelta, refused: Entry | None, stopped: Event) -> bool:
        """Wait for who computes it; whether this task is to compute it, and others may wait for that.

        One who is gone cannot say so: after ``wait`` nobody waits for it any longer.

        Args:
            wait: For how long.
            refused: The entry that there is, if it cannot be used: it is overtaken.
            stopped: Set by another thread to end the wait.
        """
        key, by = self.fingerprint.key, self.task.identity
        ends, pause = time.monotonic() + wait.total_seconds(), _FIRST_PAUSE_SECONDS
        while True:
            with suppress(ObjectExistsError):
                self.entries.claim(key, by)
                self.is_claimed = True
                return True
            found = self.entries.find(key)
            left = ends - time.monotonic()
            is_over = isinstance(found, Claim) and (found.by == by or found.is_older_than(wait))
            if is_over or (refused is not None and found == refused):
                self.entries.claim(key, by, overtakes=True)
                self.is_claimed = True
                return True
            if isinstance(found, Entry) or left <= 0:
                return False
            if isinstance(found, Claim) and pause == _FIRST_PAUSE_SECONDS:
                _, run_id, task_id, _ = found.by
                log.info("xcargo waits up to %.0f s for task %r of run %r to compute the result", left, task_id, run_id)
            if stopped.wait(min(pause, left)):
                raise CancelledError
            pause = min(2 * pause, _LAST_PAUSE_SECONDS)

    def release(self) -> None:
        """Let nobody wait for it any longer."""
        if self.is_claimed:
            with suppress(XCargoError):
                self.entries.release(self.fingerprint.key, self.task.identity)

    def start(self) -> None:
        """Note from now on what the task pushes."""
        self.started = time.monotonic()
        _current[self.task.identity] = self
        if _note not in runtime.on_push:
            runtime.on_push.append(_note)
            runtime.on_failed_push.append(_give_up)

    def returned(self, result: Any) -> Any:
        """The function's result, which is pushed next, unless it is None."""
        self.is_computed, self.result = True, result
        if result is None:
            self.release()
        return result

    def note(self, key: str, value: Any, row: Any) -> None:
        """Note the row of a value, and store the entry with the last of them, which is that of the result."""
        self.rows[key] = deepcopy(row)  # a plain value is its own row, and the function may change it yet
        if key != RETURN_VALUE or not self.is_computed:
            return
        del _current[self.task.identity]
        if value is not self.result:  # a decorator or an operator would get its own result in place of the function's
            log.warning("xcargo does not note the result, since the task pushes another one than its function returned")
            self.release()
            return
        now, expires = datetime.now(timezone.utc), self.options.expires
        entry = Entry(
            key=self.fingerprint.key,
            dag_id=self.task.dag_id,
            run_id=self.task.run_id,
            task_id=self.task.task_id,
            map_index=self.task.map_index,
            rows=self.rows,
            digests=self.fingerprint.digests,
            seconds=round(time.monotonic() - self.started, 3),
            created_at=now.isoformat(timespec="seconds"),
            expires_at=None if expires is None else (now + expires).isoformat(timespec="seconds"),
        )
        try:
            self.entries.put(entry)
        except XCargoError as error:
            log.warning("xcargo could not note the result, so that it is not reused: %s", error)
            self.release()


_current: dict[tuple[str, str, str, int], Computation] = {}


def forget(task: RunningTask) -> None:
    """Note no more of what a task pushes: of an earlier try in this process, say."""
    _current.pop(task.identity, None)


def is_computing() -> bool:
    """Whether something memoized runs: another that it calls, or itself, is simply called."""
    return _inside.get()


@contextmanager
def computing(computation: Computation | None) -> Iterator[Callable[[Any], Any]]:
    """While a result is computed, which goes through what this gives. If that fails, nobody waits for it any longer."""
    token = _inside.set(True)
    try:
        yield lambda result: result if computation is None else computation.returned(result)
    except BaseException:
        if computation is not None:
            computation.release()
        raise
    finally:
        _inside.reset(token)


def _computation_of(coordinate: Coordinate) -> Computation | None:
    return _current.get((coordinate.dag_id, coordinate.run_id, coordinate.task_id, coordinate.map_index))


def _note(coordinate: Coordinate, value: Any, row: Any) -> None:
    """After a push. Control rows, which Airflow reads itself, are not noted: each run writes its own."""
    computation = _computation_of(coordinate)
    if computation is not None and not runtime.pipeline().rules.control_keys.fullmatch(coordinate.key):
        computation.note(coordinate.key, value, row)


def _give_up(coordinate: Coordinate) -> None:
    """After a push that failed: nobody waits for the result."""
    computation = _computation_of(coordinate)
    if computation is not None:
        computation.release()
