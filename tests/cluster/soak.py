"""A week in an hour: Dags of every kind at once, faults of the store at random, a sweep every minute.

    python -m tests.cluster --soak 600

Prints figures as JSON. The exit code is 1 if anything was lost, wrong or left over, a run failed, or the memory, file
descriptors or threads of what runs for long grew.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil

from demo.cluster import FINISHED, ClusterError
from demo.processes import terminate_like_interrupt
from tests.cluster.cluster import Cluster, running
from tests.servers import Fault

DAGS: Mapping[str, Mapping[str, Any]] = {
    "custom_xcom_backend_test": {},
    "dataframe_demo": {},
    "everywhere": {},
    "fan": {"count": 20},
    "deferring": {},
    "grouped": {},
    "parallel": {},
    "killed": {},
    "callbacks": {},
}
"""Each has one run under way at any time, with these parameters."""
MEANT_TO_FAIL = "callbacks"
SHARE = 0.05
"""Of the requests to the store, so many meet a fault."""
GRACE_SECONDS = 180
GROWTH = {"memory_bytes": 16 << 20, "file_descriptors": 8, "threads": 8}
"""How much a component may grow, by the slope over the second half. The API server's pool of threads fills slowly."""
SWEEP_SECONDS, SAMPLE_SECONDS, REFUSAL_SECONDS = 60, 10, 45


