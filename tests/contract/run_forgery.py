"""Run the Dags of the forgery tests in this process, with a signing key and without; what came of it goes to the file.

In one process, since each builds an API server for its tasks, in ten seconds of work.
"""

from __future__ import annotations

import base64
import json
import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from contract_forgery_dags import DAGS, HOME, rows_of

from xcargo.airflow import runtime

KEY = "AIRFLOW__XCARGO__SIGNING_KEY"


def attack() -> dict[str, Any]:
    """Both Dags once, with the settings as they are now and no row of an earlier run."""
    runtime.settings.cache_clear()
    runtime.pipeline.cache_clear()
    forget()
    states = {}
    os.environ.pop("VICTIM_RUN_ID", None)
    for dag in DAGS:
        run = dag.test()
        os.environ.setdefault("VICTIM_RUN_ID", run.run_id)
        states[dag.dag_id] = str(getattr(run.state, "value", run.state))
    reports = {path.stem.partition("_")[2]: json.loads(path.read_text()) for path in HOME.glob("forgery_*.json")}
    return {**reports, "states": states, "victims_row": rows_of("contract_victim")["return_value"]}


def forget() -> None:
    """Delete the rows of both Dags, and of no other."""
    of_both = "dag_id IN ('contract_victim', 'contract_attacker')"
    with closing(sqlite3.connect(HOME / "airflow.db")) as connection, connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        if "xcom_v2" in tables:
            by_task = f"SELECT id FROM task_instance WHERE {of_both}"
            connection.execute(f"DELETE FROM xcom_v2 WHERE task_instance_id IN ({by_task})")
        else:
            connection.execute(f"DELETE FROM xcom WHERE {of_both}")


found = {}
for kind, key in (("signed", base64.b64encode(os.urandom(32)).decode()), ("unsigned", None)):
    os.environ.pop(KEY, None)
    os.environ |= {KEY: key} if key else {}
    found[kind] = attack()
Path(sys.argv[1]).write_text(json.dumps(found))
