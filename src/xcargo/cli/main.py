"""The ``xcargo`` program: parses, runs a subcommand, and turns how it ended into an exit code."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

import xcargo
from xcargo.cli.command import Command, ExitCode
from xcargo.cli.commands import all_commands
from xcargo.cli.output import Output
from xcargo.errors import XCargoError

__all__ = ["build_parser", "main", "run"]

_EXIT_CODES = "0 done, 1 problems found, 2 usage, 3 refused, 4 failed"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and give its exit code."""
    parser = build_parser()
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)
    args = parser.parse_args(argv)
    return run(args.command, args)


def run(command: Command, args: argparse.Namespace) -> int:
    """Run a subcommand whose arguments are parsed.

    Only the command itself writes to standard output; what libraries print or log while they load goes to standard
    error, so that the output can be piped.
    """
    out = Output(json=getattr(args, "json", False))
    logging.getLogger("xcargo").setLevel(logging.WARNING)  # what it does, the command itself says
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return int(command.run(args, out) or ExitCode.OK)
    except XCargoError as error:
        out.error(error)
        return ExitCode.FAILED
    except KeyboardInterrupt:
        out.note("Interrupted.")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:  # whoever read the output has enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)
        return ExitCode.OK


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``xcargo`` with all subcommands."""
    formatter = _formatter()
    parser = argparse.ArgumentParser(
        prog="xcargo",
        description="Set up, check and look after xcargo, the XCom backend that carries anything.",
        epilog=f"xcargo COMMAND --help tells more. Exit codes: {_EXIT_CODES}.",
        formatter_class=formatter,
    )
    parser.add_argument("--version", action="version", version=f"xcargo {xcargo.__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in all_commands():
        sub = subparsers.add_parser(
            command.name,
            help=command.help,
            description=command.description or command.help,
            epilog=command.epilog("xcargo"),
            formatter_class=formatter,
        )
        for argument in command.arguments:
            argument.add_to_parser(sub)
        sub.set_defaults(command=command)
    return parser


def _formatter() -> Any:
    """Help in colours where rich-argparse is installed, plain elsewhere; texts keep their lines in both."""
    if not sys.stdout.isatty():  # rich would also fold long lines in a pipe
        return argparse.RawDescriptionHelpFormatter
    try:
        from rich_argparse import RawDescriptionRichHelpFormatter
    except ImportError:
        return argparse.RawDescriptionHelpFormatter

    class Formatter(RawDescriptionRichHelpFormatter):
        """Texts hold names of sections in square brackets, which are no markup."""

        text_markup = False

    return Formatter
