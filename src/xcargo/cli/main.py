"""The ``xcargo`` program, also mounted as ``airflow xcargo``: parses, runs a command, and gives an exit code.

Loading it loads the standard library only: Airflow does so whenever its own command runs.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import shutil
import sys
import textwrap
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import xcargo
from xcargo.cli.command import Command, ExitCode
from xcargo.cli.output import Output
from xcargo.errors import ReferencesUnavailableError, SweepRefusedError, XCargoError

__all__ = ["all_commands", "build_parser", "get_cli_commands", "main"]

_MODULES = ("bench", "doctor", "gc", "init", "migrate", "policy", "values", "version")
"""Modules of this package, each with ``COMMANDS``."""

_EXIT_CODES = "0 done, 1 problems found, 2 usage, 3 refused, 4 failed"


def all_commands() -> tuple[Command, ...]:
    """Every command, by name."""
    commands = [command for name in _MODULES for command in import_module(f"xcargo.cli.{name}").COMMANDS]
    return tuple(sorted(commands, key=lambda command: command.name))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and give its exit code."""
    parser = build_parser()
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)
    args = parser.parse_args(argv)
    return _run(args.command, args)


def get_cli_commands() -> list[Any]:
    """The group ``xcargo`` of Airflow's own command, as its provider contract asks for it (3.2 on)."""
    from airflow.cli.cli_config import ActionCommand, GroupCommand

    def escaped(text: str) -> str:  # Airflow's formatter takes square brackets for markup
        return text.replace("[", r"\[")

    def action(command: Command) -> Callable[[argparse.Namespace], None]:
        return lambda args: sys.exit(_run(command, args))

    subcommands = [
        ActionCommand(
            name=command.name,
            help=command.help,
            func=action(command),
            args=command.arguments,
            description=escaped(command.description),
            epilog=escaped(command.epilog("airflow xcargo")),
        )
        for command in all_commands()
        if not command.only_standalone
    ]
    text = "Set up, check and look after the XCom backend xcargo"
    return [GroupCommand(name="xcargo", help=text, subcommands=subcommands)]


def _run(command: Command, args: argparse.Namespace) -> int:
    """Run a command whose arguments are parsed.

    Only the command itself writes to standard output; what libraries print or log while they load goes to standard
    error, so that the output can be piped.
    """
    out = Output(json=getattr(args, "json", False))
    logging.getLogger("xcargo").setLevel(logging.WARNING)  # what it does, the command itself says
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return int(command.run(args, out) or ExitCode.OK)
    except (SweepRefusedError, ReferencesUnavailableError) as error:
        out.error(error)
        return ExitCode.REFUSED
    except XCargoError as error:
        out.error(error)
        return ExitCode.FAILED
    except KeyboardInterrupt:
        out.note("Interrupted.")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:  # whoever read the output has enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return ExitCode.OK
    except OSError as error:
        out.error(XCargoError(error.strerror or str(error), where=error.filename))
        return ExitCode.FAILED
    except Exception:  # a fault of ours or of Airflow: whoever reports it needs all of it
        traceback.print_exc()
        return ExitCode.FAILED


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``xcargo`` with all commands."""
    formatter, width = _formatter(), min(shutil.get_terminal_size().columns, 100) - 2
    parser = argparse.ArgumentParser(
        prog="xcargo",
        description="Set up, check and maintain xcargo, the XCom backend that carries anything.",
        epilog=f"xcargo COMMAND --help says more.\nExit codes: {_EXIT_CODES}.",
        formatter_class=formatter,
    )
    parser.add_argument("--version", action="version", version=f"xcargo {xcargo.__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in all_commands():
        sub = subparsers.add_parser(
            command.name,
            help=command.help,
            description=textwrap.fill(command.description, width),
            epilog=command.epilog("xcargo"),
            formatter_class=formatter,
        )
        for argument in command.arguments:
            argument.add_to_parser(sub)
        sub.set_defaults(command=command)
    return parser


def _formatter() -> Any:
    """Help in colours on a terminal where rich-argparse is installed, plain elsewhere; examples keep their lines."""
    base: Any = argparse.RawDescriptionHelpFormatter
    if sys.stdout.isatty():  # rich would fold long lines in a pipe too
        with contextlib.suppress(ImportError):
            import rich_argparse

            base = rich_argparse.RawDescriptionRichHelpFormatter

    class Formatter(base):  # type: ignore[misc]
        text_markup = False
        """rich: names of sections in square brackets are no markup."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            # argparse leaves too little room for names of subcommands, which it indents once more.
            self._action_max_length = 14

    return Formatter
