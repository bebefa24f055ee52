"""What commands need of the deployment they run in: its settings and stores. Airflow is imported here, at first use."""

from __future__ import annotations

from typing import Any

import xcargo
from xcargo.errors import ConfigurationError
from xcargo.model.root import Root
from xcargo.model.settings import Settings
from xcargo.stores.base import Limits, Store

__all__ = ["airflow", "get_connection", "load_edge", "open_root", "read_settings"]


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
    xcargo.XComBackend  # noqa: B018 - on Airflow 2 the backend has to be loaded before anything else of the edge
    from xcargo.airflow import compat

    compat.use_metadata_database()


def read_settings() -> Settings:
    """Settings as a task of this deployment has them. Raises ConfigurationError, also where Airflow is missing."""
    from xcargo.airflow import config

    return config.read_settings(airflow()[0])


def get_connection(connection_id: str) -> Any:
    """An Airflow connection, from wherever this process may have it. Raises ConfigurationError if it is not defined."""
    load_edge()
    from xcargo.airflow import compat

    return compat.get_connection(connection_id)


def open_root(root: Root, limits: Limits | None = None) -> Store:
    """The store of a root with the credentials of its Airflow connection. Makes no request to the store."""
    from xcargo.airflow.connections import access_of
    from xcargo.stores.pool import open_store

    if limits is None:
        settings = read_settings()
        limits = Limits.from_settings(settings, max_concurrency=settings.max_concurrency)
    return open_store(root, access_of(root, get_connection), limits)
