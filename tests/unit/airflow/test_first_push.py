"""What the first push of a task must not cost: counted, in a fresh process that has imported Airflow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FIRST_PUSH = """
import gc, json, sys
from airflow.sdk.execution_time.xcom import XCom

def collections():
    return [generation["collections"] for generation in gc.get_stats()]

before, loaded = collections(), set(sys.modules)
row = XCom.serialize_value({"k": "x" * 5000}, key="k", dag_id="d", run_id="r", task_id="t", map_index=-1)
after = collections()
print("FIRST", json.dumps({
    "collections": [b - a for a, b in zip(before, after)],
    "modules": sorted(name for name in set(sys.modules) - loaded if name.startswith("xcargo")),
    "uri": row["uri"],
    "enabled": gc.isenabled(),
}))
"""


def test_the_first_push_sets_off_no_collection_and_loads_nothing_of_ours(tmp_path: Path) -> None:
    """A collection would copy every page of the heap that a task inherits; our modules come from before the fork."""
    environ = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__XCOM_BACKEND": "xcargo.XComBackend",
        "AIRFLOW__XCARGO__PATH": (tmp_path / "objects").as_uri(),
    }
    done = subprocess.run([sys.executable, "-c", FIRST_PUSH], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("FIRST ")]
    told = json.loads(line.partition(" ")[2])
    assert told["uri"].startswith("file://")
    assert told["collections"] == [0, 0, 0]
    assert told["modules"] == []
    assert told["enabled"] is True


FULL_COLLECTION = """
import gc, json, os
import airflow.sdk.execution_time.task_runner
from airflow.sdk.execution_time.xcom import XCom

def copied_bytes():
    with open("/proc/self/smaps_rollup") as lines:
        return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Private_Dirty"))

if os.fork() == 0:
    before, tracked = copied_bytes(), len(gc.get_objects())
    cycle = []
    cycle.append(cycle)
    del cycle
    found = gc.collect()
    print("FULL", json.dumps({"tracked": tracked, "found": found, "bytes": copied_bytes() - before}), flush=True)
    os._exit(0)
os.wait()
"""


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="only Linux tells what was copied")
def test_a_full_collection_in_a_task_does_not_copy_what_it_inherited(tmp_path: Path) -> None:
    """Only what the task made itself is looked at, and garbage of its own is found."""
    environ = {**os.environ, "AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__XCOM_BACKEND": "xcargo.XComBackend"}
    done = subprocess.run(
        [sys.executable, "-c", FULL_COLLECTION], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("FULL ")]
    told = json.loads(line.partition(" ")[2])
    assert told["tracked"] < 1_000
    assert told["found"] == 1
    assert told["bytes"] < 10_000_000
