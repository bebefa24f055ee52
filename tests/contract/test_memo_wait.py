"""Runs that compute the same at once: the second waits for the first, but not for one that was killed.

On one Airflow of each generation: which task waits for which is written in the store, and test_memo.py shows on each
that a task claims what it computes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from airflow import __version__ as airflow_version

from .conftest import DAG_RUN_LIMIT_SECONDS, HERE

pytestmark = pytest.mark.skipif(
    not airflow_version.startswith(("2.11.", "3.3.")), reason="waiting is the same on every Airflow"
)

DAG_FILE = HERE / "memo_stores" / "dags" / "contract_memo_wait.py"


class Run:
    """A run in a process of its own."""

    def __init__(self, log: Path, *arguments: str) -> None:
        self._log = log
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, str(DAG_FILE), *arguments],
                env=os.environ | {"AIRFLOW__CORE__DAGS_FOLDER": str(DAG_FILE.parent)},
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    def log(self) -> str:
        return self._log.read_text()

    def wait_for(self, text: str) -> None:
        ends = time.monotonic() + DAG_RUN_LIMIT_SECONDS
        while text not in self.log():
            assert self.process.poll() is None or text in self.log(), self.log()[-10_000:]
            assert time.monotonic() < ends, self.log()[-10_000:]
            time.sleep(0.1)


@contextmanager
def runs() -> Iterator[list[Run]]:
    """A list for those that are to be ended."""
    started: list[Run] = []
    try:
        yield started
    finally:
        for run in started:
            run.process.kill()
            run.process.wait()


def test_the_second_run_takes_what_the_first_computes(database: Path, tmp_path: Path) -> None:
    """It computes nothing, however long that takes."""
    file = tmp_path / "go on"
    with runs() as started:
        started.append(first := Run(tmp_path / "first.log", "finished", "3600", str(file)))
        first.wait_for("RUNS slow")
        started.append(second := Run(tmp_path / "second.log", "finished", "3600", str(file)))
        second.wait_for("xcargo waits up to")
        file.touch()
        first.wait_for("ENDS success")
        second.wait_for("ENDS success")
        assert "xcargo reused the result" in second.log()
        assert "RUNS slow" not in second.log()


def test_nobody_waits_longer_than_allowed_for_a_run_that_was_killed(database: Path, tmp_path: Path) -> None:
    """The second run computes by itself."""
    file = tmp_path / "go on"
    with runs() as started:
        started.append(first := Run(tmp_path / "first.log", "killed", "5", str(file)))
        first.wait_for("RUNS slow")
        first.process.kill()
        file.touch()
        started.append(second := Run(tmp_path / "second.log", "killed", "5", str(file)))
        second.wait_for("ENDS success")
        assert "RUNS slow" in second.log()
