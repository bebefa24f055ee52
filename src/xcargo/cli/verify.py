"""``xcargo verify``: reads every stored value back."""

from __future__ import annotations

import argparse
import dataclasses
from collections import Counter

from xcargo.cli.command import JSON, Argument, Command, Example, ExitCode
from xcargo.cli.output import Output
from xcargo.cli.sources import SOURCE, WHERE, open_source, shown_size, where_of

__all__ = ["COMMAND"]

_SHOWN = 1000
"""Problems that are told one by one; the rest is counted."""


def _run(args: argparse.Namespace, out: Output) -> ExitCode:
    from xcargo.lifecycle.verify import VerifiedObject, VerifyStatus, verify_objects

    source = open_source(args)
    from xcargo.airflow import runtime

    pipeline = runtime.run(lambda pipeline: pipeline)
    counts: Counter[str] = Counter()
    stored_bytes = 0
    problems: list[VerifiedObject] = []

    with out.progress("Reading objects back") as advance:
        for checked in verify_objects(source, pipeline, where=where_of(args), workers=args.workers):
            counts[checked.status.value] += 1
            stored_bytes += checked.stored_bytes
            if checked.status.is_problem and len(problems) < _SHOWN:
                problems.append(checked)
                if not out.json:
                    out.say(f"{checked.status}: {checked.row.coordinate}", style="red")
                    out.say(f"    {checked.why}")
            advance(label=f"Reading objects back ({shown_size(stored_bytes)})")
    if out.json:
        out.print_json(
            {
                "counts": {str(verdict): counts[verdict.value] for verdict in VerifyStatus},
                "stored_bytes": stored_bytes,
                "problems": [
                    {
                        **dataclasses.asdict(p.row.coordinate),
                        "source": p.row.source,
                        "verdict": p.status,
                        "uri": p.row.value["uri"],
                        "why": p.why,
                    }
                    for p in problems
                ],
            }
        )
    else:
        bad = ", ".join(
            f"{counts[v.value]:,} {v}" for v in VerifyStatus if v is not VerifyStatus.OK and counts[v.value]
        )
        out.say(
            f"{counts['ok']:,} objects ({shown_size(stored_bytes)}) are what was stored{f'; {bad}' if bad else ''}.",
            style="bold",
        )
    if counts["missing"] or counts["damaged"]:
        return ExitCode.PROBLEMS
    return ExitCode.FAILED if counts["unreadable"] else ExitCode.OK


COMMAND = Command(
    name="verify",
    help="read every stored value back and check it",
    description="Fetches the object of every row and holds it against the row's envelope: length, checksum, and what "
    "it decompresses to. Decodes nothing and changes nothing. A row that is deleted or overwritten meanwhile is no "
    "problem. Ends with 1 when an object is missing or damaged, else with 4 when one could not be read.",
    run=_run,
    arguments=(
        JSON,
        *WHERE,
        Argument("--workers", type=int, default=8, metavar="N", help="objects read at once (default: 8)"),
        *SOURCE,
    ),
    examples=(
        Example("verify", "everything that is stored"),
        Example("verify --dag sales --json", "of one Dag, for a program"),
    ),
)
