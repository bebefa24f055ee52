"""Dags whose operators query a database: the rows are of the driver's, the hook's or the handler's making."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator
from contract_values import alike
from sqlalchemy.engine import result_tuple

try:
    from airflow.sdk import dag, get_current_context, task
except ImportError:
    from airflow.decorators import dag, task
    from airflow.operators.python import get_current_context

COUNT = 50
COLUMNS = {
    "contract_sqlite": ("id", "half", "name", "data", "missing"),
    "contract_postgres": ("id", "price", "day", "at", "at_utc", "lasts", "tags", "more", "even", "data", "missing"),
}
SQL = {
    "contract_sqlite": f"""
        DROP TABLE IF EXISTS item;
        CREATE TABLE item (id INTEGER, half REAL, name TEXT, data BLOB, missing TEXT);
        WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < {COUNT})
        INSERT INTO item SELECT id, id / 2.0, 'größe ' || id, x'00ff', NULL FROM n;
        SELECT * FROM item ORDER BY id""",
    "contract_postgres": f"""
        SELECT id, id * 1.10 AS price, DATE '2026-01-01' + id AS day, TIMESTAMP '2026-01-02 03:04:05.678901' AS at,
        TIMESTAMPTZ '2026-01-02 03:04:05Z' AS at_utc, make_interval(days => id, secs => 0.5) AS lasts,
        ARRAY[id, NULL] AS tags, jsonb_build_object('id', id) AS more, id % 2 = 0 AS even,
        '\\x00ff'::bytea AS data, NULL AS missing FROM generate_series(1, {COUNT}) id""",
}


def values(dag_id: str, number: int) -> tuple[Any, ...]:
    """What stands in a row of that Dag's table."""
    if dag_id == "contract_sqlite":
        return (number, number / 2, f"größe {number}", b"\0\xff", None)
    return (
        number,
        Decimal(110 * number).scaleb(-2),
        date(2026, 1, 1) + timedelta(number),
        datetime(2026, 1, 2, 3, 4, 5, 678901),
        datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
        timedelta(days=number, microseconds=500_000),
        [number, None],
        {"id": number},
        number % 2 == 0,
        b"\0\xff",
        None,
    )


def check(dag_id: str, task_id: str, rows: Any) -> None:
    """Assert that these are the rows of that task: their class, columns, and values with their types."""
    kind, columns = TASKS[dag_id][task_id]["kind"], COLUMNS[dag_id]
    assert type(rows) is list
    assert len(rows) == COUNT
    for number, row in enumerate(rows, 1):
        if kind is None:  # of a class that the driver makes for these columns
            assert isinstance(row, tuple)
            assert (row._fields, row.price) == (columns, row[1])  # type: ignore[attr-defined]
        else:
            assert type(row) is kind
            if kind is not tuple:
                assert tuple((row if kind is sqlite3.Row else row._mapping).keys()) == columns
        cells = [bytes(cell) if isinstance(cell, memoryview) else cell for cell in row]  # psycopg2's bytea
        assert alike(cells, list(values(dag_id, number))), (task_id, row)


def sqlite_rows(cursor: Any) -> Any:
    """A handler: rows of sqlite3's class."""
    cursor.row_factory = sqlite3.Row
    return cursor.fetchall()


def sqlalchemy_rows(cursor: Any) -> Any:
    """A handler: rows of sqlalchemy's class."""
    columns = [column[0] for column in cursor.description or ()]  # none after the statements that only write
    return [result_tuple(columns)(tuple(row)) for row in cursor.fetchall()]


TUPLES = {"kind": tuple, "operator": {}}
ALCHEMY = {"kind": type(result_tuple(["id"])((1,))), "operator": {"handler": sqlalchemy_rows}}
TASKS: dict[str, dict[str, dict[str, Any]]] = {
    "contract_sqlite": {
        "tuples": TUPLES,
        "sqlite_rows": {"kind": sqlite3.Row, "operator": {"handler": sqlite_rows}},
        "sqlalchemy_rows": ALCHEMY,
    },
    "contract_postgres": {
        "tuples": TUPLES,
        "named_tuples": {"kind": None, "operator": {"conn_id": "contract_postgres_named"}},
        "sqlalchemy_rows": ALCHEMY,
    },
}
"""Dag -> task -> the class of its rows, and what its operator is given beside the statements."""


def queries(dag_id: str) -> Any:
    """A Dag with a query for each kind of rows, and a task that takes them all."""

    @task
    def take() -> None:
        ti: Any = get_current_context()["ti"]
        for task_id in TASKS[dag_id]:
            check(dag_id, task_id, ti.xcom_pull(task_ids=task_id))

    def build() -> None:
        taken = take()
        for task_id, how in TASKS[dag_id].items():
            arguments = {"conn_id": dag_id, "split_statements": True, "do_xcom_push": True, **how["operator"]}
            SQLExecuteQueryOperator(task_id=task_id, sql=SQL[dag_id], **arguments) >> taken

    plain: Callable[..., Any] = dag(dag_id, schedule=None, start_date=datetime(2024, 1, 1), catchup=False)
    return plain(build)()


DAGS = [queries(dag_id) for dag_id in SQL]
for _dag in DAGS:
    globals()[_dag.dag_id] = _dag
