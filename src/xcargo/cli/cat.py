"""``xcargo cat``: the value of an XCom, or its head."""

from __future__ import annotations

import argparse
import json
import pprint
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xcargo.cli.command import Argument, Command, Example
from xcargo.cli.output import Output
from xcargo.cli.show import ONE
from xcargo.cli.sources import SOURCE, open_source, shown_size, where_of
from xcargo.cli.text import hexdump, printable
from xcargo.errors import ConfigurationError, XCargoError

if TYPE_CHECKING:
    from xcargo.lifecycle.references import XComRow

__all__ = ["COMMAND"]

_HEAD_BYTES = 1024


def _run(args: argparse.Namespace, out: Output) -> None:
    row = _the_one(args)
    if args.output:
        _write(row, Path(args.output), out)
        return
    from xcargo.airflow import rows

    _print(rows.load_parsed(row.value, row.coordinate.dag_id), args.head, out)


def _the_one(args: argparse.Namespace) -> XComRow:
    source = open_source(args)
    found = [row for row in source.rows(where_of(args)) if args.attempt in (None, row.coordinate.attempt)]
    if not found:
        raise XCargoError("There is no such XCom", hint="xcargo ls and xcargo show tell which there are.")
    live = [row for row in found if not row.archived] or found
    if len(live) > 1:
        which = ", ".join(
            f"--attempt {c.attempt}" if c.attempt else f"--map-index {c.map_index}"
            for c in (row.coordinate for row in live[:10])
        )
        raise ConfigurationError(f"{len(live)} XComs match", hint=f"Say which: {which}.")
    return live[0]


def _print(value: Any, head_chars: int, out: Output) -> None:
    import xcargo

    if isinstance(value, (bytes, bytearray, memoryview)):
        return _print_bytes(bytes(value[:_HEAD_BYTES]), len(value), out)
    if isinstance(value, (xcargo.File, xcargo.ByteStream)):
        with value.open() as file:
            return _print_bytes(file.read(_HEAD_BYTES), value.size_bytes, out)
    text = _text(value)
    out.say(printable(text[:head_chars] if head_chars else text))
    if head_chars and len(text) > head_chars:
        out.note(f"The first {head_chars:,} of {len(text):,} characters. --head 0 prints all, --output writes a file.")
    return None


def _print_bytes(head: bytes, size_bytes: int, out: Output) -> None:
    for line in hexdump(head):
        out.say(line)
    if size_bytes > len(head):
        out.note(f"The first {len(head):,} of {size_bytes:,} bytes. --output writes all to a file.")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (dict, list)):
        try:
            return json.dumps(value, indent=2, ensure_ascii=False)
        except (TypeError, ValueError):
            return pprint.pformat(value, width=100, sort_dicts=False)
    return str(value) if type(value).__module__.partition(".")[0] in ("pandas", "polars", "pyarrow") else repr(value)


def _write(found: XComRow, target: Path, out: Output) -> None:
    """A file, folder, stream or bytes as they are; text and JSON as UTF-8; of anything else its payload."""
    import xcargo
    from xcargo.airflow import rows, runtime
    from xcargo.model.envelope import is_envelope

    if target.exists():
        raise ConfigurationError(f"{target} exists already", hint="Name another file, or remove it.")
    row, dag_id = found.value, found.coordinate.dag_id
    codec = row.get("codec") if is_envelope(row) else None
    if codec in ("stream", "bytes"):
        with runtime.run(lambda pipeline: pipeline.handle(row, dag_id)).open() as stored, target.open("xb") as file:
            shutil.copyfileobj(stored, file, 1024 * 1024)
        return out.note(f"Wrote {shown_size(target.stat().st_size)} to {target}.")
    value = rows.load_parsed(row, dag_id)
    if isinstance(value, (xcargo.File, xcargo.Directory)):
        value.save(target)
        return out.note(f"Wrote {target}.")
    if isinstance(value, (bytes, bytearray, memoryview)):
        target.write_bytes(value)
    elif isinstance(value, str):
        target.write_text(value, "utf-8", errors="surrogatepass")
    else:
        try:
            target.write_text(json.dumps(value, indent=2, ensure_ascii=False), "utf-8")
        except (TypeError, ValueError):
            with runtime.run(lambda pipeline: pipeline.handle(row, dag_id)).open() as stored, target.open("wb") as file:
                shutil.copyfileobj(stored, file, 1024 * 1024)
            return out.note(f"Wrote the payload of the {row['type']} as it is stored (codec {codec}) to {target}.")
    return out.note(f"Wrote {shown_size(target.stat().st_size)} to {target}.")


COMMAND = Command(
    name="cat",
    help="print the value of an XCom, or write it to a file",
    description="Fetches an XCom's value, verifies and decodes it as a task would, and prints its head: JSON, text, "
    "the beginning of a table, a hex dump of bytes. Characters that a terminal would act upon are escaped. --output "
    "writes a file, folder, stream or bytes as they are, text and JSON as UTF-8, and of any other value the payload "
    "as it is stored.",
    run=_run,
    arguments=(
        *ONE,
        Argument("--attempt", metavar="ID", help="of this attempt (Airflow 3.4; xcargo show tells them)"),
        Argument("--head", type=int, default=2000, metavar="N", help="characters at most (default: 2000; 0: all)"),
        Argument("-o", "--output", metavar="FILE", help="write all of it to a new file or folder"),
        *SOURCE,
    ),
    examples=(
        Example("cat sales manual__2026-01-01T00:00:00+00:00 extract", "what a task returned"),
        Example("cat sales manual__2026-01-01T00:00:00+00:00 report -o report.pdf", "a file that it returned"),
    ),
)
