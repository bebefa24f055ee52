"""What refers to stored objects, read from the metadata database or through Airflow's REST API."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from xcargo.errors import ConfigurationError

if TYPE_CHECKING:
    from xcargo.lifecycle.references import ReferenceSource

__all__ = ["open_source"]


def open_source(
    via: str, conf: Any, *, api_url: str | None = None, connection: Any = None, all_dags: bool = False
) -> ReferenceSource:
    """The source of live references.

    The REST API is asked at ``api_url``, else at the host of the connection, else at the URL in Airflow's own settings.
    It is signed in with the connection's login and password, or its password alone as a token; without a connection
    with ``XCARGO_API_TOKEN``, or ``XCARGO_API_USERNAME`` and ``XCARGO_API_PASSWORD``.

    Args:
        via: ``database`` or ``rest``.
        conf: Airflow's configuration.
        api_url: Where Airflow answers.
        connection: An Airflow connection.
        all_dags: This user may read every Dag, so one that the API does not show does not exist.

    Raises:
        ConfigurationError: There is no access to the database, or no URL.
    """
    if via == "database":
        from xcargo.airflow.references.database import DatabaseReferences

        return DatabaseReferences()
    from xcargo.airflow.references.rest import RestApi, RestReferences

    url = api_url or _url_of(connection) or _own_url(conf)
    if not url:
        raise ConfigurationError(
            "It is not known where the REST API answers",
            hint="Give its URL, for example https://airflow.example.org, or a connection with that as its host.",
        )
    signing: dict[str, Any]
    if connection is None:
        signing = {name: os.environ.get(f"XCARGO_API_{name.upper()}") for name in ("token", "username", "password")}
    elif connection.login:
        signing = {"username": connection.login, "password": connection.password}
    else:
        signing = {"token": connection.password}
    return RestReferences(RestApi(url, **signing), hides_dags=not all_dags)


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
    url = conf.get("api", "base_url", fallback=None) or conf.get("webserver", "base_url", fallback=None)
    return str(url).rstrip("/") if url and "://" in str(url) else None
