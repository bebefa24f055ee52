"""What refers to stored objects, read from the metadata database or through Airflow's REST API."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from xcargo.airflow.references.database import DatabaseReferences
from xcargo.airflow.references.rest import RestReferences
from xcargo.errors import ConfigurationError
from xcargo.lifecycle.references import ReferenceSource

__all__ = ["WAYS", "DatabaseReferences", "RestReferences", "open_source"]

WAYS = ("database", "rest")


def open_source(
    via: str,
    conf: Any,
    *,
    api_url: str | None = None,
    connection: Callable[[], Any] | None = None,
    all_dags: bool = False,
) -> ReferenceSource:
    """The source of live references. Raises ConfigurationError when what it takes is not there.

    ``rest`` asks the API at ``api_url``, else at the host of the connection, else at the URL that Airflow's own
    settings name. It signs in with the connection's login and password, or with its password alone as a token; without
    a connection with ``XCARGO_API_TOKEN``, or ``XCARGO_API_USERNAME`` and ``XCARGO_API_PASSWORD``. ``all_dags`` says
    that this user may read every Dag: then a Dag that the API does not show is one that is not there.
    """
    if via == "database":
        return DatabaseReferences()
    found = connection() if connection is not None else None
    url = api_url or _url_of(found) or _own_url(conf)
    if not url:
        raise ConfigurationError(
            "It is not known where the REST API answers",
            hint="Give its URL, for example https://airflow.example.org, or a connection with that as its host.",
        )
    if found is not None:
        login, password = found.login or None, found.password or None
        signing = {"username": login, "password": password} if login else {"token": password}
    else:
        signing = {name: os.environ.get(f"XCARGO_API_{name.upper()}") for name in ("token", "username", "password")}
    source = RestReferences(url, **signing)
    if all_dags:
        source.hides_dags = False
    return source


def _url_of(connection: Any) -> str | None:
    """The URL that a connection names: wholly in its host, or in parts as Airflow's HTTP connections do."""
    host = getattr(connection, "host", None)
    if not host:
        return None
    if "://" in host:
        return str(host)
    port = f":{connection.port}" if connection.port else ""
    return f"{connection.schema or 'https'}://{host}{port}"


def _own_url(conf: Any) -> str | None:
    found = conf.get("api", "base_url", fallback=None) or conf.get("webserver", "base_url", fallback=None)
    return str(found).rstrip("/") if found and "://" in str(found) else None
