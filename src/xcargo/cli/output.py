"""What a command writes, and how it asks: tables and colours on a terminal, plain text in a pipe, JSON for a program.

rich comes with every Airflow and is used when it is there; nothing but looks depends on it. ``NO_COLOR`` is respected.
Results go to standard output, everything else (notes, progress, errors, questions) to standard error.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from xcargo.errors import ConfigurationError, XCargoError

__all__ = ["Output"]


class Output:
    """Where a command writes. ``json`` is what the user asked for; the command decides what its JSON holds."""

    def __init__(self, *, json: bool = False, stdout: TextIO | None = None, stderr: TextIO | None = None) -> None:
        self.json = json
        self._stdout = stdout or sys.stdout
        self._stderr = stderr or sys.stderr
        self._rich_out = _console(self._stdout)
        self._rich_err = _console(self._stderr)

    @property
    def is_interactive(self) -> bool:
        """Whether somebody sits there who can answer a question."""
        return sys.stdin.isatty() and self._stderr.isatty()

    def say(self, text: str = "", *, style: str = "") -> None:
        """A line of the result."""
        _line(self._rich_out, self._stdout, text, style)

    def note(self, text: str, *, style: str = "") -> None:
        """A line beside the result: what is under way, what to do next."""
        _line(self._rich_err, self._stderr, text, style)

    def marked(self, mark: str, style: str, text: str) -> None:
        """A line of the result that begins with a coloured mark; what is folded is indented as far as it."""
        if self._rich_out is None:
            print(mark + text, file=self._stdout)
            return
        from rich.padding import Padding
        from rich.table import Table
        from rich.text import Text

        row = Table.grid()
        row.add_column(width=len(mark), no_wrap=True)
        row.add_column(overflow="fold")
        row.add_row(Text(mark, style=style), Text(text))
        self._rich_out.print(Padding(row, 0))

    def print_json(self, value: Any) -> None:
        """The result as one JSON document. Dataclasses become objects, anything unknown its text."""
        print(json.dumps(value, indent=2, default=_plain, ensure_ascii=False), file=self._stdout)

    def print_json_line(self, value: Any) -> None:
        """One of very many results as a line of JSON, at once."""
        print(json.dumps(value, default=_plain, ensure_ascii=False), file=self._stdout)

    def table(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[object]],
        *,
        right: Sequence[str] = (),
        style: Callable[[int], str] = lambda _: "",
    ) -> None:
        """A table; columns named in ``right`` are flush right, ``style(n)`` colours row ``n`` on a terminal.

        In a pipe no cell is cut or folded.
        """
        cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
        if self._rich_out is not None:
            from rich.box import SIMPLE_HEAD
            from rich.table import Table
            from rich.text import Text

            table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
            for column in columns:
                table.add_column(column, justify="right" if column in right else "left", overflow="fold")
            for n, row in enumerate(cells):
                table.add_row(*map(Text, row), style=style(n))
            self._rich_out.print(table)
            return
        widths = [max(map(_width, column)) for column in zip(columns, *cells, strict=True)]
        for row in ([*columns], *cells):
            padded = [
                " " * (width - _width(cell)) + cell if name in right else cell + " " * (width - _width(cell))
                for name, cell, width in zip(columns, row, widths, strict=True)
            ]
            print("  ".join(padded).rstrip(), file=self._stdout)

    @contextmanager
    def progress(self, label: str, total: int | None = None) -> Iterator[Callable[..., None]]:
        """A bar (a spinner without a total) on a terminal, nothing in a pipe. Gives ``advance(n=1, label=None)``."""
        if self._rich_err is not None:
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                SpinnerColumn,
                TextColumn,
                TimeElapsedColumn,
            )

            text = TextColumn("{task.description}", markup=False)
            shown = [SpinnerColumn(), text] if total is None else [text, BarColumn(), MofNCompleteColumn()]
            with Progress(*shown, TimeElapsedColumn(), console=self._rich_err, transient=True) as bar:
                task = bar.add_task(label, total=total)

                def advance(n: int = 1, label: str | None = None) -> None:
                    bar.update(task, advance=n, description=label)

                yield advance
            return
        done, label_now = 0, label
        terminal = self._stderr.isatty()

        def count(n: int = 1, label: str | None = None) -> None:
            nonlocal done, label_now
            done, label_now = done + n, label or label_now
            if terminal:
                of = f" of {total}" if total is not None else ""
                self._stderr.write(f"\r\x1b[K{label_now} {done}{of}")
                self._stderr.flush()

        try:
            yield count
        finally:
            if terminal:
                self._stderr.write("\r\x1b[K")

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

    def ask(self, question: str, default: str = "", *, choices: tuple[str, ...] = (), optional: bool = False) -> str:
        """The user's answer, or the default for an empty one; asked again until it is one of the choices, if any, and
        not empty, unless ``optional``. Only where :attr:`is_interactive` holds. Raises ConfigurationError when the
        input ends."""
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


def _console(stream: TextIO) -> Any:
    """A rich console for a terminal; None in a pipe, for a dumb terminal, and without rich."""
    if not stream.isatty() or os.environ.get("TERM") == "dumb":
        return None
    try:
        from rich.console import Console
    except ImportError:
        return None
    return Console(file=stream, highlight=False)


def _line(console: Any, stream: TextIO, text: str, style: str) -> None:
    if console is None:
        print(text, file=stream)
    else:
        console.print(text, style=style or None, markup=False, soft_wrap=True)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return str(value)


def _width(text: str) -> int:
    """Columns that a terminal needs for a text."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
