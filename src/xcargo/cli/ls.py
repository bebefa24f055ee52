"""``xcargo ls``: what is stored for which XCom."""

from __future__ import annotations

import argparse
from itertools import islice

from xcargo.cli.command import JSON, Argument, Command, Example
from xcargo.cli.output import Output
from xcargo.cli.sources import SOURCE, WHERE, mapped, open_source, shown_size, shown_time, where_of

__all__ = ["COMMAND"]


def _run(args: argparse.Namespace, out: Output) -> None:
    found = open_source(args).iterate(where_of(args))
    if out.json:
        for reference in found:
            out.print_json_line(reference)
        return
    shown = list(islice(found, args.limit))
    out.table(
        ("dag", "run", "task", "map", "key", "size", "stored", "pushed (UTC)", "object"),
        [
            (
                r.coordinate.dag_id,
                r.coordinate.run_id,
                r.coordinate.task_id,
                mapped(r.coordinate),
                r.coordinate.key,
                shown_size(r.size_bytes),
                shown_size(r.stored_bytes),
                shown_time(r.created_at),
                f"{r.uri} (archived row)" if r.archived else r.uri,
            )
            for r in shown
        ],
        right=("map", "size", "stored"),
    )
    if len(shown) == args.limit and next(found, None) is not None:
        out.note(f"There are more: --limit is {args.limit}; --json has no limit.")


COMMAND = Command(
    name="ls",
    help="list the stored values that rows refer to",
    description="Lists every XCom whose value lies in a store: its address, the size of the value, what is stored of "
    "it, when it was pushed, and where the object is. Reads rows only, no object. Rows that airflow db clean keeps in "
    "an archive come last. With --json it prints one object a line, as it goes.",
    run=_run,
    arguments=(
        JSON,
        *WHERE,
        Argument("--limit", type=int, default=1000, metavar="N", help="rows of the table at most (default: 1000)"),
        *SOURCE,
    ),
    examples=(
        Example("ls --dag sales", "what is stored for a Dag"),
        Example("ls --dag sales --run 'scheduled__2026-01-*' --key return_value", "for some of its runs"),
        Example("ls --json | jq -r .uri", "where every object is"),
    ),
)
