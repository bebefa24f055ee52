"""What a command declares: name, help, arguments, examples, and the function that runs it.

One declaration serves ``xcargo <name>`` and ``airflow xcargo <name>``. Airflow's parser takes anything with ``flags``
and ``add_to_parser`` for an argument, so `Argument` needs no translation.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xcargo.cli.output import Output

__all__ = ["JSON", "YES", "Argument", "Command", "Example", "ExitCode"]


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


@dataclass(frozen=True)
class Example:
    """A command line as a user types it, without ``xcargo`` in front, and what it does."""

    line: str
    what: str


@dataclass(frozen=True)
class Command:
    """A command. ``help`` is one line without a full stop, ``description`` a paragraph.

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
