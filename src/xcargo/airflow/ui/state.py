"""The state of tasks and assets (Airflow 3.3 on) that a user may see: Airflow's answer to who may, and the rows.

The rights are those that Airflow's own API asks for: to the task instances of the Dag, and to the asset.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_asset, requires_access_dag
from airflow.models.asset import AssetModel
from airflow.utils.session import create_session
from sqlalchemy import case, func, literal, null, select

from xcargo.airflow.references.tables import state_text
from xcargo.airflow.ui.xcoms import LISTED_BYTES, SORT_WITH_VALUES, XComId, XComRow, checked_size
from xcargo.errors import ObjectNotFoundError
from xcargo.model.coordinate import State
from xcargo.model.envelope import is_envelope

try:
    from airflow.models.asset_state_store import AssetStateStoreModel
    from airflow.models.task_state_store import TaskStateStoreModel
except ImportError:  # before Airflow 3.3
    AssetStateStoreModel = TaskStateStoreModel = None

__all__ = [
    "can_read_asset_state",
    "can_read_task_state",
    "find",
    "list_assets",
    "list_envelopes",
    "list_of_asset",
    "list_of_task",
    "list_others",
]

_NO_REGION = str(UUID(int=0))
"""That of a task instance outside of mapped tasks and loops, from Airflow 3.4 on."""

can_read_task_state = requires_access_dag("GET", DagAccessEntity.TASK_INSTANCE)
"""Dependency of each route of the state of tasks: 401 for nobody, 403 for who may not read the task instances."""

can_read_asset_state = requires_access_asset("GET")
"""The same of the state of an asset. On a route that names no asset it asks for the right to all of them."""


def list_of_task(
    dag_id: str, *, run_id: str, task_id: str, map_index: int | None, start: int, count: int
) -> tuple[int, list[XComRow]]:
    """How many keys a task instance, or a task in a run, has, and a page of them in their order."""
    if TaskStateStoreModel is None:
        return 0, []
    model, index = TaskStateStoreModel, _index()
    chosen = [model.dag_id == dag_id, model.run_id == run_id, model.task_id == task_id]
    chosen += [index == map_index] if map_index is not None else []
    return _page(model, _of_tasks(LISTED_BYTES).where(*chosen).order_by(index, model.key), chosen, start, count)


def list_of_asset(asset_id: int, *, start: int, count: int) -> tuple[int, list[XComRow]]:
    """The same of an asset."""
    if AssetStateStoreModel is None:
        return 0, []
    model = AssetStateStoreModel
    chosen = [model.asset_id == asset_id]
    return _page(model, _of_assets(LISTED_BYTES).where(*chosen).order_by(model.key), chosen, start, count)


def list_assets(count: int) -> list[dict[str, Any]]:
    """The assets that keep state, those that were written last first: id, name, number of keys, time."""
    if AssetStateStoreModel is None:
        return []
    model = AssetStateStoreModel
    written = func.max(model.updated_at)
    query = (
        select(AssetModel.id, AssetModel.name, func.count(), written)
        .join(model, model.asset_id == AssetModel.id)
        .group_by(AssetModel.id, AssetModel.name)
        .order_by(written.desc())
        .limit(count)
    )
    with create_session() as session:
        rows = session.execute(query).all()
    return [{"asset_id": id_, "name": name, "keys": keys, "at": at.isoformat()} for id_, name, keys, at in rows]


def find(xcom: XComId, max_bytes: int) -> XComRow:
    """One row.

    Raises:
        ObjectNotFoundError: There is none.
        TooLargeError: It is larger than ``max_bytes``.
    """
    row = None
    if TaskStateStoreModel is not None:
        with create_session() as session:
            row = session.execute(_only(xcom, max_bytes)).first()
    if row is None:
        raise ObjectNotFoundError(
            f"The state has no key {xcom.key!r}", hint="It may have been deleted, or have expired, since."
        )
    return checked_size(_row(row), max_bytes)


def list_others(xcom: XComId, count: int) -> list[XComRow]:
    """The same key of the same task in other runs and map indexes, the newest first; without values."""
    if TaskStateStoreModel is None or xcom.asset_id is not None:
        return []
    model = TaskStateStoreModel
    query = (
        _of_tasks(-1)
        .where(model.dag_id == xcom.dag_id, model.task_id == xcom.task_id, model.key == xcom.key)
        .order_by(model.updated_at.desc(), _index())
        .limit(count + 1)
    )
    with create_session() as session:
        rows = [_row(row) for row in session.execute(query)]
    return [row for row in rows if row.id != xcom][:count]


def list_envelopes(dag_ids: Sequence[str], run_id: str | None, count: int) -> Iterator[XComRow]:
    """The newest rows of tasks that are envelopes of ours, ``count`` at most."""
    if TaskStateStoreModel is None:
        return
    model = TaskStateStoreModel
    query = (
        _of_tasks(LISTED_BYTES)
        .where(model.dag_id.in_(dag_ids), *([model.run_id == run_id] if run_id else []))
        .where(func.length(model.value) <= LISTED_BYTES, model.value.like("%xcargo/%"))
        .order_by(model.updated_at.desc())
        .limit(count)
        .execution_options(yield_per=200)
    )
    with create_session() as session:
        yield from (row for row in map(_row, session.execute(query)) if is_envelope(row.value))


def _index() -> Any:
    model = TaskStateStoreModel
    return model.region_index if hasattr(model, "region_index") else model.map_index


def _columns(model: Any, max_bytes: int) -> tuple[Any, ...]:
    """Those of both tables, with values of ``max_bytes`` at most: no larger one leaves the database."""
    size = func.length(model.value)
    value = case((size <= max_bytes, model.value), else_=null()).label("value")
    return model.key, model.updated_at, size.label("row_bytes"), value


def _of_tasks(max_bytes: int) -> Any:
    model = TaskStateStoreModel
    region = model.region_id if hasattr(model, "region_id") else null()
    where = (model.dag_id, model.run_id, model.task_id, _index().label("map_index"), region.label("region"))
    asset = (null().label(name) for name in ("asset_id", "asset", "uri"))
    return _select(*where, *asset, *_columns(model, max_bytes))


def _of_assets(max_bytes: int) -> Any:
    text = (literal("").label(name) for name in ("dag_id", "run_id", "task_id"))
    model = AssetStateStoreModel
    where = (literal(-1).label("map_index"), null().label("region"), model.asset_id)
    asset = (AssetModel.name.label("asset"), AssetModel.uri)
    return _select(*text, *where, *asset, *_columns(model, max_bytes)).join(AssetModel, AssetModel.id == model.asset_id)


def _select(*columns: Any) -> Any:
    return select(*columns).prefix_with(SORT_WITH_VALUES, dialect="mysql")


def _only(xcom: XComId, max_bytes: int) -> Any:
    """The query for one row."""
    if xcom.asset_id is not None:
        model = AssetStateStoreModel
        return _of_assets(max_bytes).where(model.asset_id == xcom.asset_id, model.key == xcom.key)
    model = TaskStateStoreModel
    ids = [getattr(model, name) == getattr(xcom, name) for name in ("dag_id", "run_id", "task_id", "key")]
    ids += [model.region_id == UUID(xcom.region or _NO_REGION)] if hasattr(model, "region_id") else []
    return _of_tasks(max_bytes).where(*ids, _index() == xcom.map_index)


def _page(model: Any, query: Any, chosen: list[Any], start: int, count: int) -> tuple[int, list[XComRow]]:
    with create_session() as session:
        total = session.execute(select(func.count()).select_from(model).where(*chosen)).scalar() or 0
        return total, [_row(row) for row in session.execute(query.offset(start).limit(count))]


def _row(row: Any) -> XComRow:
    region = "" if row.region is None or str(row.region) == _NO_REGION else str(row.region)
    where = (row.dag_id, row.run_id, row.task_id, row.key, row.map_index)
    xcom = XComId(*where, is_state=True, region=region, asset_id=row.asset_id)
    value = None if row.value is None else _parsed(row.value)
    return XComRow(xcom, row.updated_at, row.row_bytes, value, State(asset=row.asset, uri=row.uri))


def _parsed(raw: str) -> Any:
    """A value as JSON; what Common IO's backend wrote is the text of a URL."""
    text = state_text(raw)
    try:
        return json.loads(text)
    except ValueError:
        return text
