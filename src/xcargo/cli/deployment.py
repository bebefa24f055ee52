"""What commands need of the deployment they run in: its settings, stores and rows, and the options that choose some.

Airflow is imported here, at first use.
"""

from __future__ import annotations

import argparse
from itertools import chain
from typing import TYPE_CHECKING, Any

from xcargo.airflow import load_backend
from xcargo.cli.command import Argument
from xcargo.errors import ConfigurationError, SweepRefusedError

if TYPE_CHECKING:
    from xcargo.lifecycle.references import ReferenceSource, XComFilter
    from xcargo.model.root import Root
    from xcargo.model.settings import Settings
    from xcargo.stores.base import Limits, Store

__all__ = [
    "DAGS",
    "INVENTORY",
    "ONE",
    "PATH",
    "PREFIXES",
    "SOURCE",
    "WHERE",
    "airflow",
    "get_connection",
    "load_edge",
    "named",
    "open_root",
    "open_source",
    "prefixes_of",
    "read_settings",
    "roots_of",
    "where_of",
]

PATH = Argument("--path", metavar="URL", help="one of the configured base URLs (default: each of them)")
DAGS = Argument("--dag", metavar="DAG_ID", action="append", default=[], help="only objects of this Dag (repeatable)")
PREFIXES = Argument(
    "--prefix",
    metavar="PREFIX",
    action="append",
    default=[],
    help="only objects below this folder, written as in their keys (repeatable)",
)
INVENTORY = Argument(
    "--inventory",
    metavar="URL",
    help="read this inventory of S3, GCS or Azure instead of listing: the URL of its manifest, or of a folder, whose "
    "newest inventory is taken (needs pyarrow)",
)
SOURCE = (
    Argument(
        "--via",
        choices=("database", "rest"),
        default="database",
        help="where to read live references: the metadata database (default), or the REST API",
    ),
    Argument("--api-url", metavar="URL", help="--via rest: URL of Airflow's API (default: its own setting)"),
    Argument(
        "--api-connection",
        metavar="ID",
        help="--via rest: Airflow connection with login and password, or with a token as its password (default: the "
        "variables XCARGO_API_TOKEN, or XCARGO_API_USERNAME and XCARGO_API_PASSWORD)",
    ),
)
"""Where rows are read, see `open_source`."""
WHERE = (
    Argument("--dag", metavar="ID", help="only XComs of this Dag; * matches anything, here and below"),
    Argument("--run", metavar="ID", help="only XComs of this run"),
    Argument("--task", metavar="ID", help="only XComs of this task"),
    Argument("--key", metavar="KEY", help="only XComs with this key"),
    Argument("--map-index", type=int, metavar="N", help="only XComs of this mapped task instance"),
    Argument("--asset", metavar="NAME", help="only keys of the state of this asset"),
)
"""Which rows to work on, see `where_of`."""
ONE = (
    Argument("dag", help="the Dag's id; with --asset the key, and nothing after it"),
    Argument("run", nargs="?", help="the run's id"),
    Argument("task", nargs="?", help="the task's id"),
    Argument("key", nargs="?", default="return_value", help="the XCom key (default: return_value)"),
    Argument("--map-index", type=int, metavar="N", help="only this mapped task instance (default: all)"),
    Argument("--state", action="store_true", help="a key of the task's state store instead of an XCom"),
    Argument("--asset", metavar="NAME", help="a key of the state of this asset instead of an XCom"),
)
"""Which XCom, or key of the state store, see `named`."""


def airflow() -> tuple[Any, str]:
    """Airflow's configuration and version. Raises ConfigurationError where there is no Airflow."""
    try:
        import airflow
    except ModuleNotFoundError as error:
        if error.name != "airflow":
            raise
        raise ConfigurationError(
            "Airflow is not installed here",
            hint="Run the command in the environment of a scheduler or worker.",
        ) from None
    from airflow.configuration import conf

    return conf, airflow.__version__


def load_edge() -> None:
    """Make ``xcargo.airflow`` ready to import from, whatever else this process loaded before."""
    airflow()
    load_backend()
    from xcargo.airflow import compat

    compat.use_metadata_database()


