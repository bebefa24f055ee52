"""``xcargo show``: what is known of an XCom without reading its value."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

from xcargo.cli.command import JSON, Argument, Command, Example, ExitCode
from xcargo.cli.output import Output
from xcargo.cli.sources import SOURCE, open_source
from xcargo.cli.text import printable

__all__ = ["COMMAND", "ONE"]

_SHOWN_CHARS = 200

ONE = (
    Argument("dag", help="the Dag's id"),
    Argument("run", help="the run's id"),
    Argument("task", help="the task's id"),
    Argument("key", nargs="?", default="return_value", help="the XCom key (default: return_value)"),
    Argument("--map-index", type=int, metavar="N", help="of this mapped task instance (default: all)"),
)


def _run(args: argparse.Namespace, out: Output) -> ExitCode:
    from xcargo.cli.sources import where_of
    from xcargo.model.envelope import is_envelope

    found = [
        {
            **dataclasses.asdict(row.coordinate),
            "source": row.source,
            "run_state": row.run.state if row.run else None,
            "envelope" if is_envelope(row.value) else "value": row.value,
        }
        for row in open_source(args).rows(where_of(args))
    ]
    if out.json:
        out.print_json(found)
    for number, entry in enumerate(() if out.json else found):
        if number:
            out.say()
        for name, value in _lines(entry):
            out.say(f"{name:<14}{value}")
    if not found:
        out.note("There is no such XCom.")
    return ExitCode.OK if found else ExitCode.PROBLEMS


def _lines(entry: dict[str, Any]) -> list[tuple[str, str]]:
    lines = [
        (name, printable(str(value)))
        for name, value in entry.items()
        if name not in ("envelope", "value") and value not in (None, -1)
    ]
    if "envelope" in entry:
        return [*lines, *((name, _text(value)) for name, value in entry["envelope"].items())]
    return [*lines, ("value", f"in the row: {_text(entry['value'])}")]


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = printable(text)
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…"


COMMAND = Command(
    name="show",
    help="show what is known of an XCom without reading its value",
    description="Shows an XCom's row: the envelope with type, sizes, codec, checksum and place of the object, or the "
    "value itself if it is in the row. On Airflow 3.4 every attempt has a row of its own. Ends with 1 if there is no "
    "such XCom.",
    run=_run,
    arguments=(JSON, *ONE, *SOURCE),
    examples=(
        Example("show sales manual__2026-01-01T00:00:00+00:00 extract", "what a task returned"),
        Example("show sales manual__2026-01-01T00:00:00+00:00 extract rows --map-index 3 --json", "for a program"),
    ),
)
