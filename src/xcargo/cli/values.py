"""``xcargo ls``, ``du``, ``show`` and ``cat``: what is stored for which XCom."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
from collections import defaultdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xcargo.cli.command import JSON, Argument, Command, Example, ExitCode, at_least, hexdump
from xcargo.cli.deployment import INVENTORY, ONE, PATH, SOURCE, WHERE, named, open_root, open_source, roots_of, where_of
from xcargo.cli.memo import count_entries
from xcargo.errors import ConfigurationError, UnsupportedTypeError, XCargoError
from xcargo.transfer.reporting import format_bytes

if TYPE_CHECKING:
    from xcargo.cli.command import Output
    from xcargo.lifecycle.references import XComRow

__all__ = ["COMMANDS"]

_LEVELS = {"dag": ("dag_id",), "run": ("dag_id", "run_id"), "task": ("dag_id", "task_id"), "key": ("dag_id", "key")}
_TEXT_CHARS = 200
"""Characters of a field that ``show`` prints."""
_HEAD_BYTES = 1024
"""Bytes that ``cat`` prints as a hex dump."""


# --- ls and du -------------------------------------------------------------------------------------------------------


def _ls(args: argparse.Namespace, out: Output) -> None:
    references = open_source(args).iterate(where_of(args))
    if out.json:
        for reference in references:
            out.print_json_line(reference)
        return
    shown = list(islice(references, args.limit))
    rows = [
        (
            r.coordinate.shown("dag_id"),
            r.coordinate.run_id,
            r.coordinate.task_id,
            r.coordinate.map_index if r.coordinate.map_index >= 0 else "",
            r.coordinate.shown("key"),
            format_bytes(r.size_bytes),
            format_bytes(r.stored_bytes),
            r.created_at.strftime("%Y-%m-%d %H:%M:%S") if r.created_at else "",
            f"{r.uri} (archived row)" if r.archived else r.uri,
        )
        for r in shown
    ]
    columns = ("dag", "run", "task", "map", "key", "size", "stored", "pushed (UTC)", "object")
    out.table(columns, rows, right=("map", "size", "stored"))
    if len(shown) == args.limit and next(references, None) is not None:
        out.note(f"There are more: --limit is {args.limit}; --json has no limit.")


def _du(args: argparse.Namespace, out: Output) -> None:
    fields = _LEVELS[args.by]
    names = ["objects", "stored_bytes"] if args.inventory else ["objects", "size_bytes", "stored_bytes"]
    sums = (_sums_of_inventory if args.inventory else _sums_of_rows)(args, out)
    largest_first = sorted(sums.items(), key=lambda item: (-item[1][-1], item[0]))
    total = [sum(numbers) for numbers in zip(*sums.values(), strict=True)] or [0] * len(names)
    memo = count_entries(args, out)
    if out.json:
        entries = [dict(zip((*fields, *names), (*at, *entry), strict=True)) for at, entry in largest_first]
        out.print_json({"by": args.by, "entries": entries, "total": dict(zip(names, total, strict=True)), "memo": memo})
        return
    rows = [*largest_first, (("total", "")[: len(fields)], total)]
    shown = [name.removesuffix("_bytes") for name in names]
    out.table(
        (*(field.removesuffix("_id") for field in fields), *shown),
        [(*at, f"{objects:,}", *map(format_bytes, sizes)) for at, (objects, *sizes) in rows],
        right=shown,
    )
    if memo and memo["objects"]:
        out.say(f"Entries of memoize: {memo['objects']:,}, {format_bytes(memo['stored_bytes'])}")


def _sums_of_rows(args: argparse.Namespace, out: Output) -> dict[tuple[str, ...], list[int]]:
    sums: dict[tuple[str, ...], list[int]] = defaultdict(lambda: [0, 0, 0])
    roots = roots_of(args) if args.path else ()
    with out.progress("Reading rows") as advance:
        for reference in open_source(args).iterate(where_of(args)):
            if not roots or any(root.contains(reference.uri) for root in roots):
                entry = sums[tuple(reference.coordinate.shown(field) for field in _LEVELS[args.by])]
                for n, number in enumerate((1, reference.size_bytes, reference.stored_bytes)):
                    entry[n] += number
            advance()
    return sums


def _sums_of_inventory(args: argparse.Namespace, out: Output) -> dict[tuple[str, ...], list[int]]:
    from xcargo.lifecycle.columnar import sum_inventory
    from xcargo.lifecycle.inventory import open_inventory

    sums: dict[tuple[str, ...], list[int]] = defaultdict(lambda: [0, 0])
    where = where_of(args)
    for root in roots_of(args):
        inventory = open_inventory(args.inventory, root, open_root)
        with out.progress("Reading the inventory"):
            counts, others = sum_inventory(inventory, where, _LEVELS[args.by])
        for at, count in counts.items():
            sums[at] = [sums[at][0] + count.objects, sums[at][1] + count.size_bytes]
        rest = f"; {others.objects:,} other objects, {format_bytes(others.size_bytes)}" if others.objects else ""
        out.note(f"{root}: by the inventory of {inventory.taken_at:%Y-%m-%d %H:%M} UTC{rest}")
    return sums


# --- show and cat ----------------------------------------------------------------------------------------------------


def _show(args: argparse.Namespace, out: Output) -> ExitCode:
    from xcargo.model.envelope import is_envelope

    rows = [
        {
            **dataclasses.asdict(row.coordinate),
            "source": row.source,
            "run_state": row.run.state if row.run else None,
            "envelope" if is_envelope(row.value) else "value": row.value,
        }
        for row in open_source(args).rows(named(args))
    ]
    if out.json:
        out.print_json(rows)
    elif rows:
        out.say("\n\n".join(map(_lines, rows)))
    if not rows:
        out.note("There is no such XCom.")
    return ExitCode.OK if rows else ExitCode.PROBLEMS


def _lines(entry: dict[str, Any]) -> str:
    """An XCom's row as lines of name and value, safe to print."""
    value, envelope = entry.pop("value", None), entry.pop("envelope", None)
    fields = {name: field for name, field in entry.items() if field not in (None, -1)}
    fields |= envelope if envelope is not None else {"value": f"in the row: {_to_json(value)}"}
    if isinstance(origin := fields.get("reused"), dict):
        fields["reused"] = ", ".join(f"{name} {part}" for name, part in origin.items())
    texts = {name: _to_json(field) for name, field in fields.items()}
    return "\n".join(f"{name:<14}{text[:_TEXT_CHARS]}{'…' * (len(text) > _TEXT_CHARS)}" for name, text in texts.items())


