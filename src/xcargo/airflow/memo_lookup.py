"""Looks a result up before its task runs: an earlier one is copied and handed to Airflow as if it were returned."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from threading import Event
from typing import Any

from xcargo.airflow import compat, metrics, runtime
from xcargo.airflow.memo_computation import RETURN_VALUE, Computation, RunningTask, computing, forget
from xcargo.airflow.memo_fingerprint import RECOMPUTE, Options, fingerprint_of
from xcargo.airflow.rows import load_parsed
from xcargo.errors import XCargoError
from xcargo.model.envelope import is_envelope
from xcargo.pipeline.handle import Reused, ReusedDict, ReusedList
from xcargo.pipeline.memo import Entries, Entry, Fingerprint, changes, entries_for, reuse
from xcargo.pipeline.source_code import SourceChangedError

__all__ = ["MISS", "look_up"]

log = logging.getLogger(__name__)

MISS: Any = object()
"""In place of a result: there is none that may be reused."""

_SHOWN_CHANGES = 5


def look_up(
    context: Any, options: Options, code: Any, arguments: Mapping[str, Any], stopped: Event | None = None
) -> tuple[Any, Computation | None]:
    """The result of the task that runs, if it was computed before, else `MISS`; and what notes its result then.

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
    task = RunningTask.of(context)
    forget(task)
    is_forced = _is_forced(context, task)
    try:
        fingerprint = fingerprint_of(options, code, arguments, dag_id=task.dag_id, task_id=task.task_id)
    except SourceChangedError as error:
        log.warning("xcargo computes the result, and does not note it: %s", error)
        return MISS, None
    try:
        entries = entries_for(runtime.pipeline(), task.coordinate())
        computation = Computation(options, fingerprint, entries, task)
        result, refused = (MISS, None) if is_forced else _reused(computation)
        if result is not MISS:
            return result, None
        changed, why = _reason(entries, fingerprint)  # before a claim takes the place of an entry
        if not is_forced and options.wait is not None:
            try:
                if not computation.claim(options.wait, refused, stopped or Event()):
                    result, _ = _reused(computation)
            except XCargoError as error:
                log.warning("xcargo does not wait for others that compute the result: %s", error)
        if result is not MISS:
            return result, None
    except XCargoError as error:
        log.warning("xcargo computes the result, since nothing can be looked up: %s", error)
        return MISS, None
    log.info("xcargo computes the result (%s)", f"{RECOMPUTE} asks for it" if is_forced else why)
    computation.start()
    with computing(computation):
        metrics.count_memo(hit=False)
        if options.on_miss is not None:
            options.on_miss(changed)
    return MISS, computation


def _is_forced(context: Any, task: RunningTask) -> bool:
    """Whether the run asks for this task to be computed."""
    conf = getattr(context.get("dag_run"), "conf", None) or {}
    asked = conf.get(RECOMPUTE, (context.get("params") or {}).get(RECOMPUTE))
    return asked is True or (isinstance(asked, (list, tuple)) and task.task_id in asked)


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


def _reused(computation: Computation) -> tuple[Any, Entry | None]:
    """What the task returns in place of the result, which is copied; or `MISS`, and the entry that cannot be used."""
    task, fingerprint = computation.task, computation.fingerprint
    try:
        entry = computation.entries.get(fingerprint.key)
    except XCargoError as error:
        log.warning("xcargo does not use an entry of memoize: %s", error)
        return MISS, None
    if entry is None or entry.is_expired(computation.options.expires):
        return MISS, entry
    if fingerprint.scope != "global" and entry.dag_id != task.dag_id:
        log.warning("xcargo does not use an entry of memoize: it is of Dag %r", entry.dag_id)
        return MISS, entry
    if getattr(task.task, "multiple_outputs", False) and len(entry.rows) == 1:
        return MISS, entry  # the task did not push outputs apart then
    started = time.perf_counter()
    origin = {"dag": entry.dag_id, "run": entry.run_id, "task": entry.task_id, "at": entry.created_at}
    if entry.map_index >= 0:
        origin["map_index"] = str(entry.map_index)
    pipeline, rows = runtime.pipeline(), {}
    try:
        seen = _seen(entry, task)
        for key, row in entry.rows.items():
            if key != RETURN_VALUE or seen is MISS or type(seen) in (dict, list):
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


def _seen(entry: Entry, task: RunningTask) -> Any:
    """The result, where Airflow asks how long it is or (a branch, a short circuit) what it says; else `MISS`.

    Lists and dictionaries are copied by the store. Any other value is read and pushed again, so it is verified first:
    it may be read only during that push, when it is too late to compute it instead.
    """
    is_mapped_over = task.map_index < 0 and next(iter(task.task.iter_mapped_dependants()), None) is not None
    has_outputs = getattr(task.task, "multiple_outputs", False)
    if has_outputs or not (is_mapped_over or hasattr(task.task, "skip_all_except")):
        return MISS
    row = entry.rows[RETURN_VALUE]
    value = load_parsed(row, entry.dag_id)
    if is_envelope(row) and type(value) not in (dict, list):
        runtime.pipeline().verify(row, entry.dag_id)
    return value


def _handed_over(rows: Mapping[str, Any], seen: Any, task: RunningTask) -> Any:
    """What Airflow's code is given, so that it pushes these rows, or the value that was `_seen`."""
    others = {key: _as_pushed(row, task) for key, row in rows.items() if key != RETURN_VALUE}
    if getattr(task.task, "multiple_outputs", False):
        return ReusedDict(others, rows[RETURN_VALUE])
    for key, value in others.items():
        compat.current_context()["ti"].xcom_push(key=key, value=value)
    if seen is MISS:
        return _as_pushed(rows[RETURN_VALUE], task)
    if is_envelope(rows.get(RETURN_VALUE)):
        return (ReusedDict if type(seen) is dict else ReusedList)(seen, rows[RETURN_VALUE])
    return seen


def _as_pushed(row: Any, task: RunningTask) -> Any:
    return Reused(row) if is_envelope(row) else load_parsed(row, task.dag_id)
