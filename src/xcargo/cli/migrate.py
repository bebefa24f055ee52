"""``xcargo migrate``: moves stored values to where the settings say, or back into Airflow's own rows."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from xcargo.cli.command import JSON, Argument, Command, Example, ExitCode, at_least
from xcargo.cli.deployment import WHERE, where_of
from xcargo.errors import ConfigurationError
from xcargo.transfer.reporting import format_bytes

if TYPE_CHECKING:
    from xcargo.airflow.migration import ToStock, ToStore
    from xcargo.airflow.references.database import DatabaseReferences
    from xcargo.cli.command import Output
    from xcargo.lifecycle.moves import Journal, MoveResult
    from xcargo.model.settings import Settings
    from xcargo.pipeline.pipeline import Pipeline
    from xcargo.pipeline.state import StatePipeline

__all__ = ["COMMANDS"]

_MAX_NAMED = 1000
"""Rows that are named one by one; the rest is counted."""


def _run(args: argparse.Namespace, out: Output) -> ExitCode:
    from xcargo.cli.deployment import load_edge, read_settings

    load_edge()
    from xcargo.airflow import runtime
    from xcargo.airflow.migration import check_teams
    from xcargo.airflow.references.database import DatabaseReferences
    from xcargo.lifecycle.moves import Journal

    settings = replace(read_settings(), cache_path=None)  # what is read back is read from the store
    if settings.root is None and args.to == "store":
        raise ConfigurationError(
            f"There is nowhere to migrate to: {settings.no_root_reason}", hint="Set AIRFLOW__XCARGO__PATH."
        )
    check_teams(settings, args.team)
    run = _Run(
        settings,
        runtime.open_pipeline(settings, team=lambda: args.team),
        source=DatabaseReferences(),
        journal=Journal(Path(args.journal) if args.journal else _journal_path()),
    )
    return run.delete_sources(args, out) if args.delete_source else run.migrate(args, out)


@dataclass(frozen=True)
class _Run:
    """One run of the command, over the rows of this deployment."""

    settings: Settings
    pipeline: Pipeline
    source: DatabaseReferences
    journal: Journal

    def migrate(self, args: argparse.Namespace, out: Output) -> ExitCode:
        """Move the rows, or say which would move."""
        rows: Counter[tuple[str, str]] = Counter()
        size_bytes: Counter[tuple[str, str]] = Counter()
        named: list[MoveResult] = []
        with out.progress("Moving" if args.apply else "Looking at rows") as advance:
            for result in self._results(args):
                group = (result.move.kind, result.status.value)
                rows[group] += 1
                size_bytes[group] += result.move.size_bytes
                if result.why and len(named) < _MAX_NAMED:
                    named.append(result)
                advance()
        if out.json:
            counts = [
                {"from": kind, "status": status, "rows": number, "bytes": size_bytes[kind, status]}
                for (kind, status), number in sorted(rows.items())
            ]
            unmoved = [
                {**asdict(r.move.row.coordinate), "from": r.move.kind, "status": r.status, "why": r.why} for r in named
            ]
            journal = str(self.journal.path)
            out.print_json({"applied": args.apply, "counts": counts, "unmoved": unmoved, "journal": journal})
        else:
            for result in named:
                out.say(f"{result.status}: {result.move.row.coordinate}\n    {result.why}")
            if not rows:
                out.say("Every row is where the settings say.")
            else:
                table = [  # a reference of another backend does not say how large its object is
                    (*group, f"{number:,}", "?" if group[0] == "legacy" else format_bytes(size_bytes[group]))
                    for group, number in sorted(rows.items())
                ]
                out.table(("from", "status", "rows", "size"), table, right=("rows", "size"))
                if not args.apply:
                    out.note("This was a dry run; --apply moves.")
                elif any(status == "moved" for _, status in rows):
                    out.note(f"What was left behind is listed in {self.journal.path}; --delete-source deletes it.")
        has_failed = any(status in ("failed", "left") for _, status in rows)
        return ExitCode.PROBLEMS if has_failed else ExitCode.OK

    def state_pipeline(self, args: argparse.Namespace) -> StatePipeline | None:
        """That of the state store, if xcargo's backend reads its rows."""
        from xcargo.airflow import compat, runtime

        if not compat.reads_state():
            return None
        return runtime.open_state_pipeline(self.settings, team=lambda: args.team)

    def _results(self, args: argparse.Namespace) -> Iterator[MoveResult]:
        from xcargo.airflow.migration import KINDS, ToStock, ToStore
        from xcargo.lifecycle.moves import Migration, MoveResult, MoveStatus

        plan: ToStock | ToStore
        if args.to == "stock":
            plan = ToStock(self.pipeline, most_bytes=args.max_mib * 1024 * 1024)
        else:
            plan = ToStore(
                self.settings,
                self.pipeline,
                kinds=tuple(args.source) or KINDS,
                team=args.team,
                every_object=args.rewrite,
                recode=args.recode,
                state=self.state_pipeline(args),
            )
        moves = plan.moves(self.source, where_of(args))
        if args.apply:
            with self.source.exclusive() as writer, self.journal:
                yield from Migration(plan, self.source, writer, self.journal, args.workers).run(moves)
        else:
            yield from (MoveResult(move, MoveStatus.PLANNED) for move in moves)

    def delete_sources(self, args: argparse.Namespace, out: Output) -> ExitCode:
        """Delete the objects that migrations left behind, after what was made of them was read back once more."""
        from xcargo.airflow.migration import SourceCleanup
        from xcargo.lifecycle.retention import parse_duration

        grace_seconds = parse_duration(args.grace)
        sources = self.journal.sources()
        cleanup = SourceCleanup(self.source, self.settings, self.pipeline)
        kept: dict[str, str] = {}
        deleted = 0
        with (
            out.progress("Reading back what was made of them", total=len(sources)) as advance,
            self.source.exclusive(),
            self.journal,
        ):
            for uri, why in cleanup.judge(sources, grace_seconds=grace_seconds):
                if why:
                    kept[uri] = why
                else:
                    deleted += 1
                    if args.apply:
                        cleanup.delete(uri)
                        self.journal.note(deleted=uri)
                advance()
        if out.json:
            out.print_json({"applied": args.apply, "deleted": deleted, "kept": kept, "journal": str(self.journal.path)})
            return ExitCode.OK
        for uri, why in list(kept.items())[:_MAX_NAMED]:
            out.say(f"kept: {uri}\n    {why}")
        out.say(f"{deleted:,} objects {'deleted' if args.apply else 'to delete'}, {len(kept):,} kept.", style="bold")
        if not args.apply:
            out.note("This was a dry run; --apply deletes.")
        return ExitCode.OK


