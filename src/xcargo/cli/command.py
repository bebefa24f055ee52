"""What every command consists of: its declaration, and `Output`, by which it writes and asks.

One declaration serves ``xcargo <name>`` and ``airflow xcargo <name>``. Airflow's parser takes anything with ``flags``
and ``add_to_parser`` for an argument, so `Argument` needs no translation.

Results go to standard output, everything else (notes, progress, errors, questions) to standard error: tables and
colours on a terminal, plain text in a pipe, JSON for a program. Looks are those of rich, which comes with every
Airflow; JSON and single lines do without it. ``NO_COLOR`` is respected.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property, partial
from typing import Any, TextIO

from xcargo.errors import ConfigurationError, MissingDependencyError, XCargoError, printable

__all__ = ["JSON", "YES", "Argument", "Command", "Example", "ExitCode", "Output", "at_least", "hexdump"]


class ExitCode(IntEnum):
    """How a command ends. Append-only: scripts rely on the numbers."""

    OK = 0
    """Done, and nothing wrong was found."""
    PROBLEMS = 1
    """Done; what was looked at has problems, which were shown."""
    USAGE = 2
    """The command line was not understood. Nothing was done."""
    REFUSED = 3
    """It would not be safe, or was not confirmed. Nothing was changed."""
    FAILED = 4
    """It could not be done: a setting, a connection or a store does not work."""
    INTERRUPTED = 130
    """Stopped by Ctrl-C."""


class Argument:
    """One argument: what ``ArgumentParser.add_argument`` takes."""

    def __init__(self, *flags: str, **options: Any) -> None:
        self.flags = flags
        self.options = options

    def add_to_parser(self, parser: argparse.ArgumentParser) -> None:
        """Add this argument to a parser."""
        parser.add_argument(*self.flags, **self.options)


def at_least(least: int) -> Callable[[str], int]:
    """A type for arguments: a whole number from ``least`` on."""

    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{text} is less than {least}")
        return value

    number.__name__ = "int"  # as argparse calls it where the text is no number
    return number


@dataclass(frozen=True)
class Example:
    """A command line as a user types it, without ``xcargo`` in front, and what it does."""

    line: str
    what: str


@dataclass(frozen=True)
class Command:
    """A command. ``help`` is one line without a full stop, ``description`` a paragraph.

    A name of two words is that of a command in a group.
    ``run`` gets the parsed arguments and where to write; what it returns is the exit code, None means OK. An
    `XCargoError` that it raises is shown and ends the command with FAILED.
    """

    name: str
    help: str
    run: Callable[[argparse.Namespace, Output], ExitCode | None]
    description: str
    arguments: tuple[Argument, ...] = ()
    examples: tuple[Example, ...] = ()
    only_standalone: bool = False
    """Not part of ``airflow xcargo``."""

    def epilog(self, program: str) -> str:
        """The examples, as the end of ``--help``."""
        lines = [line for example in self.examples for line in (f"  {program} {example.line}", f"      {example.what}")]
        return "\n".join(["Examples:", *lines]) if lines else ""


JSON = Argument("--json", action="store_true", help="print JSON for another program to read")
YES = Argument("-y", "--yes", action="store_true", help="do not ask before changing anything")


# --- output ----------------------------------------------------------------------------------------------------------


class Output:
    """Where a command writes. ``json`` is what the user asked for; the command decides what its JSON holds."""

    def __init__(self, *, json: bool = False, stdout: TextIO | None = None, stderr: TextIO | None = None) -> None:
        self.json = json
        self._stdout = stdout or sys.stdout
        self._stderr = stderr or sys.stderr

    @property
    def is_interactive(self) -> bool:
        """Whether somebody is there who can answer a question."""
        return sys.stdin.isatty() and self._stderr.isatty()

    def say(self, text: str = "", *, style: str = "") -> None:
        """A line of the result."""
        _print_line(text, style, stream=self._stdout, console=self._out_console)

    def note(self, text: str, *, style: str = "") -> None:
        """A line beside the result: what is under way, what to do next."""
        _print_line(text, style, stream=self._stderr, console=self._err_console)

    def marked(self, mark: str, style: str, text: str) -> None:
        """A line of the result that begins with a coloured mark; what is folded is indented as far as it."""
        text = printable(text, keep="\t\n")
        if self._out_console is None:
            print(mark + text, file=self._stdout)
            return
        from rich.table import Table
        from rich.text import Text

        row = Table.grid()
        row.add_column(width=len(mark), no_wrap=True)
        row.add_column(overflow="fold")
        row.add_row(Text(mark, style=style), Text(text))
        self._out_console.print(row)

    def print_json(self, value: Any) -> None:
        """The result as one JSON document. Dataclasses become objects, anything unknown its text."""
        print(_json(value, indent=2), file=self._stdout)

    def print_json_line(self, value: Any) -> None:
        """One of very many results as a line of JSON, at once."""
        print(_json(value), file=self._stdout)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[str] = ()) -> None:
        """A table; columns named in ``right`` are flush right.

        On a terminal long cells are folded; in a pipe no cell is cut or folded. Raises MissingDependencyError without
        rich.
        """
        try:
            from rich.box import SIMPLE_HEAD
            from rich.cells import cell_len
            from rich.table import Table
            from rich.text import Text
        except ImportError:
            raise MissingDependencyError(
                "Tables need rich, which comes with Airflow", hint="Run: pip install rich, or use --json."
            ) from None
        cells = [["" if cell is None else printable(str(cell)) for cell in row] for row in rows]
        if self._out_console is not None:
            table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
            for column in columns:
                table.add_column(column, justify="right" if column in right else "left", overflow="fold")
            for row in cells:
                table.add_row(*map(Text, row))
            self._out_console.print(table)
            return
        # rich takes a millisecond a row, and whoever reads a pipe may want a hundred thousand.
        widths = [max(map(cell_len, column)) for column in zip(columns, *cells, strict=True)]
        for row in ([*columns], *cells):
            line = ""
            for name, cell, width in zip(columns, row, widths, strict=True):
                padding = " " * (width - cell_len(cell))
                line += (padding + cell if name in right else cell + padding) + "  "
            print(line.rstrip(), file=self._stdout)

    @contextmanager
    def progress(self, label: str, total: int | None = None) -> Iterator[Callable[..., None]]:
        """A bar (a spinner without a total) on a terminal, nothing in a pipe. Gives ``advance(n=1, label=None)``."""
        if self._err_console is None:
            yield lambda *_, **__: None
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        text = TextColumn("{task.description}", markup=False)
        shown = [SpinnerColumn(), text] if total is None else [text, BarColumn(), MofNCompleteColumn()]
        with Progress(*shown, TimeElapsedColumn(), console=self._err_console, transient=True) as bar:
            task = bar.add_task(label, total=total)
            yield lambda n=1, label=None: bar.update(task, advance=n, description=label)

    def error(self, error: XCargoError) -> None:
        """What went wrong, where, and what to do next."""
        self.note(f"Error: {error.what}", style="bold red")
        if error.where is not None:
            self.note(f"  where: {error.where}")
        if error.hint:
            self.note(f"  hint:  {error.hint}")

    def confirm(self, question: str, *, yes: bool = False) -> bool:
        """Whether the user says yes; at once with ``yes``, and never where nobody can be asked."""
        if yes:
            return True
        if not self.is_interactive:
            self.note("Nobody can be asked here. Give --yes to go on without a question.")
            return False
        return self.ask(f"{question} [y/N]", optional=True).lower() in ("y", "yes")

    def ask(self, question: str, default: str = "", *, choices: Sequence[str] = (), optional: bool = False) -> str:
        """The user's answer, or the default for an empty one. Only where `is_interactive` holds.

        Asked again until it is one of the choices, if any, and not empty, unless ``optional``. Raises
        ConfigurationError when the input ends.
        """
        while True:
            self._stderr.write(f"{question}{f' [{default}]' if default else ''}: ")
            self._stderr.flush()
            line = sys.stdin.readline()
            if not line:
                raise ConfigurationError("The input ended before a question was answered")
            answer = line.strip() or default
            if choices and answer not in choices:
                self.note(f"Please answer one of {', '.join(choices)}.")
            elif answer or optional:
                return answer

    @cached_property
    def _out_console(self) -> Any:
        return _console(self._stdout)

    @cached_property
    def _err_console(self) -> Any:
        return _console(self._stderr)


def _console(stream: TextIO) -> Any:
    """A rich console for a terminal; None in a pipe, for a dumb terminal, and without rich."""
    if not stream.isatty() or os.environ.get("TERM") == "dumb":
        return None
    try:
        from rich.console import Console
    except ImportError:
        return None
    return Console(file=stream, highlight=False)


def _print_line(text: str, style: str, *, stream: TextIO, console: Any) -> None:
    text = printable(text, keep="\t\n")
    if console is None:
        print(text, file=stream)
    else:
        console.print(text, style=style or None, markup=False, soft_wrap=True)


def _json(value: Any, indent: int | None = None) -> str:
    write = partial(json.dumps, indent=indent, default=_to_plain, ensure_ascii=False, allow_nan=False)
    try:
        return write(value)
    except (TypeError, ValueError):
        return write(_writable(value))


def _writable(value: Any) -> Any:
    """The value as JSON can write it: null in place of NaN and infinities, keys as text."""
    if isinstance(value, dict):
        return {key if isinstance(key, (str, int)) else str(key): _writable(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return list(map(_writable, value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _writable(dataclasses.asdict(value))
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _to_plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return str(value)


def hexdump(data: bytes) -> list[str]:
    """Sixteen bytes a line, in hex and as ASCII."""
    lines = []
    for start in range(0, len(data), 16):
        row = data[start : start + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{start:08x}  {row.hex(' '):<47}  {text}")
    return lines
