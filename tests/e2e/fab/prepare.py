"""With the environment's Airflow: its database, two Dags and a run, and users of FAB with and without rights."""

from __future__ import annotations

import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

PASSWORD = "secret"
ROLES: dict[str, list[tuple[str, str]]] = {
    # what Airflow's own Viewer may, but for the XComs
    "Blind": [("can_read", "DAGs"), ("can_read", "DAG Runs"), ("can_read", "Task Instances"), ("can_read", "Website")],
    # the XComs of one Dag
    "Sales": [("can_read", "DAG:sales"), ("can_read", "XComs"), ("can_read", "Website")],
}
USERS = {"viewer": "Viewer", "blind": "Blind", "sales": "Sales"}


def dags() -> list[Any]:
    from airflow.sdk import dag, task

    def made(name: str) -> Any:
        @dag(dag_id=name, schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc))
        def each() -> None:
            @task(multiple_outputs=False)
            def answer() -> dict[str, str]:
                return {"whose": name, "text": f"Only for who may read {name}. " * 100}

            answer()

        return each()

    return [made("sales"), made("hr")]


def users() -> None:
    from airflow.providers.fab.www.app import create_app

    app = create_app(enable_plugins=False)
    with app.app_context():
        manager = app.appbuilder.sm
        manager.sync_roles()
        for dag_id in ("sales", "hr"):
            manager.sync_perm_for_dag(dag_id)
        manager.bulk_sync_roles([{"role": name, "perms": perms} for name, perms in ROLES.items()])
        for name, role in USERS.items():
            assert manager.add_user(name, name, name, f"{name}@example.org", manager.find_role(role), PASSWORD)


def main(told: str) -> None:
    from airflow.utils.db import upgradedb

    upgradedb()
    users()
    run = DAGS[0].test(logical_date=datetime(2026, 1, 2, tzinfo=timezone.utc))
    assert run.state == "success", run
    Path(told).write_text(run.run_id)


DAGS = dags()

if __name__ == "__main__":
    main(sys.argv[1])
