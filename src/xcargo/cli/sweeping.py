"""What the commands that sweep have in common: their arguments, and the deployment that these name."""

from __future__ import annotations

import argparse
import math
from itertools import chain
from typing import TYPE_CHECKING

from xcargo.cli.command import Argument
from xcargo.errors import ConfigurationError, SweepRefusedError

if TYPE_CHECKING:
    from xcargo.lifecycle.references import ReferenceSource
    from xcargo.model.root import Root

__all__ = ["ALL_DAGS", "API_CONNECTION", "API_URL", "DAG", "PATH", "PREFIX", "VIA", "prefixes_of", "roots_of", "share"]

PATH = Argument("--path", metavar="URL", help="one of the configured base URLs (default: each of them)")
DAG = Argument("--dag", metavar="DAG_ID", action="append", default=[], help="objects of this Dag only (repeatable)")
PREFIX = Argument(
    "--prefix",
    metavar="PREFIX",
    action="append",
    default=[],
    help="objects below this folder only, written as in their keys (repeatable)",
)
VIA = Argument(
    "--via",
    choices=("database", "rest"),
    default="database",
    help="where live references are read: the metadata database (default), or the REST API",
)
API_URL = Argument("--api-url", metavar="URL", help="--via rest: where Airflow answers (default: its own setting)")
API_CONNECTION = Argument(
    "--api-connection",
    metavar="ID",
    help="--via rest: Airflow connection with login and password, or a token as its password (default: the variables "
    "XCARGO_API_TOKEN, or XCARGO_API_USERNAME and XCARGO_API_PASSWORD)",
)
ALL_DAGS = Argument(
    "--all-dags",
    action="store_true",
    help="--via rest: this user may read every Dag, so that one which is not shown is gone",
)


def roots_of(args: argparse.Namespace) -> tuple[Root, ...]:
    """The configured roots that are meant. Raises SweepRefusedError for one that is not configured."""
    from xcargo.cli.deployment import read_settings
    from xcargo.model.root import Root

    settings = read_settings()
    roots = settings.roots
    if not roots:
        raise ConfigurationError(
            f"There is nothing to sweep: {settings.no_root_reason}", hint="Set AIRFLOW__XCARGO__PATH."
        )
    if not args.path:
        return roots
    wanted = Root.parse(args.path)
    meant = tuple(root for root in roots if root.uri() == wanted.uri())
    if not meant:
        raise SweepRefusedError(
            "This root is none of this deployment, so what lies there may be somebody else's",
            where=wanted,
            hint=f"Configured: {', '.join(map(str, roots))}. A former one belongs into [xcargo] read_paths.",
        )
    return meant


def prefixes_of(args: argparse.Namespace) -> tuple[str, ...]:
    """The prefixes that are meant, none for all."""
    from xcargo.model.coordinate import spellings

    of_dags = chain.from_iterable(map(spellings, args.dag))
    return tuple(dict.fromkeys([*of_dags, *(prefix.strip("/") for prefix in args.prefix)]))


def source_of(args: argparse.Namespace) -> ReferenceSource:
    """Where live references are read."""
    from xcargo.airflow.references import open_source
    from xcargo.cli.deployment import airflow, get_connection

    connection = get_connection(args.api_connection) if args.api_connection and args.via == "rest" else None
    return open_source(args.via, airflow()[0], api_url=args.api_url, connection=connection, all_dags=args.all_dags)


def share(text: str) -> float:
    """An argument between 0 and 1."""
    value = float(text)
    if not 0 <= value <= 1 or math.isnan(value):
        raise ValueError(text)
    return value
