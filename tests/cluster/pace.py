"""How long a Dag of mapped tasks takes with each backend, on Celery workers over PostgreSQL, Redis and S3.

    python -m tests.cluster --pace --tasks 1000 --rounds 1

Each mapped task returns 20 KB; one task gathers them all. All clusters are started first. Then each round wakes one
after the other, runs the Dag once and freezes it again, so that each has the machine to itself.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

import demo.cluster
from demo.processes import Process, terminate_like_interrupt
from tests.cluster.cluster import Cluster, running

SLOTS = 4
"""Tasks that each of the two workers runs at once."""
WORKERS = ("one", "two")
DAG_ID = "pace"
WARM_UP_TASKS = 2

BACKENDS: Mapping[str, Mapping[str, str]] = {
    "database": {"AIRFLOW__CORE__XCOM_BACKEND": "airflow.sdk.execution_time.xcom.BaseXCom"},
    "Common IO": {
        "AIRFLOW__CORE__XCOM_BACKEND": "airflow.providers.common.io.xcom.backend.XComObjectStorageBackend",
        "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD": "1000",
    },
    "xcargo": {},
}


class PaceCluster(Cluster):
    """What it takes to run a Dag and no more. The workers reach the store and the API server directly."""

    def start(self) -> None:
        self.env["AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH"] = f"{self.store.root}/common-io"
        demo.cluster.Cluster.start(self)

    def launch_components(self) -> None:
        demo.cluster.Cluster.launch_components(self)
        for name in WORKERS:
            self.launch_worker(name, "celery", "worker", "--celery-hostname", name, "--concurrency", SLOTS)

    def _machine(self, name: str) -> dict[str, str]:
        home = self.home / name
        home.mkdir()
        return {"AIRFLOW_HOME": str(home), "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(self.logs / name)}

    def measure(self, tasks: int, seconds: float) -> dict[str, float]:
        """Run the Dag once: what it took. Raises ClusterError if a task failed."""
        before = self._cpu_seconds()
        run_id = self.trigger(DAG_ID, conf={"count": tasks}, seconds=300)
        result = self.wait(DAG_ID, run_id, seconds=seconds)
        if not result.ok:
            raise demo.cluster.ClusterError("\n".join(self.errors(DAG_ID, run_id)[:5]) or f"{run_id} {result.state}")
        ((wall,),) = self.query(
            "SELECT CAST(EXTRACT(EPOCH FROM end_date - start_date) AS FLOAT) FROM dag_run WHERE run_id = ?", run_id
        )
        (gathered,) = (row.value for row in self.xcoms(DAG_ID, run_id) if row.task_id == "gather")
        durations = [task.duration_seconds or 0.0 for task in result.tasks if task.task_id == "push"]
        time.sleep(2)  # the last task's process ends
        spent = {name: after - before[name] for name, after in self._cpu_seconds().items()}
        return {
            "Dag, s": wall,
            "mapped task, s": statistics.median(durations),
            "gathering task, s": result.task("gather").duration_seconds or 0.0,
            "of it, gathering, s": gathered,
            "CPU of workers, s": sum(spent[name] for name in WORKERS),
            "of API server": spent["api-server"],
            "of scheduler": spent["scheduler"],
        }

    def _cpu_seconds(self) -> dict[str, float]:
        return {name: cpu_seconds(process) for name, process in self.processes.items()}


def cpu_seconds(component: Process) -> float:
    """CPU time of a component's processes, and of those that ended."""
    leader, spent = psutil.Process(component.session), 0.0
    for process in (leader, *leader.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            spent += sum(process.cpu_times()[:4])  # its own, and of children that it waited for
    return spent


def table(measured: Mapping[str, list[dict[str, float]]]) -> str:
    """The medians of all rounds, as Markdown."""
    (names, *_) = (list(rounds[0]) for rounds in measured.values())
    lines = ["| " + " | ".join(["backend", *names]) + " |", "|---" + "|---:" * len(names) + "|"]
    for backend, rounds in measured.items():
        medians = [statistics.median(figures[name] for figures in rounds) for name in names]
        lines.append("| " + " | ".join([backend, *(f"{median:,.2f}" for median in medians)]) + " |")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="make cluster CLUSTER=--pace", description=__doc__)
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=1)
    args = parser.parse_args(arguments)
    measured: dict[str, list[dict[str, float]]] = {}
    with terminate_like_interrupt(), contextlib.ExitStack() as stack:
        clusters: dict[str, PaceCluster] = {}
        for backend, settings in BACKENDS.items():
            home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="xcargo-pace-")))
            env = {
                **settings,
                "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
                "AIRFLOW__EDGE__API_ENABLED": "False",
                # Parsed once is enough; parsing again would disturb the run.
                "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
            }
            cluster = stack.enter_context(running(home, env, PaceCluster))
            assert isinstance(cluster, PaceCluster)
            clusters[backend] = cluster
            cluster.measure(WARM_UP_TASKS, 600)
            cluster.pause()
        for number in range(args.rounds):
            for backend, cluster in clusters.items():
                cluster.resume()
                figures = cluster.measure(args.tasks, 30 * args.tasks + 600)
                cluster.pause()
                measured.setdefault(backend, []).append(figures)
                print(f"round {number + 1}, {args.tasks} tasks, {backend}: {figures}", file=sys.stderr)
    print(table(measured))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
