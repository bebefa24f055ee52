"""XComs that a user may see: Airflow's answer to who may, the rows, read only, and previews of the values behind them.

Airflow does not declare the functions of ``core_api.security`` a public interface: only this and `state` import them.
An Airflow that has moved them has no explorer (the application cannot be built), never one without rights.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from functools import cache, partial, wraps
from typing import Any, TypeVar

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import get_user, requires_access_dag
from airflow.models.dag import DagModel
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from fastapi import Request
from sqlalchemy import Text, and_, case, cast, func, null, select

from xcargo.airflow import compat, runtime
from xcargo.errors import DecodeError, ObjectNotFoundError, UnsupportedTypeError
from xcargo.explorer.limits import BlockCache, Budget, PreviewPool, TooLargeError
from xcargo.explorer.value import StoredValue
from xcargo.model.coordinate import Coordinate, State
from xcargo.model.envelope import Envelope, is_envelope
from xcargo.model.key_order import restored
from xcargo.pipeline.pipeline import Pipeline
from xcargo.pipeline.state import StatePipeline
from xcargo.transfer.description import preview

__all__ = [
    "KEEPS_ATTEMPTS",
    "LISTED_BYTES",
    "MAX_NUMBER",
    "SORT_WITH_VALUES",
    "XComId",
    "XComRow",
    "budget",
    "can_read_xcoms",
    "checked_size",
    "current_user",
    "find",
    "has_more_rows",
    "in_preview_pool",
    "list_envelopes",
    "list_others",
    "list_xcoms",
    "open_value",
    "pipeline",
    "pool",
    "readable_dags",
    "signed_url",
    "summary",
    "sweep_reports",
    "well_formed",
]

_T = TypeVar("_T")

can_read_xcoms = requires_access_dag("GET", DagAccessEntity.XCOM)
"""Dependency of each route of a Dag: 401 for nobody, 403 for someone who may not read the Dag's XComs."""

current_user = get_user
"""Dependency that gives the user, or answers 401."""

MAX_NUMBER = 2**31 - 1
"""Largest number that each database can compare a column of numbers with."""

KEEPS_ATTEMPTS = hasattr(XComModel, "task_instance_id")
"""Airflow 3.4 and later keep the XComs of every attempt; before, an attempt deletes those of the one before it."""

_HAS_TEAMS = hasattr(DagModel, "get_dag_id_to_team_name_mapping")
"""Airflow 3.2 and later know teams."""

LISTED_BYTES = 256 * 1024
"""Of a row in a list; a larger one is fetched when it is opened."""

SORT_WITH_VALUES = "/*+ SET_VAR(sort_buffer_size = 64M) */"
"""MySQL sorts rows together with their values, and refuses one that is larger than the buffer: 256 KB otherwise."""

_SCANNED_ROWS = 100_000
_TEXT = cast(XComModel.value, Text)
_KEY = (XComModel.dag_id, XComModel.run_id, XComModel.task_id, XComModel.map_index, XComModel.key)

_WORKERS = 4
"""Values that are read at once in this process, so that memory is bounded whoever asks."""

_SECONDS = 15.0
_SIGNED_SECONDS = 60.0
_CACHE_BYTES = 64 * 1024 * 1024

pool = PreviewPool(_WORKERS, queue_seconds=20, seconds=_SECONDS + 1)


@dataclass(frozen=True)
class XComId:
    """Which XCom, or which key of the state of a task or an asset. Of that of an asset the ids of a task are empty."""

    dag_id: str
    run_id: str
    task_id: str
    key: str
    map_index: int = -1
    attempt: int = 0
    """Number of the attempt; 0 asks for the latest."""
    is_state: bool = False
    region: str = ""
    """Of the state of a task: its mapped task or loop, a UUID (Airflow 3.4 on)."""
    asset_id: int | None = None

    @property
    def coordinate(self) -> Coordinate:
        """The same as the way of a value names it."""
        asset = None if self.asset_id is None else str(self.asset_id)
        state = State(self.region or None, asset, "id") if self.is_state else None
        return Coordinate(self.dag_id, self.run_id, self.task_id, self.key, self.map_index, state=state)


