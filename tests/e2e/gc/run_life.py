"""Run each Dag on some days in this process, on the database of the environment. Writes the run ids as JSON."""

from __future__ import annotations

import json
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from gc_life import DAGS

told, *days = sys.argv[1:]
made = []
for day in map(int, days):
    for dag in DAGS:
        run = dag.test(logical_date=datetime(2025, 1, 1, tzinfo=timezone.utc) + timedelta(days=day))
        assert run.state == "success", run
        made.append([dag.dag_id, run.run_id])
Path(told).write_text(json.dumps(made))
