"""memoize: the result of a task is reused as long as nothing that it depends on has changed."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import wraps
from typing import Any, TypeVar, overload

from xcargo.airflow import compat, metrics, runtime
from xcargo.airflow.memo_inputs import READERS, digest_of, loaded
from xcargo.airflow.rows import load_parsed, purge
from xcargo.errors import ConfigurationError, UnsupportedTypeError, XCargoError
from xcargo.model.coordinate import Coordinate
from xcargo.model.envelope import is_envelope
from xcargo.pipeline.function_source import SourceChangedError, parts_of
from xcargo.pipeline.handle import Reused, ReusedDict, ReusedList
from xcargo.pipeline.memo import Entries, Entry, Fingerprint, Scope, changes, entries_for, reuse, value_digest

__all__ = ["RECOMPUTE", "memoize"]

log = logging.getLogger(__name__)

_F = TypeVar("_F", bound=Callable[..., Any])

RECOMPUTE = "xcargo_recompute"
"""Key of a run's ``conf``, or name of a param: true, or a list of task ids, computes again whatever is known."""

_RETURN_VALUE = "return_value"
_SHOWN_CHANGES = 5


@overload
def memoize(function: _F) -> _F: ...
@overload
def memoize(
    *,
    version: str | None = ...,
    depends_on: Iterable[str] = ...,
    ignore: Iterable[str] = ...,
    expires: timedelta | None = ...,
    scope: Scope = ...,
    on_miss: Callable[[list[str] | None], object] | None = ...,
) -> Callable[[_F], _F]: ...
def memoize(
    function: Any = None,
    *,
    version: str | None = None,
    depends_on: Iterable[str] = (),
    ignore: Iterable[str] = (),
    expires: timedelta | None = None,
    scope: Scope = "task",
    on_miss: Callable[[list[str] | None], object] | None = None,
) -> Any:
    """Reuse the result of a task as long as its code, its arguments and what else it depends on are the same.

    Write it under the task's own decorator::

        @task
        @xcargo.memoize(expires=timedelta(days=7))
        def train(frame, rounds=10): ...

    Outside of a task, the function is simply called.

    Args:
        function: The task's function.
        version: Stands for the function's code. By default its source does, with that of functions and classes of the
            same file that it uses, and constants.
        depends_on: What else a result depends on: ``variable:NAME``, ``connection:ID`` (where it leads to, without its
            password and extra) and ``file:/absolute/path`` (its bytes).
        ignore: Parameters on which the result does not depend.
        expires: For how long a result is reused.
        scope: Whose results are reused: those of this task, of all tasks of the Dag, or of all Dags. The last needs
            ``[xcargo] memoize_across_dags``.
        on_miss: Called before the function runs, with the names of what changed since the last result; None if there
            was none.
    """
    options = _Options(version, tuple(depends_on), frozenset(ignore), expires, scope, on_miss)
    return options.decorate(function) if function is not None else options.decorate


@dataclass(frozen=True)
class _Options:
    version: str | None
    depends_on: tuple[str, ...]
    ignore: frozenset[str]
    expires: timedelta | None
    scope: Scope
    on_miss: Callable[[list[str] | None], object] | None

    def __post_init__(self) -> None:
        if self.scope not in ("task", "dag", "global"):
            raise ConfigurationError(f"memoize knows no scope {self.scope!r}", hint="Write task, dag or global.")
        for name in self.depends_on:
            kind, _, rest = name.partition(":")
            if kind not in READERS or not rest or (kind == "file" and not rest.startswith("/")):
                raise ConfigurationError(
                    f"memoize cannot depend on {name!r}",
                    hint="Write variable:NAME, connection:ID or file:/absolute/path.",
                )

    def decorate(self, function: Any) -> Any:
        if not callable(function) or hasattr(function, "operator_class") or hasattr(function, "expand"):
            raise UnsupportedTypeError(
                "xcargo.memoize decorates a function, not a task", hint="Write @task above @xcargo.memoize."
            )
        memo = _Memo(function, self)
        call: Any
        if inspect.iscoroutinefunction(function):

            @wraps(function)
            async def call(*args: Any, **kwargs: Any) -> Any:
                result, args, kwargs, noted = await asyncio.to_thread(memo.look_up, args, kwargs)
                if result is not _MISS:
                    return result
                with _computing(noted):
                    return await function(*args, **kwargs)

        else:

            @wraps(function)
            def call(*args: Any, **kwargs: Any) -> Any:
                result, args, kwargs, noted = memo.look_up(args, kwargs)
                if result is not _MISS:
                    return result
                with _computing(noted):
                    return function(*args, **kwargs)

        call.memoized, memo.call = memo, call
        return call


_MISS: Any = object()
_inside: ContextVar[bool] = ContextVar("xcargo_memoized", default=False)
"""Whether a memoized function runs: one that it calls, itself too, is simply called."""