def _to_json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _cat(args: argparse.Namespace, out: Output) -> None:
    row = _single_row(args)
    if args.output:
        _write(row, Path(args.output), out)
        return
    import xcargo
    from xcargo.airflow import rows

    value = rows.load_row(row)
    if isinstance(value, (bytes, bytearray, memoryview)):
        _print_bytes(bytes(value[:_HEAD_BYTES]), len(value), out)
    elif isinstance(value, (xcargo.File, xcargo.ByteStream)):
        with value.open() as file:
            _print_bytes(file.read(_HEAD_BYTES), value.size_bytes, out)
    else:
        text, head = _as_text(value), args.head
        out.say(text[:head] if head else text)
        if head and len(text) > head:
            out.note(f"The first {head:,} of {len(text):,} characters. --head 0 prints all, --output writes a file.")


def _single_row(args: argparse.Namespace) -> XComRow:
    """The one row that the arguments mean; a live one before those of an archive."""
    rows = [row for row in open_source(args).rows(named(args)) if args.attempt in (None, row.coordinate.attempt)]
    if not rows:
        raise XCargoError("There is no such XCom", hint="xcargo ls and xcargo show list which there are.")
    rows = [row for row in rows if not row.archived] or rows
    if len(rows) > 1:
        options = ", ".join(
            f"--attempt {c.attempt}" if c.attempt else f"--map-index {c.map_index}"
            for c in (row.coordinate for row in rows[:10])
        )
        raise ConfigurationError(f"{len(rows)} XComs match", hint=f"Say which: {options}.")
    return rows[0]


def _print_bytes(head: bytes, size_bytes: int, out: Output) -> None:
    out.say("\n".join(hexdump(head)))
    if size_bytes > len(head):
        out.note(f"The first {len(head):,} of {size_bytes:,} bytes. --output writes all to a file.")


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (dict, list)):
        import pprint

        try:
            return _as_json(value) or pprint.pformat(value, width=100, sort_dicts=False)
        except RecursionError:
            raise UnsupportedTypeError(
                "The value is nested too deeply to be printed", hint="--output writes it to a file."
            ) from None
    return str(value) if type(value).__module__.partition(".")[0] in ("pandas", "polars", "pyarrow") else repr(value)


def _as_json(value: Any) -> str | None:
    """The value as JSON, unless that would alter it: a key that is a number becomes text, a tuple a list."""
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
        text.encode()  # half a character has no UTF-8
        return text if json.loads(text) == value else None
    except (TypeError, ValueError, RecursionError):
        return None


def _write(row: XComRow, target: Path, out: Output) -> None:
    """A file, folder, stream or bytes as they are; text and JSON as UTF-8; of anything else its payload."""
    import xcargo
    from xcargo.airflow import rows
    from xcargo.model.envelope import is_envelope

    if target.exists():
        raise ConfigurationError(f"{target} exists already", hint="Name another file, or remove it.")
    envelope = row.value if is_envelope(row.value) else {}
    codec = envelope.get("codec")
    payload = ""
    if codec in ("stream", "bytes"):
        _write_payload(row, target)
    else:
        value = rows.load_row(row)
        if isinstance(value, (xcargo.File, xcargo.Directory)):
            value.save(target)
        elif isinstance(value, (bytes, bytearray, memoryview)):
            target.write_bytes(value)
        elif isinstance(value, str):
            target.write_text(value, "utf-8", errors="surrogatepass")
        elif (document := _as_json(value)) is not None:
            target.write_text(document, "utf-8")
        elif envelope:
            _write_payload(row, target)
            payload = f"the payload of the {envelope['type']} as it is stored (codec {codec}), "
        else:
            raise UnsupportedTypeError(
                f"The row holds a {type(value).__name__}, which is neither JSON nor a payload",
                hint="Omit --output to print it.",
            )
    size = "" if target.is_dir() else f"{format_bytes(target.stat().st_size)} "
    out.note(f"Wrote {payload}{size}to {target}.")


