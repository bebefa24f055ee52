"""Airflow connection -> access to a store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any

from xcargo.airflow.connections.base import ConnectionFields
from xcargo.model.root import Root
from xcargo.stores.base import Access, Uploads

__all__ = ["access_of"]

_CLOUDS = {"s3": "aws", "gs": "google", "az": "azure"}


def access_of(root: Root, get_connection: Callable[[str], Any]) -> Access:
    """How to reach ``root``: as its Airflow connection says, or by the default credentials when it names none.

    What a connection says counts before the environment; credentials of the two are never mixed. Static credentials
    need no package of a cloud or provider and make no request; a role, a profile or an impersonation goes through the
    official hook, and may ask the cloud's token service right away.

    Args:
        root: Where objects are stored.
        get_connection: Gives an Airflow connection by its id; called once, and only if the root names one.

    Raises:
        ConfigurationError: A field cannot be used; it names connection and field, never a value.
        MissingDependencyError: With the ``pip install`` command.
        AccessDeniedError: The token service refuses.
    """
    if root.scheme in ("file", "memory"):
        return Access()
    connection = get_connection(root.connection_id) if root.connection_id else None
    cloud = import_module(f"xcargo.airflow.connections.{_CLOUDS.get(root.scheme, 'fsspec')}")
    access: Access = cloud.access(ConnectionFields.of(root, connection))
    return replace(access, uploads=partial(_uploads, root, access)) if root.scheme in ("s3", "gs") else access


def _uploads(root: Root, access: Access, timeout_seconds: float) -> Uploads:
    from xcargo.airflow.connections.uploads import open_uploads  # only sweeps need it

    return open_uploads(root, access, timeout_seconds=timeout_seconds)
