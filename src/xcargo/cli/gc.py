"""``xcargo gc`` and ``xcargo restore``: deletes what no row refers to any more, and puts back what was moved aside."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from xcargo.cli.command import JSON, YES, Argument, Command, Example, ExitCode
from xcargo.cli.deployment import DAGS, INVENTORY, PATH, PREFIXES, SOURCE, open_root, open_source, prefixes_of, roots_of
from xcargo.errors import XCargoError
from xcargo.transfer.reporting import format_bytes

if TYPE_CHECKING:
    from xcargo.cli.command import Output
    from xcargo.lifecycle.report import Report
    from xcargo.lifecycle.sweep import Sweep

__all__ = ["COMMANDS"]

_SHORT_GRACE_SECONDS = 3600


def _gc(args: argparse.Namespace, out: Output) -> ExitCode:
    from xcargo.cli.deployment import read_settings
    from xcargo.lifecycle.inventory import open_inventory
    from xcargo.lifecycle.plan import SweepOptions
    from xcargo.lifecycle.retention import parse_duration, rules_of
    from xcargo.lifecycle.sweep import Sweep
    from xcargo.model.keys import Signer

    settings = read_settings()
    options = SweepOptions(
        grace_seconds=parse_duration(args.grace),
        max_share=args.max_share,
        prefixes=prefixes_of(args),
        quarantine_seconds=parse_duration(args.quarantine) if args.quarantine else None,
        deployment=settings.deployment,
        claim=args.owner,
        signer=Signer(settings.signing_keys, settings.unsigned_until),
        roots=settings.roots,
    )
    if args.report:
        Path(args.report).open("a").close()  # what cannot be written is an error before anything is deleted
    stores = {root: open_root(root) for root in roots_of(args)}  # all that there are, before any is swept
    source = open_source(args)
    if options.grace_seconds < _SHORT_GRACE_SECONDS:
        out.note("A value whose upload takes longer than the grace may go before its row is there.", style="yellow")
    reports: list[Report] = []
    code = ExitCode.OK
    try:
        for root, store in stores.items():
            of_root = replace(options, rules=rules_of(settings, root))
            inventory = open_inventory(args.inventory, root, open_root) if args.inventory else None
            with Sweep(store, source, root=root, options=of_root, inventory=inventory) as sweep:
                code = max(code, _sweep(sweep, args, out, reports))
    finally:  # what was done until an error is reported too
        document = [report.to_json() for report in reports]
        if args.report:
            Path(args.report).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        if out.json:
            out.print_json(document)
    return code


def _sweep(sweep: Sweep, args: argparse.Namespace, out: Output, reports: list[Report]) -> ExitCode:
    with out.progress("Reading references and objects") as advance:
        report = sweep.plan(advance)
    reports.append(report)
    if not out.json:
        _show(report, out)
    if report.refusals:
        for refusal in report.refusals:
            out.note(f"Refused: {refusal}.", style="bold red")
        return ExitCode.REFUSED
    taken = report.deletable
    entries = report.deletable_entries.objects
    uploads = report.uploads.unfinished if report.uploads else 0
    if not args.apply:
        if taken.objects or entries or uploads:
            out.note("Nothing was deleted. Give --apply to do it.")
        return ExitCode.OK
    doing = "Delete" if args.quarantine is None else "Move into quarantine"
    also = f", delete {entries:,} entries of memoize" if entries else ""
    also += f", and abort {uploads:,} unfinished uploads" if uploads else ""
    if (taken.objects or entries or uploads or args.quarantine is not None) and not out.confirm(
        f"{doing} {taken.objects:,} objects, {format_bytes(taken.size_bytes)}{also}, below {report.root}?",
        yes=args.yes,
    ):
        return ExitCode.REFUSED
    try:
        with out.progress("Sweeping", total=taken.objects + entries) as advance:
            sweep.apply(report, advance)
    except XCargoError:
        if report.applied and not out.json:
            _show_outcomes(report, out)
        raise
    if not out.json:
        _show_outcomes(report, out)
    return ExitCode.PROBLEMS if report.failed else ExitCode.OK


def _show(report: Report, out: Output) -> None:
    from xcargo.lifecycle.plan import Count, Verdict

    def kept(counts: dict[Verdict, Count]) -> str:
        waiting = {str(v): c.objects for v, c in counts.items() if not v.deletes and v is not Verdict.LIVE}
        return ", ".join(f"{number:,} {verdict.replace('_', ' ')}" for verdict, number in waiting.items())

    def cells(name: str, counts: dict[Verdict, Count]) -> tuple[object, ...]:
        live, orphan, expired = (counts.get(v, Count()) for v in (Verdict.LIVE, Verdict.ORPHAN, Verdict.EXPIRED))
        return (
            name,
            f"{live.objects:,}",
            format_bytes(live.size_bytes),
            f"{orphan.objects:,}",
            format_bytes(orphan.size_bytes),
            f"{expired.objects:,}",
            format_bytes(expired.size_bytes),
            kept(counts),
        )

    below = f" ({', '.join(report.prefixes)})" if report.prefixes else ""
    as_of = f", by the inventory of {report.inventory_taken_at:%Y-%m-%d %H:%M} UTC" if report.inventory_taken_at else ""
    out.say(f"{report.root}{below}: {report.references:,} live references, grace {report.grace_seconds:,.0f} s{as_of}")
    numbers = ("live", "bytes", "orphans", "bytes ", "expired", " bytes")
    out.table(
        ("Dag", *numbers, "kept otherwise"),
        [*(cells(dag, counts) for dag, counts in sorted(report.dags.items())), cells("all", report.total)],
        right=numbers,
    )
    if report.missing:
        out.note(f"The objects of {report.missing:,} live references are missing; 'xcargo verify' names them.")
    if report.entries:
        entries = (f"{count.objects:,} {str(verdict).replace('_', ' ')}" for verdict, count in report.entries.items())
        out.say(f"Entries of memoize: {', '.join(entries)}")
    uploads = report.uploads
    if uploads is not None and uploads.unknown:
        out.note(uploads.unknown, style="yellow")
    elif uploads is not None and uploads.unfinished + uploads.too_young:
        out.say(f"Unfinished uploads: {uploads.unfinished:,} older than the grace, {uploads.too_young:,} too young")


def _show_outcomes(report: Report, out: Output) -> None:
    done = [f"{c.objects:,} {outcome} ({format_bytes(c.size_bytes)})" for outcome, c in report.outcomes.items()]
    done += [f"{count.objects:,} entries of memoize {outcome}" for outcome, count in report.entry_outcomes.items()]
    if report.uploads:
        numbers = {"aborted": report.uploads.aborted, "not aborted": report.uploads.failed}
        done += [f"{number:,} unfinished uploads {what}" for what, number in numbers.items() if number]
    out.say(", ".join(done) or "There was nothing to do.")
    for error in report.errors:
        out.note(f"  {error}", style="red")


def _restore(args: argparse.Namespace, out: Output) -> ExitCode:
    from xcargo.lifecycle.bookkeeping import QUARANTINE, SweepLock, restore

    entries = []
    prefixes = prefixes_of(args)
    for root in roots_of(args):
        store = open_root(root)
        objects = [info for prefix in prefixes or ("",) for info in store.list(f"{QUARANTINE}/{prefix}".rstrip("/"))]
        rows = [
            (root.uri(info.key.removeprefix(f"{QUARANTINE}/")), info.size_bytes, info.last_modified) for info in objects
        ]
        entries += [dict(zip(("uri", "size_bytes", "since"), row, strict=True)) for row in rows]
        if not out.json:
            out.table(("object", "bytes", "in quarantine since"), rows, right=("bytes",))
        if args.apply and objects:
            with SweepLock(store, prefixes) as lock, out.progress("Restoring", total=len(objects)) as advance:
                for info in objects:
                    lock.check()
                    restore(store, info)
                    advance()
    if out.json:
        out.print_json({"applied": args.apply, "objects": entries})
    elif entries:
        out.note(f"{len(entries):,} objects are back." if args.apply else "Give --apply to put them back.")
    else:
        out.note("There is nothing in quarantine.")
    return ExitCode.OK


def _share(text: str) -> float:
    """An argument between 0 and 1."""
    share = float(text)
    if not 0 <= share <= 1 or math.isnan(share):
        raise ValueError(text)
    return share


COMMANDS = (
    Command(
        name="gc",
        help="show stored objects that no XCom refers to any more, or delete them",
        description="Compares the objects below the configured paths with every live reference in the metadata "
        "database (or, through the REST API, with those that it shows), and prints what would be deleted, what is "
        "kept, and why. With --apply it deletes them. An object is deleted only if no row refers to it and it is "
        "older than the grace by the store's own clock, or if a rule of [xcargo] retention lets its value expire. "
        "Unfinished uploads that are older than the grace are aborted, where the store can list them. The sweep is "
        "refused if the references are not completely known, if the path belongs to another deployment, if "
        "another sweep is in progress, or if it would delete too large a share of the objects.",
        run=_gc,
        arguments=(
            JSON,
            Argument("--apply", action="store_true", help="delete them; without this nothing is deleted"),
            PATH,
            DAGS,
            PREFIXES,
            INVENTORY,
            Argument(
                "--grace", metavar="TIME", default="24h", help="minimum age of an object to delete (default: 24h)"
            ),
            Argument(
                "--max-share",
                metavar="SHARE",
                type=_share,
                default=0.5,
                help="refuse to delete a larger share of the objects, by number or bytes (default: 0.5)",
            ),
            Argument(
                "--quarantine",
                metavar="TIME",
                help="move orphans aside instead of deleting them, and delete them after this time",
            ),
            Argument(
                "--owner",
                choices=("me", "shared"),
                help="with --apply, set the owner of the path, whatever it is now: this deployment (me), or several "
                "deployments, each of which sweeps only the Dags that it names (shared)",
            ),
            *SOURCE,
            Argument(
                "--all-dags",
                action="store_true",
                help="--via rest: this user may read every Dag, so a Dag that is not shown no longer exists",
            ),
            Argument("--report", metavar="FILE", help="also write the report there, as JSON"),
            YES,
        ),
        examples=(
            Example("gc", "show what would be deleted"),
            Example("gc --apply --yes --report gc.json", "delete it, without asking"),
            Example("gc --apply --quarantine 7d", "keep it for another week, see 'xcargo restore'"),
            Example(
                "gc --inventory s3://aws@inventories/xcom-bucket/daily", "read the newest inventory instead of listing"
            ),
            Example("gc --via rest --api-url https://airflow.example.org", "without the metadata database"),
        ),
    ),
    Command(
        name="restore",
        help="put back what 'gc --quarantine' moved aside",
        description="Lists the objects in quarantine. With --apply it copies them back to where they were and then "
        "removes them from quarantine; an object that already exists there is not touched.",
        run=_restore,
        arguments=(JSON, Argument("--apply", action="store_true", help="put them back"), PATH, DAGS, PREFIXES),
        examples=(
            Example("restore", "show what is in quarantine"),
            Example("restore --dag my_dag --apply", "put back the objects of one Dag"),
        ),
    ),
)