class Soak:
    """The runs under way, and what came of those before."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self.cluster = cluster
        self.rng = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.active: dict[str, str] = {}
        self.samples: list[tuple[float, dict[tuple[str, int], dict[str, int]]]] = []
        self._sweeps = ThreadPoolExecutor(1)
        self._sweep: Future[dict[str, Any]] | None = None
        self._due: Counter[str] = Counter()

    def work(self, seconds: float) -> None:
        """Keep the cluster busy for so long, then let it come to rest."""
        for gate in self.cluster.store_gates.values():
            gate.share = SHARE
        began = time.monotonic()
        while (now := time.monotonic() - began) < seconds:
            for dag_id, conf in DAGS.items():
                if dag_id not in self.active:
                    self.active[dag_id] = self.cluster.trigger(dag_id, conf=conf)
            self.collect()
            if self._is_due("sample", now, SAMPLE_SECONDS):
                self.samples.append((now, measure(self.cluster)))
                self.look()
            if self._is_due("refusal", now, REFUSAL_SECONDS):
                gate = self.rng.choice(list(self.cluster.store_gates.values()))
                gate.add(Fault("refuse", seconds=2))
                self.counts["outages"] += 1
            if self._is_due("sweep", now, SWEEP_SECONDS):
                self.sweep()
            time.sleep(0.5)
        for gate in self.cluster.store_gates.values():
            gate.share = 0.0
        deadline = time.monotonic() + 600
        while self.active and time.monotonic() < deadline:
            self.collect(again=False)
            time.sleep(0.5)
        self.counts["runs that never ended"] += len(self.active)

    def _is_due(self, name: str, now: float, every_seconds: int) -> bool:
        is_due = now >= (self._due[name] + 1) * every_seconds
        self._due[name] += is_due
        return is_due

    def collect(self, *, again: bool = True) -> None:
        """Count the runs that have ended; clear some, so that they run again, and delete others."""
        self.counts["components that ended"] += len(self.cluster.restart_ended())
        for dag_id, run_id in list(self.active.items()):
            result = self.cluster.result(dag_id, run_id)
            if result.state not in FINISHED:
                continue
            del self.active[dag_id]
            self.counts["runs"] += 1
            failed = result.ok is (dag_id == MEANT_TO_FAIL)
            self.counts["failed runs"] += failed
            self.counts["tasks"] += len(result.tasks)
            for row in self.cluster.xcoms(dag_id, run_id):
                self.counts["values"] += 1
                if isinstance(row.value, dict) and "size_bytes" in row.value:
                    self.counts["bytes"] += row.value["size_bytes"]
            if failed:
                print(f"failed: {dag_id} {run_id}", file=sys.stderr)
            # The callback of a Dag may come after the end of its run.
            then = "keep" if dag_id == MEANT_TO_FAIL else self.rng.choice(("keep", "keep", "clear", "delete"))
            if then == "clear" and again:
                self.cluster.clear(dag_id, run_id)
                self.active[dag_id] = run_id
            elif then == "delete" and result.ok:
                self.cluster.request("DELETE", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}")
            self.counts[f"then: {then}"] += 1

    def look(self) -> None:
        """What people do to the API server."""
        with contextlib.suppress(ClusterError, OSError):
            rows = self.cluster.request("GET", "/api/v2/dags/~/dagRuns/~/taskInstances/~/xcomEntries?limit=100")
            self.counts["rows listed"] += len(rows["xcom_entries"])

    def sweep(self) -> None:
        """Sweep beside all this, as a maintenance job does; an error of the sweep is counted."""
        if self._sweep is None or self._sweep.done():
            self._count_sweep()
            self._sweep = self._sweeps.submit(self.cluster.sweep, grace_seconds=GRACE_SECONDS)

    def _count_sweep(self) -> None:
        """Count what the last sweep did; waits for its end."""
        if self._sweep is None:
            return
        self.counts["sweeps"] += 1
        try:
            report = self._sweep.result()
            self.counts["swept"] += report["outcomes"]["deleted"]["objects"]
            self.counts["uploads aborted"] += report["uploads"]["aborted"]
        except Exception as error:
            print(f"sweep: {error}", file=sys.stderr)
            self.counts["sweeps that failed"] += 1

    def result(self) -> dict[str, Any]:
        """All figures, after a last sweep."""
        self._count_sweep()
        self._sweeps.shutdown()
        for event in self.cluster.events():
            errors = {detail["exc_type"] for detail in event.get("error_detail") or ()}
            if "MeantToFail" not in errors:
                self.counts["retries"] += event.get("event") == "Task failed with exception"
                self.errors.update(errors)
        verified = json.loads(self.cluster.command("verify", "--json"))
        time.sleep(1.1)  # the grace
        self.cluster.sweep()
        left = len(self.cluster.objects() ^ self.cluster.referenced()) + len(self.cluster.uploads())
        met: Counter[str] = sum((gate.met for gate in self.cluster.store_gates.values()), Counter())
        return {
            **dict(self.counts),
            "lost": len(verified["problems"]) + self.errors["ObjectNotFoundError"],
            "wrong": self.errors["AssertionError"] + self.errors["ValueError"],
            "left over": left,
            "requests": sum(met.values()),
            "requests that met a fault": sum(met.values()) - met[""],
            "faults": dict(sorted((name, count) for name, count in met.items() if name)),
            "errors that made tasks try again": dict(self.errors),
            "growth": growth(self.samples),
        }


def measure(cluster: Cluster) -> dict[tuple[str, int], dict[str, int]]:
    """Memory, file descriptors and threads of each process of each component.

    Pages that are shared count for each process: what a Celery worker's process shares depends on whether it runs a
    task at the moment, which is forked from it.
    """
    measured = {}
    for name, component in cluster.processes.items():
        with contextlib.suppress(psutil.Error):
            leader = psutil.Process(component.session)
            for process in (leader, *leader.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    measured[name, process.pid] = {
                        "memory_bytes": process.memory_info().rss,
                        "file_descriptors": process.num_fds(),
                        "threads": process.num_threads(),
                    }
    return measured


def growth(samples: list[tuple[float, dict[tuple[str, int], dict[str, int]]]]) -> dict[str, dict[str, float]]:
    """By component: how much each figure grew in the second half, and its median. Of processes that lived through it.

    The slope is the median of those between any two samples, which single peaks do not move.
    """
    half = samples[len(samples) // 2 :]
    lasting = set.intersection(*(set(sample) for _, sample in half))
    grown: dict[str, dict[str, float]] = {}
    for component in sorted({name for name, _ in lasting}):
        for figure in GROWTH:
            points = [(at, sum(sample[key][figure] for key in lasting if key[0] == component)) for at, sample in half]
            slopes = [(b - a) / (then - at) for (at, a), (then, b) in itertools.combinations(points, 2)]
            grown.setdefault(component, {})[figure] = round(statistics.median(v for _, v in points))
            grown[component][f"{figure}_grown"] = round(statistics.median(slopes) * (half[-1][0] - half[0][0]), 1)
    return grown


def problems(figures: Mapping[str, Any]) -> list[str]:
    """What must not be."""
    bad = ("lost", "wrong", "left over", "failed runs", "runs that never ended", "sweeps that failed")
    return [name for name in (*bad, "components that ended") if figures.get(name)] + [
        f"{component}: {figure} grew by {grown[f'{figure}_grown']}"
        for component, grown in figures["growth"].items()
        for figure, bound in GROWTH.items()
        if grown[f"{figure}_grown"] > bound
    ]


def main(arguments: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="make cluster CLUSTER='--soak SECONDS'", description=__doc__)
    parser.add_argument("seconds", type=float, nargs="?", default=600)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(arguments)
    env = {
        "AIRFLOW__CORE__DEFAULT_TASK_RETRIES": "8",
        "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "1",
        "AIRFLOW__XCARGO__TIMEOUT_SECONDS": "60",
    }
    with (
        terminate_like_interrupt(),
        tempfile.TemporaryDirectory(prefix="xcargo-soak-") as home,
        running(Path(home), env) as cluster,
    ):
        soak = Soak(cluster, args.seed)
        soak.work(args.seconds)
        figures = {"seconds": args.seconds, **soak.result()}
    print(json.dumps(figures, indent=2))
    found = problems(figures)
    print("\n".join(found), file=sys.stderr)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
