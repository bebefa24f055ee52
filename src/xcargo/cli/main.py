"""The ``xcargo`` program, also mounted as ``airflow xcargo``: parses, runs a command, and gives an exit code.

Its own commands are ``xcargo version`` and ``xcargo completion``.

Loading it loads the standard library only: Airflow does so whenever its own command runs.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import platform
import shutil
import sys
import textwrap
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module, metadata
from typing import Any

import xcargo
from xcargo.cli.command import JSON, Argument, Command, Example, ExitCode, Output
from xcargo.errors import MissingDependencyError, ReferencesUnavailableError, SweepRefusedError, XCargoError

__all__ = ["COMMANDS", "all_commands", "build_parser", "get_cli_commands", "main"]


_MODULES = ("bench", "doctor", "gc", "init", "memo", "migrate", "policy", "sql", "values", "verify")
"""Modules of this package, each with ``COMMANDS``, beside this one."""

GROUPS = {"memo": "show and delete the results that xcargo.memoize can reuse"}
"""First words of names that have two, and what their commands do."""

_EXIT_CODES = "0 done, 1 problems found, 2 usage, 3 refused, 4 failed"


def all_commands() -> tuple[Command, ...]:
    """Every command, by name."""
    commands = [command for name in _MODULES for command in import_module(f"xcargo.cli.{name}").COMMANDS]
    return tuple(sorted((*COMMANDS, *commands), key=lambda command: command.name))


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

    subcommands: list[Any] = []
    groups: dict[str, list[Any]] = {}
    for command in all_commands():
        group, _, name = command.name.rpartition(" ")
        if group and group not in groups:
            groups[group] = []
            subcommands.append(GroupCommand(name=group, help=GROUPS[group], subcommands=groups[group]))
        mounted = ActionCommand(
            name=name,
            help=command.help,
            func=action(command),
            args=command.arguments,
            description=escaped(command.description),
            epilog=escaped(command.epilog("airflow xcargo")),
        )
        if not command.only_standalone:
            groups.get(group, subcommands).append(mounted)
    text = "Set up, check and look after the XCom backend xcargo"
    return [GroupCommand(name="xcargo", help=text, subcommands=subcommands)]


def _run(command: Command, args: argparse.Namespace) -> int:
    """Run a command whose arguments are parsed.

    Only the command itself writes to standard output; what libraries print or log while they load goes to standard
    error, so that the output can be piped.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # what the encoding of a terminal or pipe does not have
    out = Output(json=getattr(args, "json", False))
    logging.getLogger("xcargo").setLevel(logging.WARNING)  # what it does, the command itself says
    code = int(ExitCode.OK)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            code = int(command.run(args, out) or code)
        sys.stdout.flush()  # else what cannot be written is found when the process ends, which is too late to tell
        return code
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
        return code
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
    subparsers = {"": parser.add_subparsers(title="commands", metavar="COMMAND", required=True)}
    for command in all_commands():
        group, _, name = command.name.rpartition(" ")
        if group not in subparsers:
            text = GROUPS[group]
            parent = subparsers[""].add_parser(
                group, help=text, description=f"{text.capitalize()}.", formatter_class=formatter
            )
            subparsers[group] = parent.add_subparsers(title="commands", metavar="COMMAND", required=True)
        sub = subparsers[group].add_parser(
            name,
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


# --- its own commands ------------------------------------------------------------------------------------------------

_PACKAGES = (
    "apache-airflow",
    "apache-airflow-task-sdk",
    "obstore",
    "apache-airflow-providers-amazon",
    "apache-airflow-providers-google",
    "apache-airflow-providers-microsoft-azure",
    "apache-airflow-providers-common-io",
    "numpy",
    "pandas",
    "polars",
    "pyarrow",
)


def _version(_: argparse.Namespace, out: Output) -> None:
    versions: dict[str, str | None] = {"xcargo": xcargo.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    if out.json:
        out.print_json(versions)
    else:
        out.table(("package", "version"), [(name, version or "not installed") for name, version in versions.items()])


def _completion(args: argparse.Namespace, out: Output) -> None:
    try:
        from argcomplete.shell_integration import shellcode
    except ImportError:
        raise MissingDependencyError(
            "Completion needs argcomplete, which comes with Airflow", hint="Run: pip install argcomplete"
        ) from None
    out.say(shellcode(["xcargo"], shell=args.shell))


COMMANDS = (
    Command(
        name="version",
        help="show the versions of xcargo and of the packages that it uses",
        description="Shows the versions of xcargo, Python, Airflow and the installed packages that xcargo uses.",
        run=_version,
        arguments=(JSON,),
        examples=(
            Example("version", "for a bug report"),
            Example("version --json | jq -r .xcargo", "only the version of xcargo"),
        ),
    ),
    Command(
        name="completion",
        help="print a script that completes xcargo's commands in your shell",
        description="Prints a script that your shell reads at startup.",
        run=_completion,
        arguments=(Argument("shell", choices=("bash", "zsh", "fish"), help="your shell"),),
        examples=(
            Example("completion bash >> ~/.bashrc", "for every new bash"),
            Example("completion fish > ~/.config/fish/completions/xcargo.fish", "for fish"),
        ),
        only_standalone=True,
    ),
)