@contextmanager
def _computing(noted: _Noted | None) -> Iterator[None]:
    token = _inside.set(True)
    try:
        yield
    finally:
        _inside.reset(token)
    if noted is not None:
        noted.is_computed = True


class _Memo:
    """A function and how its results are reused."""

    def __init__(self, function: Callable[..., Any], options: _Options) -> None:
        self.call: Any = None
        """What takes the function's place; a decorator above it has its attributes too."""
        self._function = function
        self._options = options
        self._signature = inspect.signature(function)
        scope, module = options.scope, getattr(function, "__module__", "")
        self._name = {"task": (), "dag": (_qualname(function),)}.get(scope, (module, _qualname(function)))
        """Sets functions apart that reuse each other's results, where their source does not."""

    def look_up(self, args: Any, kwargs: Any) -> tuple[Any, Any, Any, _Noted | None]:
        """The result of a task that was computed before, or `_MISS`; the arguments, loaded if needed; what is noted."""
        context, noted = compat.current_context(), None
        if context is not None and self._is_function_of(context["ti"].task) and runtime.settings().memoize:
            task = _Task.of(context)
            _noted.pop(task.identity, None)
            forced = _is_forced(context, task)
            try:
                fingerprint = self._fingerprint(task, args, kwargs)
            except SourceChangedError as error:
                log.warning("xcargo computes the result, and does not note it: %s", error)
                return _MISS, loaded(args), loaded(kwargs), None
            try:
                entries = entries_for(runtime.pipeline(), task.coordinate())
                result = _MISS if forced else _reused(entries, task, fingerprint, self._options.expires)
                if result is not _MISS:
                    return result, (), {}, None
                self._report_miss(entries, fingerprint, forced=forced)
            except XCargoError as error:
                log.warning("xcargo computes the result, since nothing can be looked up: %s", error)
            else:
                noted = _noted[task.identity] = _Noted(self._options, fingerprint, entries, task, time.monotonic())
                if _note not in runtime.on_push:
                    runtime.on_push.append(_note)
        return _MISS, loaded(args), loaded(kwargs), noted

    def _is_function_of(self, task: Any) -> bool:
        """Whether the result of this call is to be that of the task: it may as well be called by a task's code."""
        own = getattr(getattr(task, "python_callable", None), "memoized", None) is self
        return own and not _inside.get() and getattr(task, "do_xcom_push", True)

    def _fingerprint(self, task: _Task, args: Any, kwargs: Any) -> Fingerprint:
        """All that the result depends on. Raises UnsupportedTypeError that names what cannot be compared."""
        if self._options.scope == "global" and not runtime.settings().memoize_across_dags:
            raise ConfigurationError(
                'memoize(scope="global") reuses results of other Dags, and that is off',
                hint="Set [xcargo] memoize_across_dags to True if every Dag may read every other one's results.",
            )
        digests = dict(self._code_digests())
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        for name, value in bound.arguments.items():
            if name in self._options.ignore:
                continue
            parts = {f"argument {name}": value}
            if self._signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
                parts = {
                    f"argument {key}" if f"argument {key}" not in digests else f"argument **{key}": part
                    for key, part in value.items()
                    if key not in self._options.ignore
                }
            for what, part in parts.items():
                if what == "argument params" and isinstance(part, Mapping):
                    part = {key: value for key, value in part.items() if key != RECOMPUTE}
                digests[what] = digest_of(what, part)
        for name in self._options.depends_on:
            kind, _, rest = name.partition(":")
            digests[name] = digest_of(name, READERS[kind](rest))
        return Fingerprint(self._options.scope, task.dag_id, task.task_id, digests)

    def _code_digests(self) -> Iterator[tuple[str, str]]:
        """Of each part of the code. A constant that cannot be stored (a logger, a client) does not count."""
        version = self._options.version
        for name, part in parts_of(self._function) if version is None else [("version", [version, *self._name])]:
            try:
                yield name, value_digest(runtime.pipeline(), part)
            except UnsupportedTypeError:
                if not name.startswith("constant "):
                    raise

    def _report_miss(self, entries: Entries, fingerprint: Fingerprint, *, forced: bool) -> None:
        changed, why = None, "there is no earlier result"
        try:
            last = entries.latest(fingerprint.folder)
        except XCargoError:
            why = "the last result cannot be used"
        else:
            if last is not None:
                changed, why = changes(fingerprint.digests, last.digests), "the last result is gone"
        if forced:
            why = f"{RECOMPUTE} asks for it"
        elif changed:
            more = f" and {len(changed) - _SHOWN_CHANGES} more" if len(changed) > _SHOWN_CHANGES else ""
            why = f"changed: {', '.join(changed[:_SHOWN_CHANGES])}{more}"
        log.info("xcargo computes the result (%s)", why)
        metrics.count_memo(hit=False)
        if self._options.on_miss is not None:
            self._options.on_miss(changed)


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
        attempt = str(ti.id) if hasattr(compat.BaseXCom, "store_value") and getattr(ti, "id", None) else None
        return cls(ti.dag_id, ti.run_id, ti.task_id, -1 if mapped is None else mapped, attempt, ti.task)

    @property
    def identity(self) -> tuple[str, str, str, int]:
        return self.dag_id, self.run_id, self.task_id, self.map_index

    def coordinate(self, key: str = _RETURN_VALUE) -> Coordinate:
        return Coordinate(self.dag_id, self.run_id, self.task_id, key, self.map_index, self.attempt)


