"""Run the contract Dags in this process and write what became of them, as JSON, to the file given."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from contract_dags import DAGS
from contract_stream_dags import DAGS as STREAM_DAGS

runs = {}
for dag in (*DAGS, *STREAM_DAGS):
    run = dag.test()
    runs[dag.dag_id] = {"run_id": run.run_id, "state": str(getattr(run.state, "value", run.state))}
Path(sys.argv[1]).write_text(json.dumps(runs))
