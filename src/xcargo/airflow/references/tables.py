"""The tables in which each generation of Airflow keeps XComs and state, and conditions on a row and its value.

Built by inspection of the database, not from Airflow's models: archives of ``airflow db clean`` have none, and may hold
rows of an earlier Airflow.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from xcargo.lifecycle.references import XComFilter

__all__ = ["STATE_MARKER", "ValueFilter", "XComTable", "archives", "live_tables", "matches", "run_table", "state_text"]

_XCOMS = ("xcom", "xcom_v1", "xcom_v2")
_TASK_STATE, _ASSET_STATE = "task_state_store", "asset_state_store"
_ARCHIVES = ("_airflow_deleted__xcom", "_xcom_archive", f"_airflow_deleted__{_TASK_STATE}")
STATE_MARKER = "__airflow_state_ref__"
"""Under this name Airflow wraps what the workers' backend of the state store gave it for a value."""

_BEGINNING = b'{"__id__":"xcargo/'
"""How an envelope of ours begins in the bytes of Airflow 2."""


@dataclass(frozen=True)
class ValueFilter:
    """Values for which at least one of these holds. May match more; misses none."""

    envelopes: bool = False
    """Envelopes of ours."""
    prefixes: tuple[str, ...] = ()
    """Texts that begin with one of these."""
    larger_than: int | None = None
    """JSON of more bytes."""
    text: str | None = None
    """JSON that holds this text anywhere: letters, digits, hyphens. Not of Airflow 2."""


@dataclass(frozen=True)
class XComTable:
    """A table with rows of XComs or of the state store, and the expressions that read it."""

    name: str
    value: Any
    """The value's column, as it is compared and written."""
    raw: Any
    """The same as it is read: JSON as text where the database does not parse it."""
    columns: dict[str, Any]
    """Expressions for ``dag_id``, ``run_id``, ``task_id``, ``map_index``, ``key``, ``attempt``, ``timestamp``,
    ``state``, ``ended`` and ``date``; of the state store also ``region``, ``asset`` and ``uri``."""
    source: Any
    """The table, joined with those that tell the rest."""
    table: Any
    primary_key: tuple[Any, ...]
    """Columns by which the rows are read page by page; empty where an archive has none."""
    dialect: str
    kind: str
    """``jsonb``, ``json`` or ``bytes``; ``text`` for SQLite, which has no type of its own for either; ``state`` for the
    text of the state store: JSON that holds what its backend gave as a text, which is JSON again."""

    def conditions(self, where: XComFilter) -> list[Any]:
        """The rows that match; in an archive also those of which it is not known."""
        matching: list[Any] = []
        for name in ("dag_id", "run_id", "task_id", "key", "asset"):
            pattern = getattr(where, name)
            if pattern is None:
                continue
            if name == "asset" and _ASSET_STATE not in self.name:
                return [sa.false()]
            matching.append(matches(self.columns[name], pattern))
        if where.map_index is not None:
            matching.append(self.columns["map_index"] == where.map_index)
        if self.name.startswith("_") and matching:
            return [sa.or_(self.columns["dag_id"].is_(None), sa.and_(*matching))]
        return matching

    def is_row(self, identity: tuple[Any, ...]) -> list[Any]:
        """The one row with a primary key."""
        return [column == value for column, value in zip(self.primary_key, identity, strict=True)]

    def holds(self, raw: Any) -> Any:
        """Whether a value is still what was read."""
        if self.kind == "json":
            return self.value == sa.cast(sa.literal(json.dumps(raw)), sa.JSON())
        if self.kind == "state" and self.dialect == "mysql":  # whose texts are equal whatever their case
            return sa.cast(self.value, sa.LargeBinary) == raw.encode()
        return self.value == self.literal(raw)

    def literal(self, raw: Any) -> Any:
        """A value as this table takes it."""
        if self.kind == "text":
            return sa.literal(raw, sa.LargeBinary() if isinstance(raw, bytes) else sa.Text())
        return sa.literal(raw, self.value.type)

    def value_matches(self, values: ValueFilter) -> Any:
        """Whether a value matches."""
        if self.kind == "state":
            texts = (values.text, *(json.dumps(prefix)[1:-1] for prefix in values.prefixes))
            conditions = [self._contains(text) for text in (*texts, "__id__" if values.envelopes else None) if text]
            if values.larger_than is not None:
                conditions.append(sa.func.length(self.value) > values.larger_than)
            return sa.or_(sa.false(), *conditions)
        conditions = [self._begins_with(prefix) for prefix in values.prefixes]
        if values.envelopes:
            conditions.append(self._is_envelope())
        if values.larger_than is not None:
            conditions.append(self._size() > values.larger_than)
        if values.text is not None:
            conditions.append(self._contains(values.text))
        return sa.or_(sa.false(), *conditions)

    def _contains(self, text: str) -> Any:
        as_text = sa.cast(self.value, sa.String if self.kind == "json" else sa.Text)
        return as_text.like(f"%{_escaped(text)}%", escape="\\")

    def _is_envelope(self) -> Any:
        if self.kind == "jsonb":
            return self.value.op("?")("__id__")
        if self.kind == "json":
            return sa.func.json_contains_path(self.value, "one", "$.__id__") == 1
        if self.kind == "bytes":
            return sa.func.substring(self.value, 1, len(_BEGINNING)) == _BEGINNING
        return sa.cast(self.value, sa.Text).like('{%"\\_\\_id\\_\\_"%', escape="\\")

    def _begins_with(self, prefix: str) -> Any:
        if self.kind == "jsonb":
            return sa.and_(
                sa.func.jsonb_typeof(self.value) == "string",
                self.value.op("#>>")(sa.literal_column("'{}'")).like(_escaped(prefix) + "%", escape="\\"),
            )
        if self.kind == "json":
            return sa.func.json_unquote(self.value).like(_escaped(prefix) + "%", escape="\\")
        text = json.dumps(prefix)[:-1]
        if self.kind == "bytes":
            return sa.func.substring(self.value, 1, len(text)) == text.encode()
        return sa.func.substr(sa.cast(self.value, sa.Text), 1, len(text)) == text

    def _size(self) -> Any:
        """Bytes of a value as JSON, or more."""
        if self.kind == "jsonb":
            return sa.func.octet_length(sa.cast(self.value, sa.Text))
        if self.kind == "text":
            return sa.func.length(sa.cast(self.value, sa.LargeBinary))
        return sa.func.octet_length(self.value)