def _write_payload(row: XComRow, target: Path) -> None:
    """What is stored of a value, decompressed; a chunk at a time."""
    from xcargo.airflow import runtime

    handle = runtime.pipeline().handle(row.value, row.coordinate.dag_id)
    with handle.open() as stored, target.open("xb") as file:
        try:
            shutil.copyfileobj(stored, file, 1024 * 1024)
        except BaseException:  # else the beginning of a value would pass for all of it
            target.unlink()
            raise


COMMANDS = (
    Command(
        name="ls",
        help="list the stored values that rows refer to",
        description="Lists every XCom, and every key of the state store of tasks and assets, whose value is in a "
        "store: its coordinate, the size of the value and of its object, when it was pushed, and the URL of the "
        "object. Reads only rows, no objects. Rows that airflow db clean keeps in an archive come last. With --json it "
        "prints one object per line as it reads them.",
        run=_ls,
        arguments=(
            JSON,
            *WHERE,
            Argument("--limit", type=at_least(1), default=1000, metavar="N", help="most rows to show (default: 1000)"),
            *SOURCE,
        ),
        examples=(
            Example("ls --dag sales", "what is stored for a Dag"),
            Example("ls --dag sales --run 'scheduled__2026-01-*' --key return_value", "for some of its runs"),
            Example("ls --asset orders", "for the state of an asset"),
            Example("ls --json | jq -r .uri", "where every object is"),
        ),
    ),
    Command(
        name="du",
        help="sum up what is stored",
        description="Sums up the objects that rows refer to and their bytes, largest first: by Dag, or in more "
        "detail. The column size is the size of the values, stored the size of their objects. Reads only rows, no "
        "objects. With --inventory it reads no rows either, and sums up all objects, orphans included. Entries of "
        "xcargo.memoize are listed, and counted apart.",
        run=_du,
        arguments=(
            JSON,
            Argument("--by", choices=tuple(_LEVELS), default="dag", help="what to group by (default: dag)"),
            *WHERE,
            PATH,
            INVENTORY,
            *SOURCE,
        ),
        examples=(
            Example("du", "which Dags store most"),
            Example("du --dag sales --by run", "which of its runs store most"),
            Example("du --by key --json", "for a program"),
            Example("du --inventory s3://aws@inventories/xcom-bucket/daily", "what is stored, by the newest inventory"),
        ),
    ),
    Command(
        name="show",
        help="show what is known of an XCom without reading its value",
        description="Shows an XCom's row: the envelope with type, sizes, codec, checksum and URL of the object, where "
        "a reused value is from; or the value itself if it is in the row. On Airflow 3.4 every attempt has its own "
        "row. Exits with 1 if there is no such XCom. --state and --asset do the same for a key of the state store.",
        run=_show,
        arguments=(JSON, *ONE, *SOURCE),
        examples=(
            Example("show sales manual__2026-01-01T00:00:00+00:00 extract", "what a task returned"),
            Example("show sales manual__2026-01-01T00:00:00+00:00 extract rows --map-index 3 --json", "for a program"),
            Example("show --asset orders cursor", "of the state of an asset"),
        ),
    ),
    Command(
        name="cat",
        help="print the value of an XCom, or write it to a file",
        description="Fetches an XCom's value, verifies and decodes it as a task would, and prints its beginning: "
        "JSON, text, the first rows of a table, a hex dump of bytes. Characters that a terminal would interpret are "
        "escaped. --output writes a file, folder, stream or bytes as they are, text and JSON as UTF-8, and for any "
        "other value the payload as it is stored.",
        run=_cat,
        arguments=(
            *ONE,
            Argument("--attempt", metavar="ID", help="only this attempt (Airflow 3.4; xcargo show lists them)"),
            Argument(
                "--head",
                type=at_least(0),
                default=2000,
                metavar="N",
                help="most characters to print (default: 2000; 0: all)",
            ),
            Argument("-o", "--output", metavar="FILE", help="write all of it to a new file or folder"),
            *SOURCE,
        ),
        examples=(
            Example("cat sales manual__2026-01-01T00:00:00+00:00 extract", "what a task returned"),
            Example("cat sales manual__2026-01-01T00:00:00+00:00 report -o report.pdf", "a file that it returned"),
            Example("cat --asset orders cursor", "a key of the state of an asset"),
        ),
    ),
)
