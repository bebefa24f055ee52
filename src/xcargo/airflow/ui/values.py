"""Answers about one value: what it is, and the part of it that is on the screen."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Annotated, Any
from urllib.parse import quote, unquote

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse, StreamingResponse

from xcargo.airflow.ui import state, xcoms
from xcargo.airflow.ui.parameters import (
    Filters,
    Requested,
    ValueRequest,
    parse_asset_id,
    parse_map_index,
    parse_region,
)
from xcargo.airflow.ui.xcoms import MAX_NUMBER, XComId, XComRow, can_read_xcoms, in_preview_pool, well_formed
from xcargo.errors import DecodeError, StoreUnavailableError, UnsupportedTypeError, XCargoError
from xcargo.explorer.compare import compare
from xcargo.explorer.limits import TooLargeError
from xcargo.explorer.table import Table
from xcargo.explorer.value import StoredValue, image_type
from xcargo.model.envelope import is_envelope
from xcargo.types import Buffer

__all__ = ["DownloadResponse", "router"]

_views = APIRouter()
"""Routes that show parts of a value, whosever it is."""

_MAX_LISTED = 200
_MAX_OTHERS = 50
_MAX_COLUMNS = 200
_IMAGE_BYTES = 16 * 1024 * 1024
_DOWNLOAD_SECONDS = 6 * 3600.0
_MAX_NAME = 200
_NOT_IN_NAMES = '/\\:*?"<>|'
_DOWNLOADS = 8
"""Values that are streamed at once by this process: each holds some chunks until its browser has taken them."""

_downloads = threading.BoundedSemaphore(_DOWNLOADS)


@_views.get("/others")
def others(requested: Requested) -> dict[str, Any]:
    """The same XCom of other runs, map indexes and attempts, to compare with."""
    list_others = state.list_others if requested.xcom.is_state else xcoms.list_others
    return {"xcoms": [xcoms.summary(row) for row in list_others(requested.xcom, _MAX_OTHERS)]}


@_views.get("/value")
async def value(requested: Requested) -> dict[str, Any]:
    """The row, and what can be shown of the value; a problem with the store is given beside the row."""
    row = await run_in_threadpool(requested.row, xcoms.budget())
    answer: dict[str, Any] = {"xcom": xcoms.summary(row)}
    if is_envelope(row.value):
        answer["envelope"] = {name: part for name, part in row.value.items() if name not in ("data", "chunks")}

    def describe() -> dict[str, Any]:
        return xcoms.open_value(row, xcoms.budget()).inside(requested.inside).describe()

    try:
        answer["value"] = await xcoms.pool.run(describe)
    except XCargoError as error:
        answer["problem"] = {"kind": str(error.kind), "what": error.what[:1000], "hint": error.hint}
    return answer


@_views.get("/tree")
@in_preview_pool
def tree(
    requested: Requested,
    at: Annotated[int, Query(ge=0)] = 0,
    start: Annotated[int, Query(ge=0)] = 0,
    count: Annotated[int, Query(ge=1, le=200)] = 100,
    cursor: Annotated[str, Query(max_length=100)] = "",
) -> dict[str, Any]:
    """A page of a node's children."""
    return requested.value().tree.children(at, start=start, cursor=cursor, count=count)


@_views.get("/search")
@in_preview_pool
def search(
    requested: Requested,
    x_xcargo_text: Annotated[str, Header(max_length=2000)],
    start: Annotated[int, Query(ge=0)] = 0,
) -> dict[str, Any]:
    """Keys and texts of a tree that contain a text. It comes, quoted, in a header: access logs hold addresses."""
    return requested.value().tree.search(unquote(x_xcargo_text)[:200], start)


@_views.get("/table")
@in_preview_pool
def table(
    requested: Requested,
    filters: Filters,
    start: Annotated[int, Query(ge=0)] = 0,
    count: Annotated[int, Query(ge=0, le=1000)] = 100,
    columns: Annotated[str, Query(max_length=4000)] = "",
    sort: int | None = None,
    descending: bool = False,
) -> dict[str, Any]:
    """A page of a table's rows and columns."""
    try:
        numbers = [int(number) for number in columns.split(",") if number][:_MAX_COLUMNS]
    except ValueError as error:
        raise DecodeError("The columns are not a list of numbers") from error
    value = requested.value()
    read = value.table()
    rows = _filtered(value, read, filters)
    if sort is not None:
        name = f"{sort} {descending} {json.dumps(filters)}"
        rows = _cached(value, name, lambda: read.sort(sort, descending=descending, rows=rows))
    return read.page(start, count, numbers, rows)


