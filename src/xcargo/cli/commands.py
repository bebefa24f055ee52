"""All subcommands. Loading them loads the standard library only: Airflow does so whenever its own command runs."""

from __future__ import annotations

from importlib import import_module

from xcargo.cli.command import Command

__all__ = ["MODULES", "all_commands"]

MODULES = (
    "bench",
    "cat",
    "completion",
    "doctor",
    "du",
    "gc",
    "init",
    "lifecycle",
    "ls",
    "migrate",
    "policy",
    "restore",
    "show",
    "verify",
    "version",
)
"""Modules of this package, each with a ``COMMAND``."""


def all_commands() -> tuple[Command, ...]:
    """Every subcommand, by name."""
    found: list[Command] = [import_module(f"xcargo.cli.{name}").COMMAND for name in MODULES]
    return tuple(sorted(found, key=lambda command: command.name))
