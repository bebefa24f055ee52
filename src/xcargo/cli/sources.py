"""What commands over stored values have in common: which XComs are meant, and where their rows are read."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from xcargo.cli.command import Argument
from xcargo.cli.sweeping import API_CONNECTION, API_URL, VIA

if TYPE_CHECKING:
    from xcargo.lifecycle.references import ReferenceSource, XComFilter

__all__ = ["SOURCE", "WHERE", "open_source", "where_of"]

SOURCE = (VIA, API_URL, API_CONNECTION)

WHERE = (
    Argument("--dag", metavar="ID", help="only XComs of this Dag; * stands for anything, here and below"),
    Argument("--run", metavar="ID", help="only of this run"),
    Argument("--task", metavar="ID", help="only of this task"),
    Argument("--key", metavar="KEY", help="only with this XCom key"),
    Argument("--map-index", type=int, metavar="N", help="only of this mapped task instance"),
)


def where_of(args: argparse.Namespace) -> XComFilter:
    """The XComs that the arguments mean."""
    from xcargo.lifecycle.references import XComFilter

    return XComFilter(args.dag, args.run, args.task, args.key, args.map_index)


def open_source(args: argparse.Namespace) -> ReferenceSource:
    """The metadata database of this deployment, or the REST API that the arguments name."""
    from xcargo.cli.deployment import airflow, get_connection, load_edge

    load_edge()
    from xcargo.airflow import references

    connection = get_connection(args.api_connection) if args.api_connection and args.via == "rest" else None
    return references.open_source(args.via, airflow()[0], api_url=args.api_url, connection=connection)
