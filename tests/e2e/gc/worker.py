"""Pushes, overwrites and deletes XComs for some seconds, as tasks and users do. Prints how often it did what."""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.metadata import Metadata
from tests.unit.conftest import make_pipeline
from xcargo.model.coordinate import Coordinate

MIB = 1024 * 1024


def main(dag: str, seconds: float, *, url: str, database: str, connection: Any, large: bool) -> Counter[str]:
    """A worker with a Dag of its own."""
    metadata, rng = Metadata(database, Path()), random.Random(dag)
    pipeline = make_pipeline(url, connection=connection, threshold_bytes=0, compression="none", part_bytes=5 * MIB)
    done: Counter[str] = Counter()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        at = Coordinate(dag, f"run {rng.randrange(8)}", f"task{rng.randrange(4)}", "return_value")
        where = {"dag_id": at.dag_id, "run_id": at.run_id}
        act = rng.choices(["push", "push large", "crash", "delete row", "delete run"], [20, large, 3, 3, 1])[0]
        done[act] += 1
        if act == "delete row":
            of_task = "DELETE FROM xcom WHERE dag_id = :dag_id AND run_id = :run_id AND task_id = :task_id"
            metadata.execute(of_task, **where, task_id=at.task_id)
        elif act == "delete run":
            metadata.execute("DELETE FROM dag_run WHERE dag_id = :dag_id AND run_id = :run_id", **where)
        else:
            row = pipeline.push(rng.randbytes(25 * MIB if act == "push large" else 2000), at)
            if act != "crash":
                time.sleep(rng.random() / 2)
                metadata.push(row, **where, task_id=at.task_id, key=at.key)
    return done


if __name__ == "__main__":
    dag, seconds, about = sys.argv[1:]
    print(json.dumps(main(dag, float(seconds), **json.loads(about))))
