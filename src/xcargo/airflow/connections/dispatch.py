"""Root -> the module that reads its kind of connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xcargo.airflow.connections import aws, azure, fsspec, google
from xcargo.airflow.connections.fields import Fields
from xcargo.model.root import Root
from xcargo.stores.base import Access

__all__ = ["access_of"]


def access_of(root: Root, get_connection: Callable[[str], Any]) -> Access:
    """How ``root`` is reached, as its Airflow connection says, or by the default credentials when it names none.

    ``get_connection`` gives an Airflow connection by id; it is called once, or not at all for a root without one.
    What a connection says counts before the environment; credentials of the two are never mixed. Static credentials
    need no package of a cloud or provider and make no request; a role, a profile or an impersonation goes through the
    official hook, and may ask the cloud's token service right away.

    Raises ConfigurationError naming connection and field for what cannot be used, MissingDependencyError with the
    ``pip install`` command, AccessDeniedError when the token service refuses. No message holds a value of a secret.
    """
    if root.scheme in ("file", "memory"):
        return Access()
    connection = get_connection(root.connection_id) if root.connection_id else None
    fields = Fields.of(root, connection)
    if root.scheme == "s3":
        return aws.access(fields)
    if root.scheme == "gs":
        return google.access(fields)
    if root.scheme == "az":
        return azure.access(fields)
    return fsspec.access(fields)
