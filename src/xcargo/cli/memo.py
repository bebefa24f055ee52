"""``xcargo memo ls``, ``why`` and ``clear``: results that may be reused, what they depend on, and forgetting them."""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

from xcargo.cli.command import JSON, YES, Argument, Command, Example, ExitCode, at_least
from xcargo.cli.deployment import PATH, open_root, read_settings, roots_of
from xcargo.errors import XCargoError
from xcargo.transfer.reporting import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from xcargo.cli.command import Output
    from xcargo.model.root import Root
    from xcargo.pipeline.memo import Entry
    from xcargo.stores.base import ObjectInfo, Store

__all__ = ["COMMANDS", "count_entries"]

_WORKERS = 32
_DIGEST_CHARS = 12
"""Characters of a digest that ``why`` prints."""


class _Stored(NamedTuple):
    """An entry, or why it cannot be read."""

    root: Root
    store: Store
    info: ObjectInfo
    entry: Entry | XCargoError

    def to_json(self) -> dict[str, Any]:
        known: dict[str, Any] = {"uri": self.root.uri(self.info.key), "entry_bytes": self.info.size_bytes}
        if isinstance(self.entry, XCargoError):
            return known | {"error": self.entry.what}
        fields = {name: value for name, value in vars(self.entry).items() if name != "rows"}
        return known | fields | {"stored_bytes": self.entry.stored_bytes}


def _find(args: argparse.Namespace) -> Iterator[_Stored]:
    """The entries that the arguments choose. One that cannot be read counts to the Dag and task of its folder."""
    from xcargo.lifecycle.entries import read_entries
    from xcargo.lifecycle.references import XComFilter
    from xcargo.model.coordinate import Coordinate, segment, text_of
    from xcargo.model.keys import Signer

    settings = read_settings()
    signer = Signer(settings.signing_keys, settings.unsigned_until)
    where = XComFilter(args.dag, getattr(args, "run", None), args.task, map_index=args.map_index)
    prefixes = (segment(args.dag), segment("")) if args.dag and "*" not in args.dag else ()
    with ThreadPoolExecutor(_WORKERS) as pool:
        for root in roots_of(args):
            store = open_root(root)
            for info, entry in read_entries(store, signer, pool, prefixes):
                if isinstance(entry, XCargoError):
                    ids = [text_of(part) or "" for part in (*info.key.split("/")[2:4], "")]
                    at = Coordinate(ids[0], "", ids[1], "")
                else:
                    at = Coordinate(entry.dag_id, entry.run_id, entry.task_id, "", entry.map_index)
                if where.matches(at):
                    yield _Stored(root, store, info, entry)


def count_entries(args: argparse.Namespace, out: Output) -> dict[str, int] | None:
    """How many entries there are of the Dag that the arguments choose, or of all, and their bytes. Reads none.

    None if the arguments choose by more than the Dag, or if a store cannot be opened or listed, which a note says.
    """
    from xcargo.lifecycle.entries import list_entries
    from xcargo.model.coordinate import segment

    if not read_settings().roots or (args.run, args.task, args.key, args.map_index, args.asset) != (None,) * 5:
        return None
    if args.dag and "*" in args.dag:
        return None
    prefixes = (segment(args.dag),) if args.dag else ()
    roots = roots_of(args)
    try:
        sizes = [info.size_bytes for root in roots for info in list_entries(open_root(root), prefixes)]
    except XCargoError as error:  # rows are read without a store, too
        out.note(f"Entries of memoize could not be counted: {error.what}", style="yellow")
        return None
    return {"objects": len(sizes), "stored_bytes": sum(sizes)}


_COLUMNS = ("dag", "task", "run", "map", "computed", "took", "until", "stored")


def _table(found: Iterable[_Stored], out: Output) -> None:
    """The entries, the latest of each task first."""
    unreadable = 0
    rows: list[tuple[Any, ...]] = []
    for stored in sorted(found, key=_computed_at, reverse=True):
        entry = stored.entry
        if isinstance(entry, XCargoError):
            unreadable += 1
            continue
        ids = entry.dag_id, entry.task_id, entry.run_id, entry.map_index if entry.map_index >= 0 else ""
        size = format_bytes(entry.stored_bytes)
        rows.append((*ids, entry.created_at, f"{entry.seconds:,.1f} s", entry.expires_at or "", size))
    rows.sort(key=lambda row: row[:2])
    out.table(_COLUMNS, rows, right=("map", "took", "stored"))
    if unreadable:
        out.note(f"{unreadable:,} more cannot be read, or are not signed as they should be. --json says why.")


def _computed_at(stored: _Stored) -> str:
    return "" if isinstance(stored.entry, XCargoError) else stored.entry.created_at


def _ls(args: argparse.Namespace, out: Output) -> None:
    if out.json:
        for stored in _find(args):
            out.print_json_line(stored.to_json())
    else:
        _table(_find(args), out)


