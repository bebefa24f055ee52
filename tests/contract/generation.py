"""The installed Airflow: its generation, its backend class, and its hooks behind one face for all generations."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import airflow

__all__ = ["AIRFLOW_2", "HOOKS", "STOCK_HOOKS", "BaseXCom", "Hooks", "XCom", "as_json", "carried", "handed_to_purge"]

AIRFLOW_2 = airflow.__version__.startswith("2.")

if AIRFLOW_2:
    from airflow.models.xcom import BaseXCom, XCom
else:
    from airflow.sdk.bases.xcom import BaseXCom
    from airflow.sdk.execution_time.xcom import XCom

WHERE = {"dag_id": "a_dag", "run_id": "manual__2026-01-01T00:00:00+00:00", "task_id": "a_task"}


@dataclass(frozen=True)
class Hooks:
    """A pair of hooks of one backend class: what a push calls, and what a pull calls."""

    name: str
    push: Callable[[Any, str], Any]
    """(value, XCom key) -> row, as it is handed to the metadata database."""
    pull: Callable[[Any], Any]
    """row -> value."""

    def __repr__(self) -> str:
        return self.name


def _old_hooks(backend: Any) -> Hooks:
    return Hooks(
        "serialize_value",
        lambda value, key: backend.serialize_value(value, key=key, map_index=-1, **WHERE),
        # Of what Airflow hands over only ``value`` is there on every path.
        lambda row: backend.deserialize_value(SimpleNamespace(value=row)),
    )


def _new_hooks(backend: Any) -> Hooks:
    from airflow.sdk.bases.xcom import XComCoordinate

    own = XComCoordinate(**WHERE, ti_id=uuid4())
    return Hooks("store_value", lambda value, key: backend.store_value(own, key, value), backend.load_value)


def _hooks(backend: Any) -> list[Hooks]:
    new = [_new_hooks(backend)] if hasattr(BaseXCom, "store_value") else []
    return [_old_hooks(backend), *new]


HOOKS = _hooks(XCom)
STOCK_HOOKS = _hooks(BaseXCom)


def as_json(row: Any) -> Any:
    """A row as JSON: 2.x keeps bytes, 3.x a JSON value."""
    assert isinstance(row, bytes) is AIRFLOW_2
    return json.loads(row) if AIRFLOW_2 else row


def carried(row: Any) -> Any:
    """The row as it comes back from the way through the task's socket, HTTP and the database."""
    if AIRFLOW_2:
        return row
    from airflow.sdk.execution_time.comms import SetXCom

    message = SetXCom(key="return_value", value=row, **WHERE)  # refuses what is no JSON value
    _refuse_what_some_transport_refuses(message.value)
    return json.loads(json.dumps(message.value, allow_nan=False, ensure_ascii=False).encode())


def _refuse_what_some_transport_refuses(part: Any) -> None:
    if isinstance(part, str):
        assert "\0" not in part, "PostgreSQL's jsonb refuses NUL"
    elif isinstance(part, bool) or part is None:
        pass
    elif isinstance(part, int):
        assert -(2**63) <= part < 2**64, "msgpack refuses it"
    elif isinstance(part, float):
        assert math.isfinite(part), "JSON has no such number"
    elif isinstance(part, dict):
        for key, item in part.items():
            assert type(key) is str
            _refuse_what_some_transport_refuses(key)
            _refuse_what_some_transport_refuses(item)
    else:
        assert type(part) is list
        for item in part:
            _refuse_what_some_transport_refuses(item)


def handed_to_purge(value: Any) -> Any:
    """What Airflow hands to ``purge`` for a row with this value."""
    if AIRFLOW_2:
        xcom = XCom()
        xcom.value = value
        return xcom
    from airflow.sdk.execution_time.comms import XComResult

    return XComResult(key="return_value", value=value)
