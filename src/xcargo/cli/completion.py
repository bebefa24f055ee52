"""``xcargo completion``: the script that makes a shell complete commands and options."""

from __future__ import annotations

import argparse

from xcargo.cli.command import Argument, Command, Example
from xcargo.cli.output import Output
from xcargo.errors import MissingDependencyError

__all__ = ["COMMAND"]


def _run(args: argparse.Namespace, out: Output) -> None:
    try:
        from argcomplete.shell_integration import shellcode
    except ImportError:
        raise MissingDependencyError(
            "Completion needs argcomplete, which comes with Airflow", hint="Run: pip install argcomplete"
        ) from None
    out.say(shellcode(["xcargo"], shell=args.shell))


COMMAND = Command(
    name="completion",
    help="print the script that makes a shell complete xcargo's commands",
    description="Prints a script for the shell to read at its start.",
    run=_run,
    arguments=(Argument("shell", choices=("bash", "zsh", "fish"), help="the shell that is to complete"),),
    examples=(
        Example("completion bash >> ~/.bashrc", "from the next bash on"),
        Example("completion fish > ~/.config/fish/completions/xcargo.fish", "for fish"),
    ),
)
