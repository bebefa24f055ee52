"""What happens around a task whose result may be reused: it is looked up before, and its entry is stored after."""

from __future__ import annotations

import logging
import time
from asyncio import CancelledError
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from threading import Event
from typing import Any

from xcargo.airflow import compat, metrics, runtime
from xcargo.airflow.memo_inputs import READERS, code_digests, digest_of, version_digest
from xcargo.airflow.rows import load_parsed
from xcargo.errors import ConfigurationError, ObjectExistsError, XCargoError
from xcargo.model.coordinate import Coordinate
from xcargo.model.envelope import is_envelope
from xcargo.pipeline.function_source import SourceChangedError
from xcargo.pipeline.handle import Reused, ReusedDict, ReusedList
from xcargo.pipeline.memo import Claim, Entries, Entry, Fingerprint, Scope, changes, entries_for, reuse

__all__ = ["MISS", "RECOMPUTE", "Noted", "Options", "computing", "is_computing", "look_up", "options_of"]

log = logging.getLogger(__name__)

RECOMPUTE = "xcargo_recompute"
"""Key of a run's ``conf``, or name of a param: true, or a list of task ids, computes again whatever is known."""

MISS: Any = object()
"""In place of a result: there is none that may be reused."""

_RETURN_VALUE = "return_value"
_SHOWN_CHANGES = 5
_LONGEST = timedelta(days=36500)
_FIRST_PAUSE_SECONDS, _LAST_PAUSE_SECONDS = 0.5, 10.0

_inside: ContextVar[bool] = ContextVar("xcargo_memoized", default=False)


def is_computing() -> bool:
    """Whether something memoized runs: another that it calls, or itself, is simply called."""
    return _inside.get()


@dataclass(frozen=True)
class Options:
    """See `memoize`."""

    version: str | None = None
    depends_on: tuple[str, ...] = ()
    ignore: frozenset[str] = frozenset()
    expires: timedelta | None = None
    wait: timedelta | None = None
    scope: Scope = "task"
    on_miss: Callable[[list[str] | None], object] | None = None

    def __post_init__(self) -> None:
        if self.scope not in ("task", "dag", "global"):
            raise ConfigurationError(f"memoize knows no scope {self.scope!r}", hint="Write task, dag or global.")
        for name, given in (("expires", self.expires), ("wait", self.wait)):
            if given is not None and not (isinstance(given, timedelta) and timedelta() <= given <= _LONGEST):
                raise ConfigurationError(
                    f"memoize takes no {name}={given!r}", hint="Give a timedelta of up to 100 years, or leave it out."
                )
        for name in self.depends_on:
            kind, _, rest = name.partition(":")
            if kind not in READERS or not rest or (kind == "file" and not rest.startswith("/")):
                raise ConfigurationError(
                    f"memoize cannot depend on {name!r}",
                    hint="Write variable:NAME, connection:ID or file:/absolute/path.",
                )


def options_of(*, depends_on: Iterable[str] = (), ignore: Iterable[str] = (), **more: Any) -> Options:
    """The options by the arguments of `memoize`. Raises ConfigurationError if one makes no sense."""
    return Options(depends_on=tuple(depends_on), ignore=frozenset(ignore), **more)


