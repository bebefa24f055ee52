"""An auth manager that refuses some users some rights of a viewer, as those of deployments do."""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

REFUSED = {"no_xcoms": {"XCOM"}, "no_state": {"TASK_INSTANCE", "asset"}}


class PickyAuthManager(SimpleAuthManager):  # type: ignore[misc]
    """Users are Airflow's simple ones."""

    def is_authorized_dag(self, *, user: Any, access_entity: Any = None, **asked: Any) -> bool:
        refused = access_entity is not None and access_entity.name in REFUSED.get(user.username, ())
        return not refused and super().is_authorized_dag(user=user, access_entity=access_entity, **asked)

    def is_authorized_asset(self, *, user: Any, **asked: Any) -> bool:
        return "asset" not in REFUSED.get(user.username, ()) and super().is_authorized_asset(user=user, **asked)
