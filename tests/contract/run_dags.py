"""Run the contract Dags (or those named) in this process and write what became of them, as JSON, to the file given."""

from __future__ import annotations

import functools
import json
import os
import sys
from pathlib import Path

import airflow
from contract_dags import DAGS
from contract_explorer_dags import DAGS as EXPLORER_DAGS
from contract_kinds_dag import DAG as KINDS_DAG
from contract_sql_dags import DAGS as SQL_DAGS
from contract_stream_dags import DAGS as STREAM_DAGS

if not airflow.__version__.startswith("2."):
    from airflow.sdk.execution_time import supervisor

    # One API server for all tasks, as a deployment has: Airflow builds one for each task, in seconds of work up to 3.2.
    supervisor.in_process_api_server = functools.cache(supervisor.in_process_api_server)

reachable = [dag for dag in SQL_DAGS if f"AIRFLOW_CONN_{dag.dag_id.upper()}" in os.environ]
runs = {}
for dag in (*DAGS, KINDS_DAG, *STREAM_DAGS, *reachable, *EXPLORER_DAGS):
    if sys.argv[2:] and dag.dag_id not in sys.argv[2:]:
        continue
    run = dag.test()
    runs[dag.dag_id] = {"run_id": run.run_id, "state": str(getattr(run.state, "value", run.state))}
Path(sys.argv[1]).write_text(json.dumps(runs))