@dataclass(frozen=True)
class XComRow:
    """One row. ``value`` is None of a row larger than what was asked for; ``row_bytes`` is its size then too."""

    id: XComId
    stored_at: datetime | None
    row_bytes: int
    value: Any = None
    state: State = field(default_factory=State)
    """Whose it is, if it is state of an asset."""


def well_formed(request: Request) -> None:
    """Dependency that refuses NUL characters, which no database takes. Raises DecodeError."""
    if any("\0" in text for text in request.query_params.values()):
        raise DecodeError("The address holds a NUL character")


def readable_dags(user: Any) -> list[str]:
    """The Dags whose XComs a user may read.

    Costs the auth manager one batch for a user who may read the XComs of all Dags that they may see; each refusal
    halves a batch.
    """
    manager = get_auth_manager()
    dag_ids = sorted(manager.get_authorized_dag_ids(user=user, method="GET"))
    teams = DagModel.get_dag_id_to_team_name_mapping(dag_ids) if _HAS_TEAMS else {}

    def readable(some: list[str]) -> list[str]:
        details = [DagDetails(id=dag, **({"team_name": teams.get(dag)} if _HAS_TEAMS else {})) for dag in some]
        batch = [{"method": "GET", "access_entity": DagAccessEntity.XCOM, "details": one} for one in details]
        if manager.batch_is_authorized_dag(batch, user=user):
            return some
        half = len(some) // 2
        return readable(some[:half]) + readable(some[half:]) if half else []

    return readable(dag_ids)


def list_xcoms(
    dag_id: str, *, run_id: str | None, task_id: str | None, map_index: int | None, start: int, count: int
) -> tuple[int, list[XComRow]]:
    """How many rows a Dag, run, task or task instance has, and a page of them in the order of their keys."""
    chosen = [XComModel.dag_id == dag_id]
    chosen += [XComModel.run_id == run_id] if run_id else []
    chosen += [XComModel.task_id == task_id] if task_id else []
    chosen += [XComModel.map_index == map_index] if map_index is not None else []
    by = (XComModel.map_index, XComModel.key) if task_id else (XComModel.timestamp.desc(),)
    order = (*by, *_KEY)  # the whole key: rows that are equal by the rest would be free to change pages
    with create_session() as session:
        total = session.execute(select(func.count()).select_from(XComModel).where(*chosen)).scalar() or 0
        page = _rows(LISTED_BYTES).where(*chosen).order_by(*order).offset(start).limit(count)
        return total, [_row(row) for row in session.execute(page)]


def find(xcom: XComId, max_bytes: int) -> XComRow:
    """One row.

    Raises:
        ObjectNotFoundError: There is none.
        TooLargeError: It is larger than ``max_bytes``.
        UnsupportedTypeError: An attempt before the latest is asked for, and Airflow keeps none.
    """
    if xcom.attempt and not KEEPS_ATTEMPTS:
        raise UnsupportedTypeError(
            "This Airflow keeps the XComs of the latest attempt only", hint="Airflow 3.4 and later keep all of them."
        )
    with create_session() as session:
        row = session.execute(_only(_rows(max_bytes), xcom).limit(1)).first()
    if row is None:
        raise ObjectNotFoundError(
            f"There is no XCom {xcom.key!r} of this task instance",
            hint="The task may not have pushed it yet, or was cleared since.",
        )
    return checked_size(_row(row), max_bytes)


def checked_size(row: XComRow, max_bytes: int) -> XComRow:
    """The row, unless it is larger than ``max_bytes``: then it raises TooLargeError."""
    if row.row_bytes > max_bytes:
        raise TooLargeError(
            f"The row itself has {row.row_bytes} bytes, and a preview may take {max_bytes}",
            hint="Raise [xcargo] max_preview_bytes, or let such values go to object storage.",
        )
    return row


