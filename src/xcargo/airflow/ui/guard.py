"""Who may see what: Airflow's own answer, asked at every request, and no page where it cannot be asked.

Airflow does not declare these functions a public interface. An Airflow that has moved them has no explorer (the
application cannot be built), never one without rights.
"""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import get_user, requires_access_dag
from airflow.models.dag import DagModel
from fastapi import Request

from xcargo.errors import DecodeError

__all__ = ["allowed", "current_user", "readable_dags", "well_formed"]

allowed = requires_access_dag("GET", DagAccessEntity.XCOM)
"""Dependency of each route of a Dag: 401 for nobody, 403 for someone who may not read the Dag's XComs."""

current_user = get_user
"""Dependency that gives the user, or answers 401."""


def well_formed(request: Request) -> None:
    """Dependency that refuses NUL characters, which no database takes. Raises DecodeError."""
    if any("\0" in text for text in request.query_params.values()):
        raise DecodeError("The address holds a NUL character")


def readable_dags(user: Any) -> list[str]:
    """The Dags whose XComs a user may read."""
    manager = get_auth_manager()
    dag_ids = sorted(manager.get_authorized_dag_ids(user=user, method="GET"))
    teams = DagModel.get_dag_id_to_team_name_mapping(dag_ids) if _has_teams() else {}
    return [
        dag_id
        for dag_id in dag_ids
        if manager.is_authorized_dag(
            method="GET",
            access_entity=DagAccessEntity.XCOM,
            details=DagDetails(id=dag_id, **({"team_name": teams.get(dag_id)} if _has_teams() else {})),
            user=user,
        )
    ]


def _has_teams() -> bool:
    """Airflow 3.2 and later know teams."""
    return hasattr(DagModel, "get_dag_id_to_team_name_mapping")