def state_text(raw: str) -> str:
    """What the backend gave for a value, out of a row of the state store; of one without a backend its JSON."""
    try:
        stored = json.loads(raw)
    except ValueError:
        return raw
    text = stored.get(STATE_MARKER) if isinstance(stored, dict) else None
    return text if isinstance(text, str) else raw


def live_tables(inspector: Any, schema: str | None) -> Iterator[XComTable]:
    """The tables that Airflow itself reads XComs from, and then those of its state store (3.3 on)."""
    names = set(inspector.get_table_names(schema=schema))
    for name in (*_XCOMS, _TASK_STATE, _ASSET_STATE):
        if name in names:
            yield _described(inspector, schema, name)


def archives(inspector: Any, schema: str | None) -> Iterator[XComTable]:
    """The tables into which ``airflow db clean`` and the upgrade to Airflow 3 moved rows."""
    for name in sorted(inspector.get_table_names(schema=schema)):
        if name.startswith(_ARCHIVES):
            yield _described(inspector, schema, name)


def run_table(inspector: Any, schema: str | None) -> tuple[Any, dict[str, Any]]:
    """The table of Dag runs, and expressions for what a Run holds and ``id``."""
    table, _ = _table(inspector, schema, "dag_run")
    c = table.c
    if "run_after" in c:
        date: Any = sa.func.coalesce(c.logical_date, c.run_after)
    else:
        date = c.logical_date if "logical_date" in c else c.execution_date
    return table, {
        "id": c.id,
        "dag_id": c.dag_id,
        "run_id": c.run_id,
        "state": c.state,
        "ended": c.end_date,
        "date": date,
    }


