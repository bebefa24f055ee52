"""Rounds over trials: every round goes around all subjects, so that a slow minute of the machine hits all alike."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from benchmarks.peers.environments import PEERS, python_of, settings
from benchmarks.store import Store
from benchmarks.subjects import environment, zygote_of
from benchmarks.trial import Sample, Trial

__all__ = ["Runner"]

ROOT = Path(__file__).resolve().parent.parent
_AIRFLOW = (
    "airflow.sdk.execution_time.supervisor",
    "airflow.sdk.execution_time.task_runner",
    "airflow.sdk.execution_time.xcom",
    "benchmarks.scenarios",
)
"""What a process imports before it forks to measure a backend of Airflow's."""


class Runner:
    """Runs trials in processes of their own, over one store."""

    def __init__(self, store: Store, stack: ExitStack, tell: Callable[[str], None]) -> None:
        self.store = store
        self._stack = stack
        self._tell = tell
        self._home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="xcargo-bench-")))
        self._zygotes: dict[str, _Zygote] = {}

    def run(self, scenario: str, trials: Sequence[Trial], rounds: int) -> Iterator[Sample]:
        """Prepare each trial, then take the rounds. A trial that fails is noted once and left out from then on."""
        carried: dict[str, Any] = {}
        failed: dict[int, str] = {}
        started = time.monotonic()
        for number in range(rounds):
            for index, trial in enumerate(trials):
                if index in failed or number >= (trial.rounds or rounds):
                    continue
                what = f"{scenario}: {trial.case}, {trial.subject}, +{trial.latency_ms} ms"
                self._tell(f"[{time.monotonic() - started:4.0f} s] round {number + 1} of {rounds}: {what}")
                place = scenario, trial.case, trial.subject, trial.latency_ms, number
                try:
                    key = json.dumps([trial.subject, trial.prepare, dict(trial.arguments)])
                    if trial.prepare and key not in carried:
                        carried[key] = self._job(trial, trial.prepare, 0)
                    extra = {"carry": carried[key]} if trial.prepare else {}
                    yield Sample(*place, metrics=self._measured(trial, extra))
                except TrialError as error:
                    failed[index] = str(error)
                    yield Sample(*place, note=str(error))

    def _measured(self, trial: Trial, extra: dict[str, Any]) -> Any:
        if not trial.count:
            return self._job(trial, trial.measure, trial.latency_ms, extra)
        with self.store.counter(trial.latency_ms) as counter:
            metrics = self._job(trial, trial.measure, trial.latency_ms, extra, self.store.env(0, counter))
            counts = counter.counts()
            if readers := metrics.get("readers"):
                counts["reader_received_bytes"] = counts["received_bytes"] / readers
            return {**metrics, **counts}

    def _job(
        self,
        trial: Trial,
        function: str,
        latency_ms: int,
        extra: dict[str, Any] | None = None,
        way: dict[str, str] | None = None,
    ) -> Any:
        job = {
            "function": function,
            "arguments": {**trial.arguments, **(extra or {})},
            "env": {
                **(way or self.store.env(latency_ms)),
                "BENCHMARKS_RAW": json.dumps(self.store.raw(latency_ms)),
                **trial.env,
            },
        }
        backend = zygote_of(trial.subject)
        if trial.bare:
            answer = _bare(self._environment(backend), job)
        else:
            if backend not in self._zygotes:
                self._zygotes[backend] = self._stack.enter_context(closing(self._zygote(backend)))
            answer = self._zygotes[backend].ask(job)
        if "error" in answer:
            raise TrialError(answer["error"])
        return answer["result"]

    def _zygote(self, subject: str) -> _Zygote:
        if subject not in PEERS:
            return _Zygote(sys.executable, _AIRFLOW, self._environment(subject))
        environ = {**os.environ, **settings(self._home / subject)}
        return _Zygote(str(python_of(subject)), PEERS[subject].modules, environ)

    def _environment(self, subject: str) -> dict[str, str]:
        values = {**os.environ, **environment(subject, self.store.root, self._home)}
        values.pop("PYTHONDONTWRITEBYTECODE", None)
        return values


class TrialError(Exception):
    """A measuring function raised; the text says what."""


class _Zygote:
    """A process that has imported Airflow, or a peer, and forks a child for each job."""

    def __init__(self, python: str, modules: Sequence[str], environ: dict[str, str]) -> None:
        self._process = _start(python, ["--zygote", *modules], environ)
        self._answer()

    def ask(self, job: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                answer: dict[str, Any] = json.loads(line)
                return answer
        raise SystemExit("A measuring process ended; set BENCHMARKS_TRACE=1 to see why.")

    def close(self) -> None:
        """End the process and wait for it."""
        self._process.communicate()


def _bare(environ: dict[str, str], job: dict[str, Any]) -> dict[str, Any]:
    started = time.perf_counter()
    output, _ = _start(sys.executable, [], environ).communicate(json.dumps(job) + "\n")
    wall = time.perf_counter() - started
    answers = [line for line in output.splitlines() if line.startswith("{")]
    if not answers:
        return {"error": "the process ended without an answer"}
    answer: dict[str, Any] = json.loads(answers[-1])
    if isinstance(answer.get("result"), dict):
        answer["result"].setdefault("process_seconds", wall)
    return answer


def _start(python: str, arguments: list[str], environ: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [python, "-W", "ignore", "-m", "benchmarks.child", *arguments],
        cwd=ROOT,
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=None if environ.get("BENCHMARKS_TRACE") else subprocess.DEVNULL,
        text=True,
    )