@dataclass
class _Noted:
    """A result that is being computed, and its rows so far."""

    options: _Options
    fingerprint: Fingerprint
    entries: Entries
    task: _Task
    started: float
    rows: dict[str, Any] = field(default_factory=dict)
    is_computed: bool = False
    """Whether the function has returned: a result that it pushes by itself is not yet the one."""


_noted: dict[tuple[str, str, str, int], _Noted] = {}


def _note(coordinate: Coordinate, row: Any) -> None:
    """After a push: note a row of a result, and store the entry with the last of them, which is that of the result."""
    identity = coordinate.dag_id, coordinate.run_id, coordinate.task_id, coordinate.map_index
    noted = _noted.get(identity)
    if noted is None or runtime.pipeline().rules.control_keys.fullmatch(coordinate.key):
        return
    noted.rows[coordinate.key] = row
    if coordinate.key != _RETURN_VALUE or not noted.is_computed:
        return
    del _noted[identity]
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


def _reused(entries: Entries, task: _Task, fingerprint: Fingerprint, expires: timedelta | None) -> Any:
    """What the task returns in place of the result, which is copied; `_MISS` if there is none that may be used."""
    try:
        entry = entries.get(fingerprint.key, expires=expires)
    except XCargoError as error:
        log.warning("xcargo does not use an entry of memoize: %s", error)
        return _MISS
    if entry is None:
        return _MISS
    if fingerprint.scope != "global" and entry.dag_id != task.dag_id:
        log.warning("xcargo does not use an entry of memoize: it is of Dag %r", entry.dag_id)
        return _MISS
    started = time.perf_counter()
    origin = {"dag": entry.dag_id, "run": entry.run_id, "task": entry.task_id, "at": entry.created_at}
    if entry.map_index >= 0:
        origin["map_index"] = str(entry.map_index)
    pipeline, rows = runtime.pipeline(), {}
    try:
        for key, row in entry.rows.items():
            rows[key] = reuse(pipeline, row, task.coordinate(key), dag_id=entry.dag_id, origin=origin)
    except XCargoError as error:
        log.warning("xcargo computes the result again, since an earlier one cannot be used: %s", error)
        for row in rows.values():
            pipeline.purge(row, task.dag_id)
        return _MISS
    log.info(
        "xcargo reused the result that run %r computed at %s in %.1f s: %d bytes copied in the store, %.3f s",
        *(entry.run_id, entry.created_at, entry.seconds, entry.stored_bytes, time.perf_counter() - started),
    )
    metrics.count_memo(hit=True, seconds=entry.seconds, stored_bytes=entry.stored_bytes)
    return _handed_over(rows, task)


def _handed_over(rows: Mapping[str, Any], task: _Task) -> Any:
    """What Airflow's code is given, so that it pushes these rows."""
    result = rows[_RETURN_VALUE]
    others = {key: _as_pushed(row, task) for key, row in rows.items() if key != _RETURN_VALUE}
    if getattr(task.task, "multiple_outputs", False):
        return _with_row(ReusedDict(others), result)
    if others:
        ti = compat.current_context()["ti"]
        for key, value in others.items():
            ti.xcom_push(key=key, value=value)
    # Airflow asks how long it is, or (a branch, a short circuit) what it says.
    is_mapped_over = task.map_index < 0 and next(iter(task.task.iter_mapped_dependants()), None) is not None
    if is_mapped_over or hasattr(task.task, "skip_all_except"):
        value = load_parsed(result, task.dag_id)
        if type(value) in (dict, list) and is_envelope(result):
            return _with_row((ReusedDict if type(value) is dict else ReusedList)(value), result)
        purge(result, task.dag_id)  # the value is pushed anew
        return value
    return _as_pushed(result, task)


def _with_row(value: ReusedDict | ReusedList, row: Any) -> Any:
    value.row = row
    return value


def _as_pushed(row: Any, task: _Task) -> Any:
    return Reused(row) if is_envelope(row) else load_parsed(row, task.dag_id)


def _is_forced(context: Any, task: _Task) -> bool:
    """Whether the run asks for this task to be computed."""
    conf = getattr(context.get("dag_run"), "conf", None) or {}
    asked = conf.get(RECOMPUTE, (context.get("params") or {}).get(RECOMPUTE))
    return asked is True or (isinstance(asked, (list, tuple)) and task.task_id in asked)


def _qualname(function: Any) -> str:
    return getattr(function, "__qualname__", type(function).__qualname__)
