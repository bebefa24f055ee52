"""``xcargo sql``: a query over what tasks returned."""

from __future__ import annotations

import argparse
from datetime import datetime
from itertools import count
from typing import TYPE_CHECKING

from xcargo.cli.command import JSON, Argument, Command, Example, at_least
from xcargo.cli.deployment import SOURCE, open_source

if TYPE_CHECKING:
    from xcargo.cli.command import Output

__all__ = ["COMMANDS"]


def _sql(args: argparse.Namespace, out: Output) -> None:
    source = open_source(args)
    from xcargo.airflow import runtime
    from xcargo.airflow.client.connect import Client, values_by_task
    from xcargo.airflow.client.sql import fetch

    values_of = values_by_task(Client(source, runtime.pipeline()), args.run, args.since)
    columns, rows = fetch(args.query, values_of, memory_mib=args.memory_mib, limit=args.limit + 1)
    if out.json:
        names = _distinct(columns)
        for row in rows[: args.limit]:
            out.print_json_line(dict(zip(names, row, strict=True)))
    else:
        out.table(columns, rows[: args.limit])
    if len(rows) > args.limit:
        out.note(f"There are more: --limit is {args.limit}.")


def _distinct(columns: list[str]) -> list[str]:
    """The names of columns, those that an earlier one has with a number: an object of JSON has each key once."""
    names: list[str] = []
    for name in columns:
        numbered = (f"{name}_{number}" for number in count(1))
        names.append(name if name not in names else next(one for one in numbered if one not in names))
    return names


COMMANDS = (
    Command(
        name="sql",
        help="query what tasks returned, with SQL",
        description='Runs one SELECT with DuckDB. A table is named "dag.task", in double quotes, and holds what the '
        "task returned in all runs: DataFrames of pandas and polars, Arrow tables, dictionaries and lists of them. Its "
        "further columns are run_id, run_date and map_index. Of a table only what the query needs is fetched. "
        "The query reaches no file and no network. It needs pip install 'airflow-provider-xcargo[sql]'.",
        run=_sql,
        arguments=(
            Argument("query", metavar="SELECT", help="the query"),
            JSON,
            Argument("--run", default="*", metavar="ID", help="only this run, or latest; * matches anything"),
            Argument(
                "--since",
                type=datetime.fromisoformat,
                metavar="TIME",
                help="only runs of this date, in ISO 8601, and later",
            ),
            Argument("--limit", type=at_least(1), default=1000, metavar="N", help="most rows to print (default: 1000)"),
            Argument("--memory-mib", type=at_least(1), default=1024, metavar="MIB", help="most memory (default: 1024)"),
            *SOURCE,
        ),
        examples=(
            Example("""sql 'SELECT city, sum(price) FROM "sales.extract" GROUP BY city'""", "over all runs"),
            Example("""sql 'SELECT * FROM "sales.extract" LIMIT 10' --run latest --json""", "rows of the latest run"),
        ),
    ),
)
