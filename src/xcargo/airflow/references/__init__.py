"""What refers to stored objects, read from the metadata database or through Airflow's REST API."""

from xcargo.airflow.references.database import DatabaseReferences
from xcargo.airflow.references.rest import RestReferences

__all__ = ["DatabaseReferences", "RestReferences"]