def read_settings() -> Settings:
    """Settings as a task of this deployment has them. Raises ConfigurationError, also where Airflow is missing."""
    conf, _ = airflow()
    load_backend()
    from xcargo.airflow import config

    return config.read_settings(conf)


def get_connection(connection_id: str) -> Any:
    """An Airflow connection, from wherever this process may have it. Raises ConfigurationError if it is not defined."""
    load_edge()
    from xcargo.airflow import compat

    return compat.get_connection(connection_id)


def open_root(root: Root, limits: Limits | None = None) -> Store:
    """The store of a root with the credentials of its Airflow connection. Makes no request to the store."""
    from xcargo.airflow.connections import access_of
    from xcargo.stores import open_store
    from xcargo.stores.base import Limits

    if limits is None:
        settings = read_settings()
        limits = Limits.from_settings(settings, max_concurrency=settings.max_concurrency)
    return open_store(root, access_of(root, get_connection), limits)


# --- what options choose ---------------------------------------------------------------------------------------------


def roots_of(args: argparse.Namespace) -> tuple[Root, ...]:
    """The roots that `PATH` chooses. Raises SweepRefusedError for one that is not configured."""
    from xcargo.model.root import Root

    settings = read_settings()
    if not settings.roots:
        raise ConfigurationError(
            f"There is nothing to sweep: {settings.no_root_reason}", hint="Set AIRFLOW__XCARGO__PATH."
        )
    if not args.path:
        return settings.roots
    path = Root.parse(args.path)
    roots = tuple(root for root in settings.roots if root.uri() == path.uri())
    if not roots:
        raise SweepRefusedError(
            "This root is none of this deployment, so its objects may be somebody else's",
            where=path,
            hint=f"Configured: {', '.join(map(str, settings.roots))}. Add a former one to [xcargo] read_paths.",
        )
    return roots


def prefixes_of(args: argparse.Namespace) -> tuple[str, ...]:
    """The prefixes that `DAGS` and `PREFIXES` choose, none for all."""
    from xcargo.model.coordinate import spellings

    of_dags = chain.from_iterable(map(spellings, args.dag))
    return tuple(dict.fromkeys([*of_dags, *(prefix.strip("/") for prefix in args.prefix)]))


def where_of(args: argparse.Namespace) -> XComFilter:
    """The rows that `WHERE` chooses. Raises ConfigurationError for an asset's in an inventory."""
    from xcargo.lifecycle.references import XComFilter

    if args.asset is not None and getattr(args, "inventory", None):
        raise ConfigurationError("--inventory does not go together with --asset", hint="Omit one of them.")
    return XComFilter(args.dag, args.run, args.task, args.key, args.map_index, asset=args.asset)


def named(args: argparse.Namespace) -> XComFilter:
    """The row, or those of the instances of a mapped task, that `ONE` names."""
    from xcargo.lifecycle.references import XComFilter

    if args.asset is not None and args.run is None:
        return XComFilter(key=args.dag, asset=args.asset)
    if args.asset is not None or args.task is None:
        raise ConfigurationError("Name a Dag, a run and a task; or with --asset NAME a key of its state, and no more")
    return XComFilter(args.dag, args.run, args.task, args.key, args.map_index, state=args.state)


def open_source(args: argparse.Namespace) -> ReferenceSource:
    """The rows of this deployment, in the metadata database or behind the REST API, as `SOURCE` chooses.

    Raises ConfigurationError if those of the state store are asked for behind the REST API.
    """
    load_edge()
    if args.via == "database":
        from xcargo.airflow.references.database import DatabaseReferences

        return DatabaseReferences()
    if getattr(args, "asset", None) is not None or getattr(args, "state", False):
        raise ConfigurationError("Rows of the state store are not read through the REST API", hint="Omit --via rest.")
    from xcargo.airflow.references.rest import open_rest

    connection = get_connection(args.api_connection) if args.api_connection else None
    return open_rest(
        airflow()[0], api_url=args.api_url, connection=connection, all_dags=getattr(args, "all_dags", False)
    )
