"""SQL over what tasks returned: DuckDB scans the stored tables of a task's runs as one table."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from xcargo.codecs.base import arrow, importable
from xcargo.errors import ConfigurationError, ObjectNotFoundError, UnsupportedTypeError

if TYPE_CHECKING:
    from xcargo.airflow.client.values import StoredValue

__all__ = ["query"]

_SCANNED = ("polars.DataFrame", "polars.LazyFrame", "pyarrow.Table", "pyarrow.RecordBatch", "pyarrow.RecordBatchReader")
_LOCKED = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}


def query(sql: str, values_of: Callable[[str, str], Iterable[StoredValue]], *, memory_mib: int) -> Any:
    """The result of one SELECT as a DuckDB relation: ``df()``, ``pl()``, ``arrow()``, ``fetchall()``.

    A table in it is named ``"dag.task"``, or ``dag.task`` if both are identifiers. It has the columns of what the task
    returned, and ``run_id``, ``run_date`` and ``map_index``. Of polars and Arrow tables only the columns and batches
    that the query needs are fetched.

    Args:
        sql: One SELECT. It reaches no file, network or extension, and no variable of this process.
        values_of: Gives the values of a task, by Dag and task id; none for a task that there is not.
        memory_mib: Most memory for DuckDB's own work.

    Raises:
        ConfigurationError: It is not one SELECT.
        ObjectNotFoundError: There is no value of a task that it names.
        UnsupportedTypeError: A value is neither a table nor a list of records.
    """
    duckdb = importable("duckdb", "SQL over stored tables", extra="sql")
    database = duckdb.connect(":memory:", config={**_LOCKED, "memory_limit": f"{memory_mib}MiB"})
    for schema, table in sorted(_tables(database, sql)):
        _add_view(database, schema, table, _named(f"{schema}.{table}" if schema else table, values_of))
    database.execute("SET python_enable_replacements = false")
    database.execute("SET lock_configuration = true")
    return database.sql(sql)


def _tables(database: Any, sql: str) -> set[tuple[str, str]]:
    """Schema and name of each table in a query. Raises ConfigurationError if it is not one SELECT."""
    parsed = json.loads(database.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchall()[0][0])
    if parsed["error"] or len(parsed["statements"]) != 1:
        reason = parsed.get("error_message", "There are several statements")
        raise ConfigurationError(
            f"The query is not one SELECT: {reason}", hint='Write it like this: SELECT * FROM "dag.task"'
        )
    tables: set[tuple[str, str]] = set()
    in_query: set[str] = set()  # named by WITH, in small letters: SQL takes no notice of them
    nodes: list[Any] = [parsed["statements"]]
    while nodes:
        node = nodes.pop()
        if isinstance(node, dict):
            if node.get("type") == "BASE_TABLE":
                tables.add((node["schema_name"], node["table_name"]))
            in_query.update(entry["key"].lower() for entry in (node.get("cte_map") or {}).get("map", ()))
        nodes += node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return {(schema, name) for schema, name in tables if schema or name.lower() not in in_query}


def _named(name: str, values_of: Callable[[str, str], Iterable[StoredValue]]) -> list[StoredValue]:
    """The values of the task that a table is named after. Ids of Dags and tasks may both have dots."""
    parts = name.split(".")
    for dots in range(1, len(parts)):
        values = list(values_of(".".join(parts[:dots]), ".".join(parts[dots:])))
        if values:
            return values
    raise ObjectNotFoundError(
        f"There is no value of a task {name!r}", hint='A table is named by Dag and task, in quotes: FROM "dag.task".'
    )


def _add_view(database: Any, schema: str, name: str, values: list[StoredValue]) -> None:
    """A view over all values of a task."""
    selects = []
    for value in values:
        table = _table(value)
        if table is None:
            continue
        part = f"value of {value.dag_id} {value.run_id} {value.task_id} {value.map_index}"
        database.register(part, table)
        at = f"{_text(value.run_id)} AS run_id, {_time(value)} AS run_date, {value.map_index} AS map_index"
        selects.append(f"SELECT *, {at} FROM {_quoted(part)}")  # noqa: S608 - all of it is quoted
    if not selects:
        raise UnsupportedTypeError(
            f"Each list that task {values[0].task_id!r} returned is empty, so its columns are not known",
            where=f"dag {values[0].dag_id!r}",
            hint="Choose runs that returned a record, with run_id or since.",
        )
    if schema:
        database.execute(f"CREATE SCHEMA IF NOT EXISTS {_quoted(schema)}")
    view = f"{_quoted(schema or 'main')}.{_quoted(name)}"
    database.execute(f"CREATE VIEW {view} AS {' UNION ALL BY NAME '.join(selects)}")


def _table(value: StoredValue) -> Any:
    """What DuckDB scans; None for an empty list, which has no rows and no columns."""
    if value.type in _SCANNED:
        return value.lazy().scan("pyarrow")
    if value.type == "pandas.DataFrame":
        return value.lazy().to_arrow()
    records = value.pull() if value.type == "list" else None
    if records == []:
        return None
    if not records or not any(records) or not all(type(record) is dict for record in records):
        raise UnsupportedTypeError(
            f"What task {value.task_id!r} returned is a {value.type}, not a table",
            where=f"dag {value.dag_id!r}, run {value.run_id!r}",
            hint="SQL reads DataFrames of pandas and polars, Arrow tables and lists of dictionaries.",
        )
    pa = arrow()
    names = dict.fromkeys(name for record in records for name in record)  # not those of the first record alone
    try:
        return pa.table({name: [record.get(name) for record in records] for name in names})
    except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
        raise UnsupportedTypeError(
            f"The dictionaries that task {value.task_id!r} returned make no table: {error}",
            where=f"dag {value.dag_id!r}, run {value.run_id!r}",
            hint="Each key must be text, and each field must have one type.",
        ) from error


def _time(value: StoredValue) -> str:
    return f"TIMESTAMPTZ {_text(value.run_date.isoformat())}" if value.run_date else "NULL::TIMESTAMPTZ"


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
