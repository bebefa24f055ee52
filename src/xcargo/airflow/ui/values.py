"""Answers about one value: what it is, and the part of it that is on the screen."""

from __future__ import annotations

import json
import re
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import quote, unquote

from airflow.utils.session import create_session
from fastapi import APIRouter, Depends, Header, Query, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse, StreamingResponse

from xcargo.airflow.ui import look, rows
from xcargo.airflow.ui.guard import allowed, well_formed
from xcargo.airflow.ui.rows import MOST, Found, Place
from xcargo.codecs.source import read_all
from xcargo.errors import DecodeError, StoreUnavailableError, UnsupportedTypeError, XCargoError
from xcargo.explorer import content
from xcargo.explorer.bounds import Budget, TooLargeError
from xcargo.explorer.compare import compare
from xcargo.explorer.plain import as_json
from xcargo.explorer.search import search
from xcargo.explorer.value import Value
from xcargo.model.envelope import is_envelope

__all__ = ["router"]

router = APIRouter(prefix="/api/dags/{dag_id}", dependencies=[Depends(allowed), Depends(well_formed)])

_MOST_ROWS = 200
_DOWNLOAD_SECONDS = 6 * 3600.0
_IMAGE_BYTES = 16 * 1024 * 1024
_DOWNLOADS = 8
"""Values that are streamed at once by this process: each holds some chunks until its browser has taken them."""

_downloads = threading.BoundedSemaphore(_DOWNLOADS)


@dataclass(frozen=True)
class Asked:
    """Which value of the Dag, and which part inside it."""

    place: Place
    inside: str

    def value(self, limits: Budget | None = None) -> Value:
        """The value, ready to be read. Raises XCargoError."""
        limits = limits or look.budget()
        return look.opened(self.found(limits), limits).inside(self.inside)

    def found(self, limits: Budget) -> Found:
        """Its row. Raises XCargoError."""
        with create_session() as session:
            return rows.find(session, self.place, limits.max_bytes)


def map_index_of(text: str) -> int:
    """A map index as Airflow puts it into an address: of a task that is not mapped it leaves the placeholder."""
    if not re.fullmatch(r"-?[0-9]+", text):
        return -1
    if len(text) > 10 or int(text) > MOST:
        raise DecodeError(f"A map index is no larger than {MOST}")
    return int(text)


def asked(
    dag_id: str,
    run_id: str,
    task_id: str,
    key: Annotated[str, Query(max_length=512)],
    map_index: str = "-1",
    attempt: Annotated[int, Query(ge=0, le=MOST)] = 0,
    inside: Annotated[str, Query(max_length=200)] = "",
) -> Asked:
    """The value that a request names."""
    return Asked(Place(dag_id, run_id, task_id, key, map_index_of(map_index), attempt), inside)


AskedFor = Annotated[Asked, Depends(asked)]


@router.get("/xcoms")
def xcoms(
    dag_id: str,
    run_id: str | None = None,
    task_id: str | None = None,
    map_index: str | None = None,
    start: Annotated[int, Query(ge=0, le=MOST)] = 0,
    count: Annotated[int, Query(ge=1, le=_MOST_ROWS)] = 100,
) -> dict[str, Any]:
    """The XComs of a task instance, a run or a Dag, as their rows tell of them. No request to a store."""
    index = None if map_index is None else map_index_of(map_index)
    with create_session() as session:
        total, found = rows.listed(session, dag_id, run_id, task_id, index, start=start, count=count)
    return {"total": total, "xcoms": [look.told(one) for one in found]}


@router.get("/others")
def others(which: AskedFor) -> dict[str, Any]:
    """The same XCom of other runs, map indexes and attempts, to compare with."""
    with create_session() as session:
        found = rows.others(session, which.place, 50)
    return {"xcoms": [look.told(one) for one in found]}


@router.get("/value")
async def value(which: AskedFor) -> dict[str, Any]:
    """The row, and what can be shown of the value; a problem with the store is told beside the row."""
    found = await run_in_threadpool(which.found, look.budget())
    told: dict[str, Any] = {"xcom": look.told(found)}
    if is_envelope(found.value):
        told["envelope"] = {name: part for name, part in found.value.items() if name not in ("data", "chunks")}
    try:
        told["value"] = await look.looks.do(lambda: look.opened(found, look.budget()).inside(which.inside).described())
    except XCargoError as error:
        told["problem"] = {"kind": str(error.kind), "what": error.what[:1000], "hint": error.hint}
    return told