def _journal_path() -> Path:
    from airflow.configuration import AIRFLOW_HOME

    return Path(os.fspath(AIRFLOW_HOME)) / "xcargo-migrate.jsonl"


COMMANDS = (
    Command(
        name="migrate",
        help="move values to where the settings say, or back into Airflow's rows",
        description="Moves values that are not stored where the settings say: values in the database that are larger "
        "than the threshold, objects below a path of read_paths or without the current encryption key, references of "
        "other backends below legacy_references. Airflow may keep running. Each value is stored, read back and "
        "compared before its row is switched, and a row that changes in the meantime is not touched. Without --apply "
        "it only shows what it would do. Nothing is deleted before --delete-source. You can kill it and run it again "
        "at any time. Exits with 1 if a row could not be moved.",
        run=_run,
        arguments=(
            JSON,
            Argument(
                "--apply", action="store_true", help="move the values; without this, only show what would be moved"
            ),
            Argument(
                "--from",
                dest="source",
                action="append",
                default=[],
                choices=("database", "store", "legacy"),
                help="only values in the database, in stores, or behind references of other backends (repeatable)",
            ),
            Argument(
                "--to",
                choices=("store", "stock"),
                default="store",
                help="store: where the settings say (default); stock: rows that Airflow's own backend reads",
            ),
            Argument("--rewrite", action="store_true", help="every object, for example with another compression"),
            Argument(
                "--recode", action="store_true", help="also decode and encode every object again, for another codec"
            ),
            *WHERE,
            Argument("--team", metavar="NAME", help="the team that owns these Dags, if routes name teams"),
            Argument("--workers", type=at_least(1), default=4, metavar="N", help="values to move at once (default: 4)"),
            Argument(
                "--max-mib", type=at_least(0), default=16, metavar="MIB", help="--to stock: largest value (default: 16)"
            ),
            Argument(
                "--delete-source",
                action="store_true",
                help="delete the old objects of earlier migrations, after reading each copy back again",
            ),
            Argument(
                "--grace",
                default="1h",
                metavar="TIME",
                help="--delete-source: only objects left behind at least so long ago (default: 1h)",
            ),
            Argument(
                "--journal",
                metavar="FILE",
                help="file that records the old objects (default: xcargo-migrate.jsonl in AIRFLOW_HOME)",
            ),
        ),
        examples=(
            Example("migrate", "show the values that would be moved"),
            Example("migrate --apply", "move them"),
            Example("migrate --delete-source --apply", "an hour later: delete the old objects"),
            Example("migrate --to stock --dag 'sales_*' --apply", "the way back, for some Dags"),
        ),
    ),
)
