"""Load a file of a Dag as a task's process does, and run one of its tasks: what it returns or takes goes by the hooks.

    run_own_classes.py FOLDER FILE give|take ROW

``FOLDER`` is the root of the bundle (the dags folder on Airflow 2), ``ROW`` the file that holds the row.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from generation import AIRFLOW_2, HOOKS

folder, file, task_id, row = Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4])


def load() -> Any:
    """The Dag of the file."""
    try:
        from airflow.dag_processing.dagbag import BundleDagBag  # 3.2 on
    except ImportError:
        from airflow.models import dagbag

        BundleDagBag = getattr(dagbag, "BundleDagBag", None)  # 3.1
    if BundleDagBag is not None:
        bag = BundleDagBag(dag_folder=str(folder / file), bundle_path=folder)
    else:
        if not AIRFLOW_2:
            sys.path.append(str(folder))  # as the process of a task does by itself on 3.0
        bag = dagbag.DagBag(str(folder / file), include_examples=False)
    (dag,) = bag.dags.values()
    return dag


hooks, run = HOOKS[-1], load().get_task(task_id).python_callable
if task_id == "give":
    stored = hooks.push(run(), "return_value")
    row.write_bytes(stored if AIRFLOW_2 else json.dumps(stored).encode())
else:
    run(hooks.pull(row.read_bytes() if AIRFLOW_2 else json.loads(row.read_bytes())))
