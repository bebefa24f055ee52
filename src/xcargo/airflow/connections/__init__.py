"""Airflow connection -> access to a store."""

from xcargo.airflow.connections.dispatch import access_of

__all__ = ["access_of"]
