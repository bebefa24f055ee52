"""Run each Dag so many times in this process, on the database of the environment. Prints the run ids as JSON."""

from __future__ import annotations

import json
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from gc_life import life_a, life_b, life_c

first, number = map(int, sys.argv[1:3])
made = []
for n in range(first, first + number):
    for dag in (life_a, life_b, life_c):
        run = dag.test(logical_date=datetime(2025, 1, 1, tzinfo=timezone.utc) + timedelta(days=n))
        assert run.state == "success", run
        made.append([dag.dag_id, run.run_id])
Path(sys.argv[3]).write_text(json.dumps(made))
