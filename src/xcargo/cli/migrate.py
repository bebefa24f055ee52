"""``xcargo migrate``: moves stored values to where the settings say, or back into Airflow's own rows."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xcargo.cli.command import JSON, Argument, Command, Example, ExitCode
from xcargo.cli.output import Output
from xcargo.cli.sources import WHERE, where_of
from xcargo.model.sizes import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from xcargo.airflow.migration import ToStock, ToStore
    from xcargo.airflow.references.database import DatabaseReferences
    from xcargo.lifecycle.moves import Journal, MoveResult
    from xcargo.model.settings import Settings
    from xcargo.pipeline.pipeline import Pipeline

__all__ = ["COMMAND"]

_SHOWN = 1000
"""Rows that are told one by one; the rest is counted."""


def _run(args: argparse.Namespace, out: Output) -> ExitCode:
    from xcargo.cli.deployment import load_edge, read_settings

    load_edge()
    from xcargo.airflow import runtime
    from xcargo.airflow.migration import check_teams
    from xcargo.airflow.references.database import DatabaseReferences
    from xcargo.errors import ConfigurationError
    from xcargo.lifecycle.moves import Journal

    settings = replace(read_settings(), cache_path=None)  # what is read back is read from the store
    if settings.root is None and args.to == "store":
        raise ConfigurationError(
            f"There is nowhere to migrate to: {settings.no_root_reason}", hint="Set AIRFLOW__XCARGO__PATH."
        )
    check_teams(settings, args.team)
    pipeline = runtime.opened(settings, team=lambda: args.team)
    source = DatabaseReferences()
    journal = Journal(Path(args.journal) if args.journal else _journal_path())
    if args.delete_source:
        return _delete(args, source, settings, pipeline, journal, out)
    return _migrate(args, source, settings, pipeline, journal, out)


@dataclass
class _Tally:
    """What became of the rows: all counted, those that are told kept."""

    rows: Counter[str] = field(default_factory=Counter)
    size_bytes: Counter[str] = field(default_factory=Counter)
    told: list[MoveResult] = field(default_factory=list)

    def add(self, moved: MoveResult) -> None:
        status, move = moved.status.value, moved.move
        self.rows[f"{move.kind} {status}"] += 1
        self.size_bytes[f"{move.kind} {status}"] += move.size_bytes
        if moved.why and len(self.told) < _SHOWN:
            self.told.append(moved)


def _migrate(
    args: argparse.Namespace,
    source: DatabaseReferences,
    settings: Settings,
    pipeline: Pipeline,
    journal: Journal,
    out: Output,
) -> ExitCode:
    from xcargo.airflow.migration import KINDS, ToStock, ToStore
    from xcargo.lifecycle.moves import Migration, MoveResult, MoveStatus

    plan: ToStock | ToStore
    if args.to == "stock":
        plan = ToStock(pipeline, most_bytes=args.max_mib * 1024 * 1024)
    else:
        kinds = tuple(args.source) or KINDS
        plan = ToStore(settings, pipeline, kinds=kinds, team=args.team, every_object=args.anew, recode=args.recode)
    moves = plan.moves(source, where_of(args))
    tally = _Tally()
    with out.progress("Looking at rows" if not args.apply else "Moving") as advance:
        if args.apply:
            with source.exclusive() as writer, journal:
                migration = Migration(plan, source, writer, journal, args.workers)
                _count(migration.run(moves), tally, advance)
        else:
            _count((MoveResult(move, MoveStatus.PLANNED) for move in moves), tally, advance)
    _show(tally, journal, args, out)
    failed = any(name.endswith((" failed", " left")) for name in tally.rows)
    return ExitCode.PROBLEMS if failed else ExitCode.OK


def _count(moves: Iterable[MoveResult], tally: _Tally, advance: Any) -> None:
    for moved in moves:
        tally.add(moved)
        advance()


def _show(tally: _Tally, journal: Journal, args: argparse.Namespace, out: Output) -> None:
    counts = [
        {"from": name.split()[0], "status": name.split()[1], "rows": tally.rows[name], "bytes": tally.size_bytes[name]}
        for name in sorted(tally.rows)
    ]
    if out.json:
        told = [
            {**asdict(m.move.row.coordinate), "from": m.move.kind, "status": m.status, "why": m.why} for m in tally.told
        ]
        out.print_json({"applied": args.apply, "counts": counts, "told": told, "journal": str(journal.path)})
        return
    for moved in tally.told:
        out.say(f"{moved.status}: {moved.move.row.coordinate}")
        out.say(f"    {moved.why}")
    if not counts:
        out.say("Every row is where it belongs.")
        return
    out.table(
        ("from", "status", "rows", "size"),
        [(c["from"], c["status"], f"{c['rows']:,}", format_bytes(float(str(c["bytes"])))) for c in counts],
        right=("rows", "size"),
    )
    if not args.apply:
        out.note("This was a dry run; --apply moves.")
    elif any(name.endswith(" moved") for name in tally.rows):
        out.note(f"What was left behind stands in {journal.path}; --delete-source deletes it.")


def _delete(
    args: argparse.Namespace,
    source: DatabaseReferences,
    settings: Settings,
    pipeline: Pipeline,
    journal: Journal,
    out: Output,
) -> ExitCode:
    """Delete the objects that migrations left behind, after what was made of them was read back once more."""
    from xcargo.airflow.migration import SourceCleanup

    sources = journal.sources()
    cleanup = SourceCleanup(source, settings, pipeline)
    rows: list[tuple[str, str]] = []
    deleted = 0
    with out.progress("Reading back what was made of them", total=len(sources)) as advance, source.exclusive(), journal:
        for uri, why in cleanup.judge(sources, grace_seconds=args.grace):
            if why:
                rows.append((uri, why))
            else:
                deleted += 1
                if args.apply:
                    cleanup.delete(uri)
                    journal.note(deleted=uri)
            advance()
    if out.json:
        out.print_json({"applied": args.apply, "deleted": deleted, "kept": dict(rows), "journal": str(journal.path)})
    else:
        for uri, why in rows[:_SHOWN]:
            out.say(f"kept: {uri}")
            out.say(f"    {why}")
        out.say(f"{deleted:,} objects {'deleted' if args.apply else 'to delete'}, {len(rows):,} kept.", style="bold")
        if not args.apply:
            out.note("This was a dry run; --apply deletes.")
    return ExitCode.OK


def _journal_path() -> Path:
    from airflow.configuration import AIRFLOW_HOME

    return Path(os.fspath(AIRFLOW_HOME)) / "xcargo-migrate.jsonl"


COMMAND = Command(
    name="migrate",
    help="move values to where the settings say, or back into Airflow's rows",
    description="Moves what is not where the settings say it belongs: values in the database that are larger than the "
    "threshold, objects below a path of read_paths or without today's encryption key, references of other backends "
    "below legacy_references. Airflow may go on meanwhile. Each value is stored, read back and compared before its row "
    "is switched, and a row that changes meanwhile is left alone. Without --apply it only tells what it would do. "
    "Nothing is deleted before --delete-source. It may be killed and run again at any time. Ends with 1 when a row was "
    "left where it was.",
    run=_run,
    arguments=(
        JSON,
        Argument("--apply", action="store_true", help="do it; without, only say what would be done"),
        Argument(
            "--from",
            dest="source",
            action="append",
            default=[],
            choices=("database", "store", "legacy"),
            help="only what is in the database, in stores, or behind references of other backends (repeatable)",
        ),
        Argument(
            "--to",
            choices=("store", "stock"),
            default="store",
            help="store: where the settings say (default); stock: rows that Airflow's own backend reads",
        ),
        Argument("--anew", action="store_true", help="every object: for another compression"),
        Argument("--recode", action="store_true", help="every object, decoded and encoded again: for another codec"),
        *WHERE,
        Argument("--team", metavar="NAME", help="the team whose Dags are meant, where routes name teams"),
        Argument("--workers", type=int, default=4, metavar="N", help="values under way at once (default: 4)"),
        Argument("--max-mib", type=int, default=16, metavar="MIB", help="--to stock: largest value (default: 16)"),
        Argument(
            "--delete-source",
            action="store_true",
            help="delete what earlier migrations left behind, after what was made of it was read back again",
        ),
        Argument(
            "--grace",
            type=float,
            default=3600.0,
            metavar="SECONDS",
            help="--delete-source: only what was left so long ago (default: 3600)",
        ),
        Argument(
            "--journal", metavar="FILE", help="what was left behind (default: xcargo-migrate.jsonl in AIRFLOW_HOME)"
        ),
    ),
    examples=(
        Example("migrate", "what is not where it belongs"),
        Example("migrate --apply", "move it"),
        Example("migrate --delete-source --apply", "an hour later: delete what was left behind"),
        Example("migrate --to stock --dag 'sales_*' --apply", "the way back, for some Dags"),
    ),
)

COMMANDS = (COMMAND,)
