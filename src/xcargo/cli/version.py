"""``xcargo version``: versions of what xcargo works with."""

from __future__ import annotations

import argparse
import platform
from importlib import metadata

import xcargo
from xcargo.cli.command import JSON, Command, Example
from xcargo.cli.output import Output

__all__ = ["COMMAND", "versions"]

PACKAGES = (
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


def versions() -> dict[str, str | None]:
    """Package -> installed version, None where it is not installed. Imports none of them."""
    found: dict[str, str | None] = {"xcargo": xcargo.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def _run(_: argparse.Namespace, out: Output) -> None:
    found = versions()
    if out.json:
        out.print_json(found)
    else:
        out.table(("package", "version"), [(name, version or "not installed") for name, version in found.items()])


COMMAND = Command(
    name="version",
    help="show the versions of xcargo and of what it works with",
    description="Shows the versions of xcargo, Python, Airflow and the packages that xcargo uses when they are there.",
    run=_run,
    arguments=(JSON,),
    examples=(Example("version", "for a bug report"), Example("version --json | jq -r .xcargo", "the version alone")),
)
