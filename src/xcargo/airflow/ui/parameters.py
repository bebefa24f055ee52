"""What the address and the headers of a request name: a value, and which part of it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import unquote
from uuid import UUID

from fastapi import Depends, Header, Query, Request

from xcargo.airflow.ui import state, xcoms
from xcargo.airflow.ui.xcoms import MAX_NUMBER, XComId, XComRow
from xcargo.errors import DecodeError
from xcargo.explorer.limits import Budget
from xcargo.explorer.value import StoredValue

__all__ = ["Filters", "Requested", "ValueRequest", "parse_asset_id", "parse_map_index", "parse_region"]

_MAX_FILTERS = 8


@dataclass(frozen=True)
class ValueRequest:
    """Which value of the Dag, and which part inside it."""

    xcom: XComId
    inside: str

    def row(self, limits: Budget) -> XComRow:
        """Its row. Raises XCargoError."""
        find = state.find if self.xcom.is_state else xcoms.find
        return find(self.xcom, limits.max_bytes)

    def value(self) -> StoredValue:
        """The value, ready to be read. Raises XCargoError."""
        limits = xcoms.budget()
        return xcoms.open_value(self.row(limits), limits).inside(self.inside)


def parse_map_index(text: str) -> int:
    """A map index as Airflow puts it into an address: of a task that is not mapped it leaves the placeholder."""
    if not re.fullmatch(r"-?[0-9]+", text):
        return -1
    if len(text) > 10 or int(text) > MAX_NUMBER:
        raise DecodeError(f"A map index is no larger than {MAX_NUMBER}")
    return int(text)


def parse_asset_id(asset_id: str) -> int:
    """The number of an asset in an address."""
    if not re.fullmatch(r"[0-9]{1,10}", asset_id) or int(asset_id) > MAX_NUMBER:
        raise DecodeError("An asset's id is a number")
    return int(asset_id)


def parse_region(text: str) -> str:
    """The region of a loop or mapped task in an address."""
    try:
        return str(UUID(text)) if text else ""
    except ValueError as error:
        raise DecodeError("A region is a UUID") from error


def value_request(
    request: Request,
    key: Annotated[str, Query(max_length=512)],
    run_id: str = "",
    task_id: str = "",
    map_index: str = "-1",
    attempt: Annotated[int, Query(ge=0, le=MAX_NUMBER)] = 0,
    region: str = "",
    inside: Annotated[str, Query(max_length=200)] = "",
) -> ValueRequest:
    """The value that a request names: of the store whose routes they are, for which the rights were checked."""
    is_state, path = request.state.xcargo_is_state, request.path_params
    if "asset_id" in path:
        xcom = XComId("", "", "", key, is_state=True, asset_id=parse_asset_id(path["asset_id"]))
    elif is_state:
        index = parse_map_index(map_index)
        xcom = XComId(path["dag_id"], run_id, task_id, key, index, is_state=True, region=parse_region(region))
    else:
        xcom = XComId(path["dag_id"], run_id, task_id, key, parse_map_index(map_index), attempt)
    return ValueRequest(xcom, inside)


Requested = Annotated[ValueRequest, Depends(value_request)]


def parse_filters(x_xcargo_filters: Annotated[str, Header(max_length=12_000)] = "") -> list[dict[str, Any]]:
    """The filters of a table. They come, quoted, in a header: access logs hold addresses."""
    text = unquote(x_xcargo_filters)
    try:
        filters = json.loads(text) if text else []
        filters = [{name: one[name] for name in ("column", "operator", "value") if name in one} for one in filters]
        if any(type(one["column"]) is not int for one in filters):
            raise TypeError
        json.dumps(filters, ensure_ascii=False).encode()  # half a character cannot be compared with
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        raise DecodeError("The filters are not well-formed") from error
    return filters[:_MAX_FILTERS]


Filters = Annotated[list[dict[str, Any]], Depends(parse_filters)]
