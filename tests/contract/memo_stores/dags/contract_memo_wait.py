"""A task that waits for another run which computes the same. As a program it runs the Dag.

Its arguments are what is computed, for how long others wait for it, and a file: it is computed once there is that file.
"""

from __future__ import annotations

import os
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

import xcargo

try:
    from airflow.sdk import DAG, task
except ImportError:
    from airflow import DAG
    from airflow.decorators import task

if __name__ == "__main__":
    os.environ |= dict(zip(("CONTRACT_WHAT", "CONTRACT_WAIT", "CONTRACT_FILE"), sys.argv[1:]))

with DAG("contract_memo_wait", start_date=datetime(2026, 1, 1), schedule=None, catchup=False) as dag:

    @task
    @xcargo.memoize(wait=timedelta(seconds=float(os.environ.get("CONTRACT_WAIT", "1"))))
    def slow(what: str) -> str:
        print("RUNS slow", flush=True)
        while not Path(os.environ["CONTRACT_FILE"]).exists():
            time.sleep(0.1)
        return what * 500

    @task
    def check(text: str, what: str) -> None:
        assert text == what * 500

    what = os.environ.get("CONTRACT_WHAT", "")
    check(slow(what), what)

if __name__ == "__main__":
    run = dag.test()
    print(f"ENDS {getattr(run.state, 'value', run.state)}", flush=True)