def _described(inspector: Any, schema: str | None, name: str) -> XComTable:
    table, types = _table(inspector, schema, name)
    c = table.c
    runs, run = run_table(inspector, schema)
    if _ASSET_STATE in name:
        return _asset_state(inspector, schema, name, table)
    is_state = _TASK_STATE in name
    kind = "state" if is_state else _kind(inspector.bind.dialect.name, types["value"])
    per_attempt = "task_instance_id" in c
    if per_attempt:
        tasks, _ = _table(inspector, schema, "task_instance")
        source = table.outerjoin(tasks, tasks.c.id == c.task_instance_id).outerjoin(
            runs, sa.and_(runs.c.dag_id == tasks.c.dag_id, runs.c.run_id == tasks.c.run_id)
        )
        owner, attempt = tasks.c, c.task_instance_id
        map_index = tasks.c.region_index if "region_index" in tasks.c else tasks.c.map_index
        key: tuple[Any, ...] = (c.id,)
    else:
        source = table.outerjoin(runs, runs.c.id == c.dag_run_id)
        owner, attempt = c, sa.null()
        map_index = c.region_index if "region_index" in c else c.map_index
        key = (c.id,) if is_state else (c.dag_run_id, c.task_id, c.map_index, c.key)
    return XComTable(
        name,
        value=c.value,
        raw=sa.type_coerce(c.value, sa.Text) if kind == "text" else c.value,
        columns={
            "dag_id": owner.dag_id,
            "run_id": owner.run_id,
            "task_id": owner.task_id,
            "map_index": map_index,
            "key": c.key,
            "attempt": attempt,
            "timestamp": c.updated_at if is_state else c.timestamp,
            "state": run["state"],
            "ended": run["ended"],
            "date": run["date"],
            **({"region": c.region_id if "region_id" in c else sa.null()} if is_state else {}),
            **(dict.fromkeys(("asset", "uri"), sa.null()) if is_state else {}),
        },
        source=source,
        table=table,
        primary_key=_row_number(inspector, name) if name.startswith("_") else key,
        dialect=inspector.bind.dialect.name,
        kind=kind,
    )


def _asset_state(inspector: Any, schema: str | None, name: str, table: Any) -> XComTable:
    assets, _ = _table(inspector, schema, "asset")
    c, text = table.c, sa.literal("")
    return XComTable(
        name,
        value=c.value,
        raw=c.value,
        columns={
            **dict.fromkeys(("dag_id", "run_id", "task_id"), text),
            **dict.fromkeys(("map_index", "attempt", "state", "ended", "date", "region"), sa.null()),
            "key": c.key,
            "timestamp": c.updated_at,
            "asset": sa.func.coalesce(assets.c.name, text),
            "uri": assets.c.uri,
        },
        source=table.outerjoin(assets, assets.c.id == c.asset_id),
        table=table,
        primary_key=(c.asset_id, c.key),
        dialect=inspector.bind.dialect.name,
        kind="state",
    )


def _row_number(inspector: Any, name: str) -> tuple[Any, ...]:
    """An archive has no key. SQLite, where an open cursor keeps others from writing, numbers its rows itself."""
    return (sa.literal_column(f'"{name}".rowid', sa.Integer()),) if inspector.bind.dialect.name == "sqlite" else ()


def _table(inspector: Any, schema: str | None, name: str) -> tuple[Any, dict[str, Any]]:
    types = {column["name"]: column["type"] for column in inspector.get_columns(name, schema=schema)}
    sqlite = inspector.bind.dialect.name == "sqlite"
    # SQLite's types say nothing of the value; times are read as they are written there, which is text.
    columns = [
        sa.column(
            column,
            sa.Text() if sqlite and isinstance(kind, (sa.DateTime, sa.JSON, sa.LargeBinary, sa.Numeric)) else kind,
        )
        for column, kind in types.items()
    ]
    return sa.table(name, *columns, schema=schema), types


def _kind(dialect: str, column: Any) -> str:
    if dialect == "sqlite":
        return "text"
    if isinstance(column, sa.LargeBinary):
        return "bytes"
    return "jsonb" if isinstance(column, postgresql.JSONB) else "json"


def matches(column: Any, pattern: str) -> Any:
    """Whether an id matches a pattern of an XComFilter."""
    if "*" not in pattern:
        return column == pattern
    return column.like("%".join(map(_escaped, pattern.split("*"))), escape="\\")


def _escaped(text: str) -> str:
    """Text in a LIKE pattern, standing for itself."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
