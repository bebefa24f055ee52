"""``xcargo du``: how much is stored, by Dag, run, task or key."""

from __future__ import annotations

import argparse
from collections import defaultdict

from xcargo.cli.command import JSON, Argument, Command, Example
from xcargo.cli.output import Output
from xcargo.cli.sources import SOURCE, WHERE, open_source, shown_size, where_of

__all__ = ["COMMAND"]

_LEVELS = {"dag": ("dag_id",), "run": ("dag_id", "run_id"), "task": ("dag_id", "task_id"), "key": ("dag_id", "key")}


def _run(args: argparse.Namespace, out: Output) -> None:
    parts = _LEVELS[args.by]
    sums: dict[tuple[str, ...], list[int]] = defaultdict(lambda: [0, 0, 0])
    with out.progress("Reading rows") as advance:
        for reference in open_source(args).iterate(where_of(args)):
            entry = sums[tuple(getattr(reference.coordinate, part) for part in parts)]
            entry[0] += 1
            entry[1] += reference.size_bytes
            entry[2] += reference.stored_bytes
            advance()
    largest = sorted(sums.items(), key=lambda item: (-item[1][2], item[0]))
    total = [sum(entry[n] for entry in sums.values()) for n in range(3)]
    names = ("objects", "size_bytes", "stored_bytes")
    if out.json:
        out.print_json(
            {
                "by": args.by,
                "entries": [
                    dict(zip(parts, at, strict=True)) | dict(zip(names, entry, strict=True)) for at, entry in largest
                ],
                "total": dict(zip(names, total, strict=True)),
            }
        )
        return
    out.table(
        (*(part.removesuffix("_id") for part in parts), "objects", "size", "stored"),
        [
            *((*at, f"{n:,}", shown_size(size), shown_size(stored)) for at, (n, size, stored) in largest),
            (*("total", "")[: len(parts)], f"{total[0]:,}", shown_size(total[1]), shown_size(total[2])),
        ],
        right=("objects", "size", "stored"),
    )


COMMAND = Command(
    name="du",
    help="sum up what is stored",
    description="Sums up the objects that rows refer to and their bytes, largest first: by Dag, or finer. size is "
    "that of the values, stored what they take in the store. Reads rows only, no object.",
    run=_run,
    arguments=(
        JSON,
        Argument("--by", choices=tuple(_LEVELS), default="dag", help="what to sum up by (default: dag)"),
        *WHERE,
        *SOURCE,
    ),
    examples=(
        Example("du", "which Dags store most"),
        Example("du --dag sales --by run", "which of its runs"),
        Example("du --by key --json", "for a program"),
    ),
)