def _why(args: argparse.Namespace, out: Output) -> ExitCode:
    from xcargo.pipeline.memo import changes

    found = sorted(filter(_computed_at, _find(args)), key=_computed_at, reverse=True)
    entries = [stored.entry for stored in found if not isinstance(stored.entry, XCargoError)]
    digests = [entry.digests for entry in entries if entry.map_index == entries[0].map_index][:2]
    changed = changes(*digests) if len(digests) == 2 else None
    found = found[: args.limit]
    if out.json:
        out.print_json({"entries": [stored.to_json() for stored in found], "changed": changed})
    elif found:
        _table(found, out)
        out.say()
        parts = sorted(set().union(*digests))
        cut = [[of_one.get(part, "")[:_DIGEST_CHARS] for of_one in digests] for part in parts]
        marks = ["changed" if part in (changed or ()) else "" for part in parts]
        columns = ("depends on", "newest", *(["the one before"] * (len(digests) - 1)), "")
        out.table(columns, [(part, *row, mark) for part, row, mark in zip(parts, cut, marks, strict=True)])
    else:
        out.note("There is no entry: no result of this task can be reused.")
    return ExitCode.OK if found else ExitCode.PROBLEMS


def _clear(args: argparse.Namespace, out: Output) -> ExitCode:
    from xcargo.lifecycle.entries import forget

    def outcome(stored: _Stored) -> str:
        try:
            return "deleted" if forget(stored.store, stored.info) else "changed"
        except XCargoError as error:
            out.error(error)
            return "failed"

    found = list(_find(args))
    outcomes = {"deleted": 0, "changed": 0, "failed": 0}
    if not out.json:
        _table(found, out)
    if args.apply and found:
        if not out.confirm(f"Delete {len(found):,} entries? Their results are computed again.", yes=args.yes):
            return ExitCode.REFUSED
        with ThreadPoolExecutor(_WORKERS) as pool:
            for what in pool.map(outcome, found):
                outcomes[what] += 1
    if out.json:
        out.print_json({"applied": args.apply, "entries": [stored.to_json() for stored in found], **outcomes})
    elif args.apply:
        out.say(", ".join(f"{number:,} {what}" for what, number in outcomes.items() if number) or "Nothing to do.")
    elif found:
        out.note("Nothing was deleted. Give --apply to do it.")
    return ExitCode.PROBLEMS if outcomes["failed"] else ExitCode.OK


_FILTERS = (
    Argument("--dag", metavar="ID", help="only results of this Dag; * matches anything, here and below"),
    Argument("--run", metavar="ID", help="only results that this run computed"),
    Argument("--task", metavar="ID", help="only results of this task"),
)
_MAP_INDEX = Argument("--map-index", type=int, metavar="N", help="only results of this mapped task instance")

COMMANDS = (
    Command(
        name="memo ls",
        help="list the results that xcargo.memoize can reuse",
        description="Lists the entries of xcargo.memoize: which task instance computed a result and when, how long it "
        "took, until when it is reused, and the size of its objects. Reads only entries, no rows and no objects, so a "
        "result may have been deleted since. With --json it prints one entry per line.",
        run=_ls,
        arguments=(JSON, *_FILTERS, _MAP_INDEX, PATH),
        examples=(
            Example("memo ls --dag sales", "the results of a Dag"),
            Example("memo ls --json | jq -r 'select(.error) | .uri'", "entries that cannot be read"),
        ),
    ),
    Command(
        name="memo why",
        help="show what the results of a task depend on, and what changed between the newest two",
        description="Shows the newest entries of a task. For each part that its newest two results depend on "
        "(source, arguments and others), it shows the digests of both and whether they differ. For a mapped task it "
        "compares results of one map index: that of --map-index, or of the newest result. Exits with 1 if there is no "
        "entry.",
        run=_why,
        arguments=(
            JSON,
            Argument("dag", help="the Dag's id"),
            Argument("task", help="the task's id"),
            _MAP_INDEX,
            Argument("--limit", type=at_least(1), default=5, metavar="N", help="most entries to show (default: 5)"),
            PATH,
        ),
        examples=(
            Example("memo why sales train", "why a task computed its result again"),
            Example("memo why sales train --json | jq -r '.changed[]'", "for a program"),
        ),
    ),
    Command(
        name="memo clear",
        help="show entries of xcargo.memoize, or delete them, so that results are computed again",
        description="Lists entries as memo ls does. With --apply it deletes them, except those that were stored "
        "again in the meantime. It deletes no object and no row: reused values stay as they are.",
        run=_clear,
        arguments=(
            JSON,
            Argument("--apply", action="store_true", help="delete them; without this nothing is deleted"),
            *_FILTERS,
            _MAP_INDEX,
            PATH,
            YES,
        ),
        examples=(
            Example("memo clear --dag sales --task train", "show what would be deleted"),
            Example("memo clear --dag sales --task train --apply --yes", "delete it, without asking"),
        ),
    ),
)