def list_others(xcom: XComId, count: int) -> list[XComRow]:
    """The same key of the same task in other runs, map indexes and attempts, the newest first; without values."""
    query = (
        _rows(-1)
        .where(XComModel.dag_id == xcom.dag_id, XComModel.task_id == xcom.task_id, XComModel.key == xcom.key)
        .order_by(XComModel.timestamp.desc(), XComModel.map_index)
        .limit(count + 1)
        .execution_options(include_all_attempts=True)
    )
    with create_session() as session:
        me = session.execute(_only(_rows(-1), xcom).limit(1)).first()
        rows = [_row(row) for row in session.execute(query)]
    return [row for row in rows if me is None or row.id != _row(me).id][:count]


def list_envelopes(dag_ids: Sequence[str], run_id: str | None, count: int) -> Iterator[XComRow]:
    """The rows that are envelopes of ours among the newest 100,000, ``count`` at most, a few hundred at a time."""
    chosen = [XComModel.dag_id.in_(dag_ids), *([XComModel.run_id == run_id] if run_id else [])]
    newest = select(*_KEY, XComModel.timestamp, XComModel.value).where(*chosen)
    rows = newest.order_by(XComModel.timestamp.desc()).limit(_SCANNED_ROWS).subquery().c
    text = cast(rows.value, Text)
    query = (
        select(*rows, func.length(text).label("row_bytes"))
        .prefix_with(SORT_WITH_VALUES, dialect="mysql")
        .where(func.length(text) <= LISTED_BYTES, text.like("%xcargo/%"))
        .order_by(rows.timestamp.desc())
        .limit(count)
        .execution_options(yield_per=200)
    )
    with create_session() as session:
        for row in session.execute(query):
            if is_envelope(row.value):
                yield _row(row)


def has_more_rows(dag_ids: Sequence[str], run_id: str | None, *, than: int = _SCANNED_ROWS) -> bool:
    """Whether there are more rows, envelopes or not, than `list_envelopes` looks at."""
    chosen = [XComModel.dag_id.in_(dag_ids), *([XComModel.run_id == run_id] if run_id else [])]
    with create_session() as session:
        return session.execute(select(XComModel.dag_id).where(*chosen).offset(than).limit(1)).first() is not None


def sweep_reports(dag_ids: Sequence[str]) -> list[XComRow]:
    """The results of the operator that swept last: one row, or one for each part of a mapped task."""
    last = (
        select(TaskInstance.dag_id, TaskInstance.run_id, TaskInstance.task_id)
        .where(TaskInstance.operator == "XCargoGCOperator", TaskInstance.state == "success")
        .where(TaskInstance.dag_id.in_(dag_ids))
        .order_by(TaskInstance.end_date.desc())
        .limit(1)
    )
    with create_session() as session:
        task = session.execute(last).first()
        if task is None:
            return []
        same = [getattr(XComModel, name) == getattr(task, name) for name in ("dag_id", "run_id", "task_id")]
        query = _rows(LISTED_BYTES).where(*same, XComModel.key == "return_value").limit(50)
        return [_row(row) for row in session.execute(query)]


def _rows(max_bytes: int) -> Any:
    """Rows with their sizes, and the values of those of ``max_bytes`` at most: no larger one leaves the database.

    Of the latest attempts, unless the statement is executed with ``include_all_attempts``.
    """
    size = func.length(_TEXT)
    value = case((size <= max_bytes, XComModel.value), else_=null()).label("value")
    columns = (*_KEY, XComModel.timestamp, size.label("row_bytes"), value, TaskInstance.try_number.label("attempt"))
    query = select(*columns).prefix_with(SORT_WITH_VALUES, dialect="mysql").select_from(XComModel)
    if KEEPS_ATTEMPTS:
        return query.join(TaskInstance, TaskInstance.id == XComModel.task_instance_id)
    same = [getattr(TaskInstance, c.key) == c for c in _KEY[:4]]
    return query.outerjoin(TaskInstance, and_(*same))


