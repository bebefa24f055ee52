"""What a backend costs a task: `python -m benchmarks.push_objects [--rounds N]`.

Three real Airflows, alike but for the XCom backend, run the tutorial's Dag in turn:

* database: Airflow's own backend, everything in the metadata database;
* common-io: `XComObjectStorageBackend` over a local S3 server, configured as its tutorial does;
* xcargo: over the same S3 server, threshold and compression as they come.

All are started first; then each round wakes one after the other, runs the Dag once and freezes it
again, so that every run has the machine to itself and slow minutes hit all three alike. The first
round warms up and does not count. Every task is a process of its own, as in production: what a
backend imports and connects is part of its time.

Needs apache-airflow, apache-airflow-providers-common-io, apache-airflow-providers-amazon[s3fs]
and the S3 server of `tests.servers`. Prints a Markdown table to stdout, progress to stderr.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from importlib.metadata import version
from pathlib import Path

from demo.cluster import Cluster, Progress
from demo.processes import terminate_like_interrupt
from demo.report import Ticker
from tests.servers import Server, start

DAGS = Path(__file__).resolve().parent / "dags"
DAG_ID = "push_objects_timed"
XCOM_BACKEND = "AIRFLOW__CORE__XCOM_BACKEND"
COMMON_IO = "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE"


@dataclass
class Samples:
    """The seconds of each counted run of one backend."""

    push_task: list[float] = field(default_factory=list)
    push_small: list[float] = field(default_factory=list)
    push_big: list[float] = field(default_factory=list)
    pull_task: list[float] = field(default_factory=list)
    pull_small: list[float] = field(default_factory=list)
    pull_big: list[float] = field(default_factory=list)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.push_objects")
    parser.add_argument("--rounds", type=int, default=7, help="counted runs of each backend")
    rounds = parser.parse_args(arguments).rounds
    ticker = Ticker()
    with (
        terminate_like_interrupt(),
        tempfile.TemporaryDirectory(prefix="xcargo-bench-") as directory,
        contextlib.ExitStack() as stack,
    ):
        ticker("starting the S3 server")
        server = stack.enter_context(start("s3"))
        clusters = {}
        for name, env in environments(server).items():
            home = Path(directory) / name
            # Parsed once is enough; parsing again would disturb the others.
            env["AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL"] = "3600"
            clusters[name] = stack.enter_context(Cluster(home, dags=DAGS, env=env, progress=_prefixed(ticker, name)))
            run_once(clusters[name])
            clusters[name].pause()
        samples = {name: Samples() for name in clusters}
        for number in range(rounds):
            for name, cluster in clusters.items():
                ticker(f"round {number + 1} of {rounds}: {name}")
                cluster.resume()
                for column, seconds in run_once(cluster).items():
                    getattr(samples[name], column).append(seconds)
                cluster.pause()
        ticker("stopping")
    ticker.done()
    print(markdown(samples))
    return 0


def environments(server: Server) -> dict[str, dict[str, str]]:
    """The settings in which the three differ, by name."""
    root = server.root.rsplit("/", 1)[0]
    return {
        "database": {},
        "common-io": {
            XCOM_BACKEND: "airflow.providers.common.io.xcom.backend.XComObjectStorageBackend",
            f"{COMMON_IO}_PATH": f"{root}/common-io",
            f"{COMMON_IO}_THRESHOLD": "1000",
            f"{COMMON_IO}_COMPRESSION": "zip",
            **server.env(),
        },
        "xcargo": {
            XCOM_BACKEND: "xcargo.XComBackend",
            "AIRFLOW__XCARGO__PATH": f"{root}/xcargo",
            **server.env(),
        },
    }


def run_once(cluster: Cluster) -> dict[str, float]:
    """Run the Dag: the seconds by field of Samples. RuntimeError with the log if a task failed."""
    result = cluster.wait(DAG_ID, run_id := cluster.trigger(DAG_ID))
    for task in result.tasks:
        if task.state != "success":
            raise RuntimeError(cluster.task_log(DAG_ID, run_id, task.task_id))
    watch = {row.task_id: row.value for row in cluster.xcoms(DAG_ID, run_id) if row.key == "seconds"}
    return {
        f"{verb}_{what}": seconds
        for verb in ("push", "pull")
        for what, seconds in (
            ("task", result.task(f"{verb}_objects").duration_seconds or 0.0),
            ("small", watch[f"{verb}_objects"]["small_obj"]),
            ("big", watch[f"{verb}_objects"]["big_obj"]),
        )
    }


def markdown(samples: dict[str, Samples]) -> str:
    """Medians, with the range in brackets, and on what they were measured."""
    columns = [column.name for column in fields(Samples)]
    count = len(next(iter(samples.values())).push_task)
    lines = [
        f"Median of {count} runs each, interleaved (fastest to slowest), in milliseconds.",
        "",
        "| backend | " + " | ".join(column.replace("_", ": ") for column in columns) + " |",
        "|---|" + "---:|" * len(columns),
    ]
    lines += [
        f"| {name} | " + " | ".join(cell(getattr(row, column)) for column in columns) + " |"
        for name, row in samples.items()
    ]
    packages = (
        "apache-airflow-core",
        "apache-airflow-providers-common-io",
        "s3fs",
        "airflow-provider-xcargo",
    )
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    footer = (
        f"Python {platform.python_version()}, {versions}, SeaweedFS on loopback, {os.cpu_count()} cores. "
        "Task: `task_instance.duration` of `push_objects` and `pull_objects`; small and big: `perf_counter` around "
        "the `xcom_push` and `xcom_pull` of `small_obj` and `big_obj` inside them."
    )
    lines += ["", footer]
    return "\n".join(lines)


def cell(seconds: Sequence[float]) -> str:
    """Median and range in milliseconds."""
    middle, low, high = statistics.median(seconds), min(seconds), max(seconds)
    return f"{middle * 1e3:.0f} ({low * 1e3:.0f} to {high * 1e3:.0f})"


def _prefixed(ticker: Ticker, name: str) -> Progress:
    return lambda step: ticker(f"{name}: {step}")


if __name__ == "__main__":
    sys.exit(main())
