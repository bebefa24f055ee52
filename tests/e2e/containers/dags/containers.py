"""The Dag of docs/containers.md, once for each store: a Node program and curl put and get values by plain HTTP."""

from __future__ import annotations

import os
from datetime import datetime
from typing import Any

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import dag, task

import xcargo

UPLOAD = {"UPLOAD_URL": "{{ macros.xcargo.upload_url() }}"}


def make(store: str) -> Any:
    """The Dag whose values are in this store."""

    @dag(f"containers_{store}", schedule=None, start_date=datetime(2026, 1, 1), catchup=False)
    def containers() -> None:
        @task
        def extract() -> list[dict[str, int]]:
            return [{"n": n} for n in range(1000)]

        double = BashOperator(
            task_id="double",
            bash_command=os.environ["NODE"] + " " + os.environ["DOUBLE"],
            append_env=True,
            env={"INPUT_URL": "{{ macros.xcargo.download_url('extract') }}", **UPLOAD},
            post_execute=xcargo.collector("doubled.json"),
        )
        numbers = BashOperator(
            task_id="numbers",
            bash_command="seq 100000 > numbers && "
            "curl -fsS -T numbers -H 'x-ms-blob-type: BlockBlob' \"$UPLOAD_URL\" && "
            # a mistake that users make: the log is not to show the URL
            'echo "$UPLOAD_URL"',
            append_env=True,
            env=UPLOAD,
            post_execute=xcargo.collector("numbers.txt"),
        )

        @task
        def check(doubled: Any, numbers: xcargo.File) -> int:
            assert doubled == [{"n": 2 * n} for n in range(1000)]
            with numbers.open() as lines:
                return sum(map(int, lines))

        extract() >> double
        check(double.output, numbers.output)

    return containers()


for store in ("s3", "gcs", "azure"):
    make(store)