def _only(query: Any, xcom: XComId) -> Any:
    """The query for one XCom; of the attempt that is named, where Airflow keeps all."""
    query = query.where(*(column == getattr(xcom, column.key) for column in _KEY))
    if not (xcom.attempt and KEEPS_ATTEMPTS):
        return query
    return query.where(TaskInstance.try_number == xcom.attempt).execution_options(include_all_attempts=True)


def _row(row: Any) -> XComRow:
    attempt = getattr(row, "attempt", None) or 0
    xcom = XComId(row.dag_id, row.run_id, row.task_id, row.key, row.map_index, attempt)
    return XComRow(xcom, row.timestamp, row.row_bytes or 0, row.value)


# --- previews


def budget(seconds: float = _SECONDS) -> Budget:
    """What one request may take."""
    return Budget(max_bytes=runtime.settings().max_preview_bytes, seconds=seconds)


def in_preview_pool(route: Callable[..., _T]) -> Callable[..., Any]:
    """Makes a route of a function that reads values."""

    @wraps(route)
    async def answer(*args: Any, **parameters: Any) -> _T:
        return await pool.run(partial(route, *args, **parameters))

    # Names in annotations are those of the route's module, where FastAPI would not look for them.
    answer.__signature__ = inspect.signature(route, eval_str=True)  # type: ignore[attr-defined]
    return answer


@cache
def pipeline() -> Pipeline:
    """One whose requests to a store end in the time of a preview: else a store that stalls would hold all threads."""
    settings = runtime.settings()
    return runtime.open_pipeline(replace(settings, timeout_seconds=min(settings.timeout_seconds, _SECONDS)))


@cache
def _state_pipeline() -> StatePipeline:
    return runtime.open_state_pipeline(pipeline().settings)


@cache
def _block_cache() -> BlockCache:
    return BlockCache(_CACHE_BYTES)


def open_value(row: XComRow, limits: Budget) -> StoredValue:
    """The value behind a row. No request yet."""
    value, xcom = row.value, row.id
    reader = _state_pipeline() if xcom.is_state else pipeline()
    if not is_envelope(value):
        value = reader.push_inline(value if xcom.is_state else restored(value), xcom.coordinate)
    elif isinstance(reader, StatePipeline):
        reader.check_owner(value, row.state)
    handle = reader.handle(value, xcom.dag_id)
    return StoredValue.from_envelope(Envelope.from_row(value), handle.open, cache=_block_cache(), budget=limits)


def signed_url(row: XComRow) -> str | None:
    """Where a browser gets the object itself, for a minute; None where it is to be streamed. It is in no log."""
    if not runtime.settings().ui_signed_downloads or not is_envelope(row.value):
        return None
    reader = _state_pipeline() if row.id.is_state else pipeline()
    return reader.signed_url(row.value, row.id.dag_id, _SIGNED_SECONDS)


def summary(row: XComRow) -> dict[str, Any]:
    """What a list shows of a row, without a request to any store."""
    xcom = row.id
    shown = asdict(xcom) | {
        "attempt": xcom.attempt or None,
        "region": xcom.region or None,
        "every_attempt": KEEPS_ATTEMPTS or xcom.is_state,
        "stored_at": row.stored_at.isoformat() if row.stored_at else None,
        "row_bytes": row.row_bytes,
        "where": "row",
    }
    if not is_envelope(row.value):
        not_fetched = row.value is None and row.row_bytes > len("null")
        chars = runtime.settings().preview_chars
        kind = "?" if not_fetched else "None" if row.value is None else type(row.value).__name__
        return shown | {"type": kind, "size_bytes": row.row_bytes, "preview": preview(row.value, chars, compat.mask)}
    try:
        envelope = Envelope.from_row(row.value)
    except Exception as error:
        return shown | {"type": "?", "problem": str(error)[:500]}
    same = ("type", "codec", "size_bytes", "stored_bytes", "compression", "uri", "checksum", "created_at", "preview")
    return (
        shown
        | {name: getattr(envelope, name) for name in same}
        | {
            "where": "object" if envelope.uri else "row",
            "shape": envelope.params.get("shape"),
            "reused": {name: str(part) for name, part in envelope.reused.items()},
        }
    )