@router.get("/tree")
@look.looking
def tree(
    which: AskedFor,
    at: Annotated[int, Query(ge=0)] = 0,
    start: Annotated[int, Query(ge=0)] = 0,
    count: Annotated[int, Query(ge=1, le=200)] = 100,
    cursor: Annotated[str, Query(max_length=100)] = "",
) -> dict[str, Any]:
    """A page of a node's children."""
    return which.value().tree[0].children(at, start=start, cursor=cursor, count=count)


@router.get("/search")
@look.looking
def find(
    which: AskedFor,
    x_xcargo_text: Annotated[str, Header(max_length=2000)],
    start: Annotated[int, Query(ge=0)] = 0,
) -> dict[str, Any]:
    """Keys and texts of a tree that contain a text. It comes, quoted, in a header: access logs hold addresses."""
    text = unquote(x_xcargo_text)[:200]
    opened = which.value()
    nodes, packed, root = opened.tree
    return search(nodes, packed, root, text, start, opened.budget)


@router.get("/table")
@look.looking
def table(
    which: AskedFor,
    start: Annotated[int, Query(ge=0)] = 0,
    count: Annotated[int, Query(ge=0, le=1000)] = 100,
    columns: Annotated[str, Query(max_length=4000)] = "",
    sort: int | None = None,
    descending: bool = False,
    x_xcargo_filters: Annotated[str, Header(max_length=12_000)] = "",
) -> dict[str, Any]:
    """A page of a table's rows and columns. Filters come, quoted, in a header: access logs hold addresses."""
    filters = unquote(x_xcargo_filters)
    try:
        numbers = [int(number) for number in columns.split(",") if number][:200]
        wanted = json.loads(filters) if filters else []
        wanted = [{name: one[name] for name in ("column", "operator", "value") if name in one} for one in wanted[:8]]
        if any(type(one["column"]) is not int for one in wanted):
            raise TypeError
        json.dumps(wanted, ensure_ascii=False).encode()  # half a character cannot be compared with
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        raise DecodeError("The columns or filters asked for are not well-formed") from error
    opened = which.value()
    read, order = opened.table(), None
    if wanted or sort is not None:
        name = (opened.name, sort, descending, json.dumps(wanted))
        order = opened.shelf.orders.get(name) if opened.name else None
        if order is None:
            order = read.order(wanted, sort, descending=descending)
            if opened.name:
                opened.shelf.keep_order(name, order)
    return read.page(start, count, numbers, order)


@router.get("/column")
@look.looking
def column(which: AskedFor, number: Annotated[int, Query(ge=0)]) -> dict[str, Any]:
    """How a column's values are spread."""
    return which.value().table().distribution(number)


@router.get("/array")
@look.looking
def array(
    which: AskedFor,
    start: Annotated[int, Query(ge=0)] = 0,
    first: Annotated[int, Query(ge=0)] = 0,
    indexes: Annotated[str, Query(max_length=200)] = "",
    part: str = "summary",
) -> dict[str, Any]:
    """An array in numbers (``summary``), as a picture (``picture``), or a page of its items (``page``)."""
    chosen = tuple(int(number) for number in indexes.split(",") if number.isdecimal())
    read = which.value().array()
    if part == "picture":
        return read.picture(chosen)
    return read.page(start, 50, first, 20, chosen) if part == "page" else read.summary()


@router.get("/bytes")
@look.looking
def some_bytes(
    which: AskedFor,
    start: Annotated[int, Query(ge=0)] = 0,
    count: Annotated[int, Query(ge=0, le=65536)] = 1024,
    at: int | None = None,
    text: bool = False,
) -> dict[str, Any]:
    """Some bytes of a file, a stream or bytes, or of a text inside a tree at ``at``."""
    opened = which.value()
    if at is not None:
        return opened.tree[0].text(at, start, count)
    if opened.kind != "bytes":
        raise UnsupportedTypeError(f"A value of type {opened.type} has no bytes to show")
    read = content.text_part if text else content.part
    return read(opened.source, start, count)