@dataclass(frozen=True)
class _Task:
    """The task instance that runs."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    attempt: str | None
    task: Any = field(compare=False, repr=False)

    @classmethod
    def of(cls, context: Any) -> _Task:
        ti = context["ti"]
        mapped = getattr(ti, "map_index", None)
        attempt = str(ti.id) if compat.KEEPS_ATTEMPTS and getattr(ti, "id", None) else None
        return cls(ti.dag_id, ti.run_id, ti.task_id, -1 if mapped is None else mapped, attempt, ti.task)

    @property
    def identity(self) -> tuple[str, str, str, int]:
        return self.dag_id, self.run_id, self.task_id, self.map_index

    def coordinate(self, key: str = _RETURN_VALUE) -> Coordinate:
        return Coordinate(self.dag_id, self.run_id, self.task_id, key, self.map_index, self.attempt)


@dataclass
class Noted:
    """A result that is being computed, and its rows so far."""

    options: Options
    fingerprint: Fingerprint
    entries: Entries
    task: _Task
    started: float
    is_claimed: bool
    """Whether others may wait for it."""
    rows: dict[str, Any] = field(default_factory=dict)
    is_computed: bool = False
    """Whether the function has returned: a result that it pushes by itself is not yet the one."""

    def release(self) -> None:
        """Let nobody wait for it any longer."""
        if self.is_claimed:
            with suppress(XCargoError):
                self.entries.release(self.fingerprint.key, self.task.identity)

    def returned(self, result: Any) -> Any:
        """The function's result, which is pushed next, unless it is None."""
        self.is_computed = True
        if result is None:
            self.release()
        return result


_noted: dict[tuple[str, str, str, int], Noted] = {}


@contextmanager
def computing(noted: Noted | None) -> Iterator[Callable[[Any], Any]]:
    """While a result is computed, which goes through what this gives. If that fails, nobody waits for it any longer."""
    token = _inside.set(True)
    try:
        yield lambda result: result if noted is None else noted.returned(result)
    except BaseException:
        if noted is not None:
            noted.release()
        raise
    finally:
        _inside.reset(token)


def look_up(
    context: Any, options: Options, code: Any, arguments: Mapping[str, Any], stopped: Event | None = None
) -> tuple[Any, Noted | None]:
    """The result of the task that runs, if it was computed before, else `MISS`; and where its result is to be noted.

    Args:
        context: Airflow's, of the task.
        options: By which its results are reused.
        code: The function or class that computes it.
        arguments: What it depends on, by name.
        stopped: Set by another thread to end the wait for others.

    Raises:
        UnsupportedTypeError: Something that the result depends on cannot be compared.
    """
    if not runtime.settings().memoize:
        return MISS, None
    task = _Task.of(context)
    _noted.pop(task.identity, None)
    forced = _is_forced(context, task)
    try:
        fingerprint = _fingerprint(options, task, code, arguments)
    except SourceChangedError as error:
        log.warning("xcargo computes the result, and does not note it: %s", error)
        return MISS, None
    try:
        entries = entries_for(runtime.pipeline(), task.coordinate())
        result, refused = (MISS, None) if forced else _reused(entries, task, fingerprint, options)
        if result is not MISS:
            return result, None
        changed, why = _reason(entries, fingerprint)  # before a claim takes the place of an entry
        is_claimed = False
        if not forced and options.wait is not None:
            try:
                is_claimed = _claimed(entries, task, fingerprint.key, options.wait, refused, stopped or Event())
                result = MISS if is_claimed else _reused(entries, task, fingerprint, options)[0]
            except XCargoError as error:
                log.warning("xcargo does not wait for others that compute the result: %s", error)
        if result is not MISS:
            return result, None
        log.info("xcargo computes the result (%s)", f"{RECOMPUTE} asks for it" if forced else why)
        metrics.count_memo(hit=False)
        if options.on_miss is not None:
            options.on_miss(changed)
    except XCargoError as error:
        log.warning("xcargo computes the result, since nothing can be looked up: %s", error)
        return MISS, None
    noted = _noted[task.identity] = Noted(options, fingerprint, entries, task, time.monotonic(), is_claimed)
    if _note not in runtime.on_push:
        runtime.on_push.append(_note)
        runtime.on_failed_push.append(_give_up)
    return MISS, noted


def _is_forced(context: Any, task: _Task) -> bool:
    """Whether the run asks for this task to be computed."""
    conf = getattr(context.get("dag_run"), "conf", None) or {}
    asked = conf.get(RECOMPUTE, (context.get("params") or {}).get(RECOMPUTE))
    return asked is True or (isinstance(asked, (list, tuple)) and task.task_id in asked)


