"""XCom rows out of the metadata database, read only and in bounded memory: a row is measured before it is fetched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from sqlalchemy import Text, and_, cast, func, select

from xcargo.errors import ObjectNotFoundError, UnsupportedTypeError
from xcargo.explorer.bounds import TooLargeError
from xcargo.model.envelope import is_envelope

__all__ = ["MOST", "Found", "Place", "envelopes", "find", "listed", "others", "sweep_reports"]

_LISTED_BYTES = 256 * 1024
"""Of a row in a list; what a larger one holds is told when it is opened."""

MOST = 2**31 - 1
"""Largest number that each database can compare a column of numbers with."""

_COLUMNS = (XComModel.dag_id, XComModel.run_id, XComModel.task_id, XComModel.map_index, XComModel.key)

KEEPS_ATTEMPTS = hasattr(XComModel, "task_instance_id")
"""Airflow 3.4 and later keep the XComs of every attempt; before, an attempt deletes those of the one before it."""


@dataclass(frozen=True)
class Place:
    """Which XCom."""

    dag_id: str
    run_id: str
    task_id: str
    key: str
    map_index: int = -1
    attempt: int = 0
    """Number of the attempt; 0 asks for the latest."""


@dataclass(frozen=True)
class Found:
    """One row. ``value`` is None of a row larger than what was asked for; ``row_bytes`` tells then."""

    place: Place
    stored_at: datetime | None
    row_bytes: int
    value: Any = None


def listed(
    session: Any,
    dag_id: str,
    run_id: str | None,
    task_id: str | None,
    map_index: int | None,
    *,
    start: int,
    count: int,
) -> tuple[int, list[Found]]:
    """How many rows a Dag, run, task or task instance has, and a page of them in the order of their keys."""
    chosen = [XComModel.dag_id == dag_id]
    chosen += [XComModel.run_id == run_id] if run_id else []
    chosen += [XComModel.task_id == task_id] if task_id else []
    chosen += [XComModel.map_index == map_index] if map_index is not None else []
    total = session.execute(select(func.count()).select_from(XComModel).where(*chosen)).scalar() or 0
    order = (XComModel.timestamp.desc(),) if not task_id else (XComModel.map_index, XComModel.key)
    rows = session.execute(_measured().where(*chosen).order_by(*order).offset(start).limit(count)).all()
    return total, [_found(session, row, _LISTED_BYTES) for row in rows]


def find(session: Any, place: Place, max_bytes: int) -> Found:
    """One row. Raises ObjectNotFoundError when there is none, TooLargeError when it is larger than ``max_bytes``.

    Raises UnsupportedTypeError for an attempt before the latest where Airflow keeps none.
    """
    if place.attempt and not KEEPS_ATTEMPTS:
        raise UnsupportedTypeError(
            "This Airflow keeps the XComs of the latest attempt only", hint="Airflow 3.4 and later keep all of them."
        )
    row = session.execute(_of(_measured(), place).limit(1)).first()
    if row is None:
        raise ObjectNotFoundError(
            f"There is no XCom {place.key!r} of this task instance",
            hint="The task may not have pushed it yet, or was cleared since.",
        )
    if row.row_bytes > max_bytes:
        raise TooLargeError(
            f"The row itself has {row.row_bytes} bytes, and a look may take {max_bytes}",
            hint="Raise [xcargo] max_preview_bytes, or let such values go to object storage.",
        )
    return _found(session, row, max_bytes)


def others(session: Any, place: Place, count: int) -> list[Found]:
    """The same key of the same task in other runs, map indexes and attempts, the newest first; without values."""
    me = session.execute(_of(_measured(), place).limit(1)).first()
    query = (
        _measured()
        .where(XComModel.dag_id == place.dag_id, XComModel.task_id == place.task_id, XComModel.key == place.key)
        .order_by(XComModel.timestamp.desc(), XComModel.map_index)
        .limit(count + 1)
    )
    rows = session.execute(query.execution_options(include_all_attempts=True)).all()
    found = [_found(session, row, -1) for row in rows]
    return [one for one in found if me is None or one.place != _place(me)][:count]


def envelopes(session: Any, dag_ids: Sequence[str], run_id: str | None, count: int) -> Iterator[Found]:
    """The newest rows that are envelopes of ours, fetched a few hundred at a time."""
    text = cast(XComModel.value, Text)
    chosen = [text.like("%xcargo/%"), func.length(text) <= _LISTED_BYTES]
    chosen += [XComModel.dag_id.in_(dag_ids)]
    chosen += [XComModel.run_id == run_id] if run_id else []
    query = (
        select(*_COLUMNS, XComModel.timestamp, XComModel.value, func.length(text).label("row_bytes"))
        .where(*chosen)
        .order_by(XComModel.timestamp.desc())
        .limit(count)
    )
    for row in session.execute(query.execution_options(yield_per=200)):
        if is_envelope(row.value):
            yield Found(_place(row), row.timestamp, row.row_bytes, row.value)


def sweep_reports(session: Any, dag_ids: Sequence[str]) -> list[Found]:
    """The results of the operator that swept last: one row, or one for each part of a mapped task."""
    swept = session.execute(
        select(TaskInstance.dag_id, TaskInstance.run_id, TaskInstance.task_id)
        .where(TaskInstance.operator == "XCargoGCOperator", TaskInstance.state == "success")
        .where(TaskInstance.dag_id.in_(dag_ids))
        .order_by(TaskInstance.end_date.desc())
        .limit(1)
    ).first()
    if swept is None:
        return []
    rows = session.execute(
        _measured()
        .where(XComModel.dag_id == swept.dag_id, XComModel.run_id == swept.run_id, XComModel.task_id == swept.task_id)
        .where(XComModel.key == "return_value")
        .limit(50)
    ).all()
    return [_found(session, row, _LISTED_BYTES) for row in rows]


def _measured() -> Any:
    """Rows of the latest attempts, unless the statement is executed with ``include_all_attempts``."""
    size = func.length(cast(XComModel.value, Text)).label("row_bytes")
    return _with_attempts(select(*_COLUMNS, XComModel.timestamp, size, TaskInstance.try_number.label("attempt")))


def _with_attempts(query: Any) -> Any:
    if KEEPS_ATTEMPTS:
        return query.select_from(XComModel).join(TaskInstance, TaskInstance.id == XComModel.task_instance_id)
    same = [getattr(TaskInstance, name) == getattr(XComModel, name) for name in ("dag_id", "run_id", "task_id")]
    same.append(TaskInstance.map_index == XComModel.map_index)
    return query.select_from(XComModel).outerjoin(TaskInstance, and_(*same))


def _of(query: Any, place: Place) -> Any:
    """The query for one XCom; of the attempt that is named, where Airflow keeps all."""
    query = query.where(*_is(place))
    if not (place.attempt and KEEPS_ATTEMPTS):
        return query
    return query.where(TaskInstance.try_number == place.attempt).execution_options(include_all_attempts=True)


def _is(place: Place) -> list[Any]:
    return [
        XComModel.dag_id == place.dag_id,
        XComModel.run_id == place.run_id,
        XComModel.task_id == place.task_id,
        XComModel.map_index == place.map_index,
        XComModel.key == place.key,
    ]


def _found(session: Any, row: Any, max_bytes: int) -> Found:
    place, size = _place(row), row.row_bytes or 0
    value = None
    if size <= max_bytes:
        value = session.execute(_of(_with_attempts(select(XComModel.value)), place).limit(1)).scalar()
    return Found(place, row.timestamp, size, value)


def _place(row: Any) -> Place:
    return Place(row.dag_id, row.run_id, row.task_id, row.key, row.map_index, getattr(row, "attempt", None) or 0)