@router.get("/folder")
@look.looking
def folder(which: AskedFor) -> dict[str, Any]:
    """Names and sizes of the files in a folder."""
    opened = which.value()
    if opened.kind != "folder":
        raise UnsupportedTypeError(f"A value of type {opened.type} is no folder")
    return content.archive(opened.source, opened.budget)


@router.get("/image")
@look.looking
def image(which: AskedFor) -> Response:
    """A picture, if the bytes are one of a kind that can hold no script."""
    opened = which.value()
    kind = content.image_type(bytes(opened.source.read(0, 32))) if opened.kind == "bytes" else None
    if kind is None:
        raise UnsupportedTypeError("The value is no picture")
    if opened.source.size_bytes > _IMAGE_BYTES:
        raise TooLargeError("The picture is too large to be shown", hint="Download it.")
    return Response(bytes(read_all(opened.source)), media_type=kind)


@router.get("/compare")
@look.looking
def compared(
    which: AskedFor,
    other_run_id: str,
    other_map_index: str = "-1",
    other_attempt: Annotated[int, Query(ge=0, le=MOST)] = 0,
) -> dict[str, Any]:
    """What differs between this XCom and the same one of another run, map index or attempt of the same task."""
    mine = which.place
    place = Place(mine.dag_id, other_run_id, mine.task_id, mine.key, map_index_of(other_map_index), other_attempt)
    return compare(which.value(), Asked(place, which.inside).value())


@router.get("/download")
@look.looking
def download(which: AskedFor, form: str = "raw") -> Response:
    """The value as a file: its payload as it is, or a tree as JSON. Streamed, or from the store by a signed URL."""
    limits = look.budget(_DOWNLOAD_SECONDS)
    found = which.found(limits)
    opened = look.opened(found, limits).inside(which.inside)
    disposition = f"attachment; filename*=UTF-8''{quote(_file_name(which.place, opened, form), safe='')}"
    headers = {"content-disposition": disposition}
    kind = "application/octet-stream"
    if form == "json":
        _, packed, root = opened.tree
        opened.budget.fits(packed.source.size_bytes * 4, "The value as JSON")
        text = as_json(bytes(read_all(packed.source))[root:])
        return Response(text, media_type=kind, headers=headers)
    if opened.kind == "opaque" and opened.codec == "pickle":
        raise UnsupportedTypeError("A pickle is not handed out here: opening it runs its code")
    if not which.inside and (url := look.signed_url(found, disposition)):
        return RedirectResponse(url, status_code=307)
    pieces = _streamed(opened)
    first = next(pieces, b"")  # an object that is gone is told before the answer begins
    headers["content-length"] = str(opened.source.size_bytes)
    return StreamingResponse(_chained(first, pieces), media_type=kind, headers=headers)


def _streamed(opened: Value) -> Iterator[bytes]:
    """The payload in pieces. Raises StoreUnavailableError while as many as may be are streamed."""
    if not _downloads.acquire(blocking=False):
        raise StoreUnavailableError(
            f"{_DOWNLOADS} values are being downloaded right now, and no more at once", hint="Try again in a moment."
        )
    pieces = _pieces(opened)
    weakref.finalize(pieces, _downloads.release)  # however it ends, also if it never begins
    return pieces


def _pieces(opened: Value) -> Iterator[bytes]:
    for piece in opened.source.iter_chunks():
        yield bytes(piece)


def _chained(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _file_name(place: Place, opened: Value, form: str) -> str:
    if opened.codec == "file" and not opened.params.get("directory"):
        return str(opened.params.get("name") or "file")
    suffixes = {"table": ".arrow", "tree": ".msgpack", "array": ".npraw", "folder": ".tar", "bytes": ".bin"}
    suffix = ".json" if form == "json" else suffixes.get(opened.kind, ".bin")
    index = f"-{place.map_index}" if place.map_index >= 0 else ""
    return f"{place.dag_id}-{place.task_id}{index}-{place.key}{suffix}".replace("/", "_")
