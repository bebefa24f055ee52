"""A Dag of the team sales that would like to have the value of hr, with hr's row copied in the database."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from airflow.sdk import dag, get_current_context, task


def _outcome(pull: Callable[..., Any], **query: Any) -> str:
    try:
        return f"value: {pull(**query)}"[:200]
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:200]


@dag(schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc))
def sales() -> None:
    @task
    def mine() -> None:
        for key in ("own", "copied", "placed"):
            get_current_context()["ti"].xcom_push(key=key, value=["what sales sold"] * 500)

    @task
    def forge() -> None:
        with sqlite3.connect(os.environ["TEAMS_DATABASE"], timeout=60) as connection:
            query = "SELECT value FROM xcom WHERE dag_id = ? AND key = ?"
            theirs = json.loads(connection.execute(query, ("hr", "return_value")).fetchall()[0][0])
            own = json.loads(connection.execute(query, ("sales", "own")).fetchone()[0])
            # As if hr's root held an object of this very Dag, so that nothing but the team stands in the way.
            placed = own | {"uri": own["uri"].replace("/sales_team_objects/", "/hr_team_objects/")}
            assert placed["uri"] != own["uri"]
            for key, row in (("copied", theirs), ("placed", placed)):
                update = "UPDATE xcom SET value = ? WHERE dag_id = 'sales' AND key = ?"
                assert connection.execute(update, (json.dumps(row), key)).rowcount == 1

    @task
    def pull() -> None:
        ti = get_current_context()["ti"]
        found = {key: _outcome(ti.xcom_pull, task_ids="mine", key=key) for key in ("own", "copied", "placed")}
        theirs = {"dag_id": "hr", "task_ids": "salaries", "run_id": get_current_context()["run_id"]}
        found |= {"asked for": _outcome(ti.xcom_pull, **theirs), "team": os.environ["AIRFLOW_CTX_TEAM_NAME"]}
        Path(os.environ["TEAMS_REPORT"]).write_text(json.dumps(found))

    mine() >> forge() >> pull()


sales()
