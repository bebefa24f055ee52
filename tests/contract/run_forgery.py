"""Run the Dags of the forgery tests in this process."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from contract_forgery_dags import DAGS

states = {}
for dag in DAGS:
    run = dag.test()
    os.environ["VICTIM_RUN_ID"] = os.environ.get("VICTIM_RUN_ID", run.run_id)
    states[dag.dag_id] = str(getattr(run.state, "value", run.state))
Path(sys.argv[1]).write_text(json.dumps(states))
