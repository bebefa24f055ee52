"""Run the contract Dags (or those named) in this process, and write what became of them, as JSON, to the folder given.

In one process, since each that runs a Dag first builds an API server for itself, in ten seconds of work. Then it copies
the metadata database, and runs the Dags whose results are reused.
"""

from __future__ import annotations

import functools
import json
import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import airflow
from contract_dags import DAGS
from contract_explorer_dags import DAGS as EXPLORER_DAGS
from contract_kinds_dag import DAG as KINDS_DAG
from contract_sql_dags import DAGS as SQL_DAGS
from contract_stream_dags import DAGS as STREAM_DAGS

from tests.contract.run_memo import run_and_reuse

if not airflow.__version__.startswith("2."):
    from airflow.sdk.execution_time import supervisor

    # One API server for all tasks, as a deployment has: Airflow builds one for each task up to 3.2.
    supervisor.in_process_api_server = functools.cache(supervisor.in_process_api_server)

home = Path(sys.argv[1])
reachable = [dag for dag in SQL_DAGS if f"AIRFLOW_CONN_{dag.dag_id.upper()}" in os.environ]
runs = {}
for dag in (*DAGS, KINDS_DAG, *STREAM_DAGS, *reachable, *EXPLORER_DAGS):
    if sys.argv[2:] and dag.dag_id not in sys.argv[2:]:
        continue
    run = dag.test()
    runs[dag.dag_id] = {"run_id": run.run_id, "state": str(getattr(run.state, "value", run.state))}
(home / "runs.json").write_text(json.dumps(runs))
with closing(sqlite3.connect(home / "airflow.db")) as now, closing(sqlite3.connect(home / "then.db")) as then:
    now.backup(then)  # a copy of the file would lack what is in its journal
(home / "memo.json").write_text(json.dumps(run_and_reuse()))
