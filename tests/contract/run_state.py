"""Run one of the Dags that keep state in this process, by the backend that the environment names."""

from __future__ import annotations

import sys

from contract_state_dag import DAG, OLD_DAG

run = {"old": OLD_DAG, "new": DAG}[sys.argv[1]].test()
assert str(getattr(run.state, "value", run.state)) == "success", run.state
print("RUN", run.run_id)