@_views.get("/column")
@in_preview_pool
def column(requested: Requested, filters: Filters, number: Annotated[int, Query(ge=0)]) -> dict[str, Any]:
    """How a column's values are spread, in the rows that pass the filters."""
    value = requested.value()
    read = value.table()
    return read.distribution(number, _filtered(value, read, filters))


@_views.get("/array")
@in_preview_pool
def array(
    requested: Requested,
    start: Annotated[int, Query(ge=0)] = 0,
    first: Annotated[int, Query(ge=0)] = 0,
    indexes: Annotated[str, Query(max_length=200)] = "",
    part: str = "summary",
) -> dict[str, Any]:
    """An array in numbers (``summary``), as a picture (``picture``), or a page of its items (``page``)."""
    chosen = tuple(int(number) for number in indexes.split(",") if number.isdecimal())
    read = requested.value().array()
    if part == "picture":
        return read.picture(chosen)
    return read.page(start, 50, first=first, indexes=chosen) if part == "page" else read.summary()


@_views.get("/bytes")
@in_preview_pool
def some_bytes(
    requested: Requested,
    start: Annotated[int, Query(ge=0)] = 0,
    count: Annotated[int, Query(ge=0, le=65536)] = 1024,
    at: int | None = None,
    text: bool = False,
) -> dict[str, Any]:
    """Some bytes of a file, a stream or bytes, or of a text inside a tree at ``at``."""
    value = requested.value()
    if at is not None:
        return value.tree.text(at, start, count)
    return value.text(start, count) if text else value.hexadecimal(start, count)


@_views.get("/folder")
@in_preview_pool
def folder(requested: Requested) -> dict[str, Any]:
    """Names and sizes of the files in a folder."""
    return requested.value().files()


@_views.get("/image")
@in_preview_pool
def image(requested: Requested) -> Response:
    """A picture, if the bytes are one of a kind that can hold no script."""
    value = requested.value()
    kind = image_type(value.beginning()) if value.kind == "bytes" else None
    if kind is None:
        raise UnsupportedTypeError("The value is not a picture")
    if value.payload.size_bytes > _IMAGE_BYTES:
        raise TooLargeError("The picture is too large to be shown", hint="Download it.")
    return Response(bytes(value.payload.read_all()), media_type=kind)


@_views.get("/compare")
@in_preview_pool
def compared(
    requested: Requested,
    other_run_id: str,
    other_map_index: str = "-1",
    other_attempt: Annotated[int, Query(ge=0, le=MAX_NUMBER)] = 0,
    other_region: str = "",
) -> dict[str, Any]:
    """What differs between this XCom and the same one of another run, map index or attempt of the same task."""
    index, region = parse_map_index(other_map_index), parse_region(other_region)
    other = replace(requested.xcom, run_id=other_run_id, map_index=index, attempt=other_attempt, region=region)
    return compare(requested.value(), ValueRequest(other, requested.inside).value())


@_views.get("/download")
@in_preview_pool
def download(requested: Requested, form: str = "raw") -> Response:
    """The value as a file: its payload as it is, or in a format that people open (``StoredValue.download``).

    Streamed, or from the store by a signed URL.
    """
    limits = xcoms.budget(_DOWNLOAD_SECONDS)
    row = requested.row(limits)
    value = xcoms.open_value(row, limits).inside(requested.inside)
    file = value.download(form)
    if form == "raw" and not requested.inside and (url := xcoms.signed_url(row)):
        return RedirectResponse(url, status_code=307)
    name = _safe_name(file.name) or _file_name(requested.xcom, file.suffix)
    headers = {"content-disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}"}
    if file.size_bytes is not None:
        headers["content-length"] = str(file.size_bytes)
    first = bytes(next(file.chunks, b""))  # so the error of an object that is gone is the answer
    return DownloadResponse(_chain(first, file.chunks), media_type="application/octet-stream", headers=headers)


def _no_odd_number(asset_id: str) -> None:
    """Refuses digits that Airflow's own check (3.4) could not look up."""
    if asset_id.isdigit():
        parse_asset_id(asset_id)


def _routes(prefix: str, *checks: Callable[..., Any], is_state: bool) -> APIRouter:
    """The routes of what is stored there, for whoever has the right."""

    def mark(request: Request) -> None:
        request.state.xcargo_is_state = is_state

    router = APIRouter(prefix=prefix, dependencies=[*map(Depends, checks), Depends(well_formed), Depends(mark)])
    router.include_router(_views)
    return router


