"""``xcargo verify``: reads what is stored and compares it with its rows."""

from __future__ import annotations

import argparse
import dataclasses
from collections import Counter
from typing import TYPE_CHECKING

from xcargo.cli.command import JSON, Argument, Command, Example, ExitCode, at_least
from xcargo.cli.deployment import SOURCE, WHERE, open_source, where_of
from xcargo.transfer.reporting import format_bytes

if TYPE_CHECKING:
    from xcargo.cli.command import Output

__all__ = ["COMMANDS"]

_MAX_PROBLEMS = 1000
"""Problems that are named one by one; the rest is counted."""


def _verify(args: argparse.Namespace, out: Output) -> ExitCode:
    from xcargo.lifecycle.verify import VerifiedObject, VerifyStatus, verify_objects

    source = open_source(args)
    from xcargo.airflow import runtime

    counts: Counter[VerifyStatus] = Counter()
    stored_bytes = 0
    problems: list[VerifiedObject] = []
    pipeline = runtime.pipeline()
    with out.progress("Reading objects back") as advance:
        for checked in verify_objects(source, pipeline, where=where_of(args), workers=args.workers):
            counts[checked.status] += 1
            stored_bytes += checked.stored_bytes
            if checked.status.is_problem and len(problems) < _MAX_PROBLEMS:
                problems.append(checked)
                if not out.json:
                    out.say(f"{checked.status}: {checked.row.coordinate}", style="red")
                    out.say(f"    {checked.why}")
            advance(label=f"Reading objects back ({format_bytes(stored_bytes)})")
    if out.json:
        listed = [
            {
                **dataclasses.asdict(problem.row.coordinate),
                "source": problem.row.source,
                "verdict": problem.status,
                "uri": problem.row.value["uri"],
                "why": problem.why,
            }
            for problem in problems
        ]
        by_verdict = {str(verdict): counts[verdict] for verdict in VerifyStatus}
        out.print_json({"counts": by_verdict, "stored_bytes": stored_bytes, "problems": listed})
    else:
        others = [f"{counts[v]:,} {v}" for v in VerifyStatus if v is not VerifyStatus.OK and counts[v]]
        sound = f"{counts[VerifyStatus.OK]:,} objects ({format_bytes(stored_bytes)}) are what was stored"
        out.say(f"{'; '.join([sound, *([', '.join(others)] if others else [])])}.", style="bold")
    if counts[VerifyStatus.MISSING] or counts[VerifyStatus.DAMAGED]:
        return ExitCode.PROBLEMS
    return ExitCode.FAILED if counts[VerifyStatus.UNREADABLE] else ExitCode.OK


COMMANDS = (
    Command(
        name="verify",
        help="read every stored value and check it",
        description="Fetches the object of every row and compares it with the row's envelope: length, checksum, and "
        "what it decompresses to. Decodes nothing and changes nothing. A row that is deleted or overwritten in the "
        "meantime is not a problem. Exits with 1 if an object is missing or damaged, otherwise with 4 if one could "
        "not be read.",
        run=_verify,
        arguments=(
            JSON,
            *WHERE,
            Argument("--workers", type=at_least(1), default=8, metavar="N", help="objects read at once (default: 8)"),
            *SOURCE,
        ),
        examples=(
            Example("verify", "everything that is stored"),
            Example("verify --dag sales --json", "of one Dag, for a program"),
        ),
    ),
)
