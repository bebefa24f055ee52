"""``xcargo version`` and ``xcargo completion``: the versions of what is installed here, and completion by the shell."""

from __future__ import annotations

import argparse
import platform
from importlib import metadata
from typing import TYPE_CHECKING

import xcargo
from xcargo.cli.command import JSON, Argument, Command, Example
from xcargo.errors import MissingDependencyError

if TYPE_CHECKING:
    from xcargo.cli.output import Output

__all__ = ["COMMANDS"]

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