def _claimed(entries: Entries, task: _Task, key: str, wait: timedelta, refused: Entry | None, stopped: Event) -> bool:
    """Wait for who computes a result; whether this task is to compute it, and others may wait for it.

    One who is gone cannot say so: after ``wait`` nobody waits for it any longer. An entry that was refused, since
    it expired or its object is gone, is overtaken.
    """
    ends, pause = time.monotonic() + wait.total_seconds(), _FIRST_PAUSE_SECONDS
    while True:
        try:
            entries.claim(key, task.identity)
        except ObjectExistsError:
            pass
        else:
            return True
        found = entries.find(key)
        left = ends - time.monotonic()
        is_over = isinstance(found, Claim) and (found.by == task.identity or found.is_older_than(wait))
        if is_over or (refused is not None and found == refused):
            entries.claim(key, task.identity, overtakes=True)
            return True
        if isinstance(found, Entry) or left <= 0:
            return False
        if isinstance(found, Claim) and pause == _FIRST_PAUSE_SECONDS:
            log.info("xcargo waits up to %.0f s for task %r of run %r to compute the result", left, *found.by[2:0:-1])
        if stopped.wait(min(pause, left)):
            raise CancelledError
        pause = min(2 * pause, _LAST_PAUSE_SECONDS)


def _fingerprint(options: Options, task: _Task, code: Any, arguments: Mapping[str, Any]) -> Fingerprint:
    if options.scope == "global" and not runtime.settings().memoize_across_dags:
        raise ConfigurationError(
            'memoize(scope="global") reuses results of other Dags, and that is off',
            hint="Set [xcargo] memoize_across_dags to True if every Dag may read every other one's results.",
        )
    digests = code_digests(code) if options.version is None else version_digest(options.version, options.scope, code)
    named = {f"argument {name}": value for name, value in arguments.items()}
    for name in options.depends_on:
        kind, _, rest = name.partition(":")
        named[name] = READERS[kind](rest)
    digests |= {what: digest_of(what, value) for what, value in named.items()}
    return Fingerprint(options.scope, task.dag_id, task.task_id, digests)


def _reason(entries: Entries, fingerprint: Fingerprint) -> tuple[list[str] | None, str]:
    """What changed since the last result, if there was one, and why the result is computed."""
    try:
        last = entries.latest(fingerprint.folder)
    except XCargoError:
        return None, "the last result cannot be used"
    if last is None:
        return None, "there is no earlier result"
    changed = changes(fingerprint.digests, last.digests)
    if not changed:
        return changed, "the last result is gone"
    more = f" and {len(changed) - _SHOWN_CHANGES} more" if len(changed) > _SHOWN_CHANGES else ""
    return changed, f"changed: {', '.join(changed[:_SHOWN_CHANGES])}{more}"


def _give_up(coordinate: Coordinate) -> None:
    """After a push that failed: nobody waits for the result."""
    if noted := _noted_of(coordinate):
        noted.release()


def _noted_of(coordinate: Coordinate) -> Noted | None:
    return _noted.get((coordinate.dag_id, coordinate.run_id, coordinate.task_id, coordinate.map_index))


def _note(coordinate: Coordinate, row: Any) -> None:
    """After a push: note a row of a result, and store the entry with the last of them, which is that of the result."""
    noted = _noted_of(coordinate)
    if noted is None or runtime.pipeline().rules.control_keys.fullmatch(coordinate.key):
        return
    noted.rows[coordinate.key] = row
    if coordinate.key != _RETURN_VALUE or not noted.is_computed:
        return
    del _noted[noted.task.identity]
    now, expires = datetime.now(timezone.utc), noted.options.expires
    entry = Entry(
        key=noted.fingerprint.key,
        dag_id=coordinate.dag_id,
        run_id=coordinate.run_id,
        task_id=coordinate.task_id,
        map_index=coordinate.map_index,
        rows=noted.rows,
        digests=noted.fingerprint.digests,
        seconds=round(time.monotonic() - noted.started, 3),
        created_at=now.isoformat(timespec="seconds"),
        expires_at=None if expires is None else (now + expires).isoformat(timespec="seconds"),
    )
    try:
        noted.entries.put(entry)
    except XCargoError as error:
        log.warning("xcargo could not note the result, so that it is not reused: %s", error)


