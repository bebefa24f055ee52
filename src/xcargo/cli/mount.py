"""``airflow xcargo``: the subcommands inside Airflow's own command (3.2 on; earlier ones never ask)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

from xcargo.cli.command import Command
from xcargo.cli.commands import all_commands

__all__ = ["get_cli_commands"]

_PROGRAM_ONLY = ("completion",)
"""Airflow completes its own command itself."""


def get_cli_commands() -> list[Any]:
    """The group ``xcargo``, as Airflow's provider contract asks for it."""
    from airflow.cli.cli_config import ActionCommand, GroupCommand

    return [
        GroupCommand(
            name="xcargo",
            help="Set up, check and look after the XCom backend xcargo",
            subcommands=[
                ActionCommand(
                    name=command.name,
                    help=command.help,
                    func=_action(command),
                    args=command.arguments,
                    description=_text(command.description or command.help),
                    epilog=_text(command.epilog("airflow xcargo")),
                )
                for command in all_commands()
                if command.name not in _PROGRAM_ONLY
            ],
        )
    ]


def _action(command: Command) -> Callable[[argparse.Namespace], None]:
    def action(args: argparse.Namespace) -> None:
        from xcargo.cli.main import run

        sys.exit(run(command, args))

    return action


def _text(text: str) -> str:
    """Airflow's formatter takes square brackets for markup."""
    return text.replace("[", r"\[")