_of_xcoms = _routes("/dags/{dag_id}", can_read_xcoms, is_state=False)
_of_task_state = _routes("/dags/{dag_id}/state", state.can_read_task_state, is_state=True)
_of_asset_state = _routes("/assets/{asset_id}/state", _no_odd_number, state.can_read_asset_state, is_state=True)

Start = Annotated[int, Query(ge=0, le=MAX_NUMBER)]
Size = Annotated[int, Query(ge=1, le=_MAX_LISTED)]


@_of_xcoms.get("/xcoms")
def list_xcoms(
    dag_id: str,
    run_id: str | None = None,
    task_id: str | None = None,
    map_index: str | None = None,
    start: Start = 0,
    count: Size = 100,
) -> dict[str, Any]:
    """The XComs of a task instance, a run or a Dag, by their rows. No request to a store."""
    index = None if map_index is None else parse_map_index(map_index)
    return _listed(*xcoms.list_xcoms(dag_id, run_id=run_id, task_id=task_id, map_index=index, start=start, count=count))


@_of_task_state.get("")
def list_task_state(
    dag_id: str, run_id: str, task_id: str, map_index: str | None = None, start: Start = 0, count: Size = 100
) -> dict[str, Any]:
    """The same of the state of a task instance, or of all instances of a task."""
    index = None if map_index is None else parse_map_index(map_index)
    return _listed(
        *state.list_of_task(dag_id, run_id=run_id, task_id=task_id, map_index=index, start=start, count=count)
    )


@_of_asset_state.get("")
def list_asset_state(asset_id: str, start: Start = 0, count: Size = 100) -> dict[str, Any]:
    """The same of the state of an asset."""
    return _listed(*state.list_of_asset(parse_asset_id(asset_id), start=start, count=count))


def _listed(total: int, rows: list[XComRow]) -> dict[str, Any]:
    return {"total": total, "xcoms": [xcoms.summary(row) for row in rows]}


router = APIRouter(prefix="/api")
for _router in (_of_task_state, _of_asset_state, _of_xcoms):
    router.include_router(_router)


@router.get("/assets", dependencies=[Depends(state.can_read_asset_state)])
def list_assets() -> dict[str, Any]:
    """The assets that keep state."""
    return {"assets": state.list_assets(_MAX_LISTED)}


def _file_name(xcom: XComId, suffix: str) -> str:
    """``dag-run-task-key.csv``, the task with its map index; ``asset-number-key.csv``."""
    if xcom.asset_id is not None:
        return _safe_name(f"asset-{xcom.asset_id}-{xcom.key}")[:_MAX_NAME] + suffix
    index = f"-{xcom.map_index}" if xcom.map_index >= 0 else ""
    return _safe_name(f"{xcom.dag_id}-{xcom.run_id}-{xcom.task_id}{index}-{xcom.key}")[:_MAX_NAME] + suffix


def _safe_name(name: str) -> str:
    """A file name without characters that some file system refuses, or that hide or turn round others."""
    return "".join(char if char.isprintable() and char not in _NOT_IN_NAMES else "_" for char in name)


class DownloadResponse(StreamingResponse):
    """Streams a value, unless as many as may be are streamed: then StoreUnavailableError is the answer."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if not _downloads.acquire(blocking=False):
            raise StoreUnavailableError(
                f"{_DOWNLOADS} values are being downloaded, and no more may be at once", hint="Try again in a moment."
            )
        try:
            await super().__call__(scope, receive, send)
        finally:
            _downloads.release()


def _chain(first: bytes, rest: Iterator[Buffer]) -> Iterator[bytes]:
    yield first
    for chunk in rest:
        yield bytes(chunk)


def _filtered(value: StoredValue, read: Table, filters: list[dict[str, Any]]) -> Any:
    """The rows that pass the filters, None for all; found once for a page, its charts and the pages that follow."""
    if not filters:
        return None
    return _cached(value, json.dumps(filters), lambda: read.filter(filters))


def _cached(value: StoredValue, name: str, find: Callable[[], Any]) -> Any:
    payload = value.payload
    if not payload.name:
        return find()
    key = (payload.identity, name)
    order = payload.cache.orders.get(key)
    if order is None:
        order = find()
        payload.cache.orders.put(key, order, order.nbytes)
    return order