def _reused(entries: Entries, task: _Task, fingerprint: Fingerprint, options: Options) -> tuple[Any, Entry | None]:
    """What the task returns in place of the result, which is copied; or `MISS`, and the entry that cannot be used."""
    try:
        entry = entries.read(fingerprint.key)
    except XCargoError as error:
        log.warning("xcargo does not use an entry of memoize: %s", error)
        return MISS, None
    if entry is None or entry.is_expired(options.expires):
        return MISS, entry
    if fingerprint.scope != "global" and entry.dag_id != task.dag_id:
        log.warning("xcargo does not use an entry of memoize: it is of Dag %r", entry.dag_id)
        return MISS, entry
    started = time.perf_counter()
    origin = {"dag": entry.dag_id, "run": entry.run_id, "task": entry.task_id, "at": entry.created_at}
    if entry.map_index >= 0:
        origin["map_index"] = str(entry.map_index)
    pipeline, rows = runtime.pipeline(), {}
    try:
        seen = _seen(entry, task)
        for key, row in entry.rows.items():
            if key != _RETURN_VALUE or seen is MISS or type(seen) in (dict, list):
                rows[key] = reuse(pipeline, row, task.coordinate(key), dag_id=entry.dag_id, origin=origin)
        result = _handed_over(rows, seen, task)
    except XCargoError as error:
        log.warning("xcargo computes the result again, since an earlier one cannot be used: %s", error)
        for row in rows.values():
            pipeline.purge(row, task.dag_id)
        return MISS, entry
    log.info(
        "xcargo reused the result that run %r computed at %s in %.1f s: %d bytes copied in the store, %.3f s",
        *(entry.run_id, entry.created_at, entry.seconds, entry.stored_bytes, time.perf_counter() - started),
    )
    metrics.count_memo(hit=True, seconds=entry.seconds, stored_bytes=entry.stored_bytes)
    return result, None


def _seen(entry: Entry, task: _Task) -> Any:
    """The result, where Airflow asks how long it is or (a branch, a short circuit) what it says; else `MISS`.

    Lists and dictionaries are copied by the store. Any other value is read and pushed again, so it is verified first:
    it may be read only during that push, when it is too late to compute it instead.
    """
    is_mapped_over = task.map_index < 0 and next(iter(task.task.iter_mapped_dependants()), None) is not None
    has_outputs = getattr(task.task, "multiple_outputs", False)
    if has_outputs or not (is_mapped_over or hasattr(task.task, "skip_all_except")):
        return MISS
    row = entry.rows[_RETURN_VALUE]
    value = load_parsed(row, entry.dag_id)
    if is_envelope(row) and type(value) not in (dict, list):
        runtime.pipeline().verify(row, entry.dag_id)
    return value


def _handed_over(rows: Mapping[str, Any], seen: Any, task: _Task) -> Any:
    """What Airflow's code is given, so that it pushes these rows, or the value that was `_seen`."""
    others = {key: _as_pushed(row, task) for key, row in rows.items() if key != _RETURN_VALUE}
    if getattr(task.task, "multiple_outputs", False):
        return _with_row(ReusedDict(others), rows[_RETURN_VALUE])
    for key, value in others.items():
        compat.current_context()["ti"].xcom_push(key=key, value=value)
    if seen is MISS:
        return _as_pushed(rows[_RETURN_VALUE], task)
    if is_envelope(rows.get(_RETURN_VALUE)):
        return _with_row((ReusedDict if type(seen) is dict else ReusedList)(seen), rows[_RETURN_VALUE])
    return seen


def _with_row(value: ReusedDict | ReusedList, row: Any) -> Any:
    value.row = row
    return value


def _as_pushed(row: Any, task: _Task) -> Any:
    return Reused(row) if is_envelope(row) else load_parsed(row, task.dag_id)
