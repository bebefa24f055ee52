"""Run the demo: `python -m demo.run [--store local|s3|gcs|azure] [--ui] [--screenshot PATH]`.

A real Airflow with xcargo as its XCom backend runs two Dags; then a table shows where each value
went. Exits with 1 if a Dag failed or Airflow did not start.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import importlib
import importlib.util
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from demo.cluster import Cluster, ClusterError, RunResult
from demo.processes import terminate_like_interrupt
from demo.report import Ticker, stored_value, table_of_values

ROOT = Path(__file__).resolve().parent.parent
DAGS = ROOT / "demo" / "dags"
STATE = ROOT / ".demo"
DAG_IDS = ("custom_xcom_backend_test", "dataframe_demo")
STORES = ("local", "s3", "gcs", "azure")
LOG_LINES = 30


def main(arguments: list[str] | None = None) -> int:
    """Parse the arguments, run the demo, return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m demo.run", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--store",
        choices=STORES,
        default="local",
        help="where large values go: a folder (default), or a local S3, GCS or Azure server",
    )
    parser.add_argument("--ui", action="store_true", help="keep Airflow running until Ctrl-C")
    parser.add_argument(
        "--screenshot",
        type=Path,
        metavar="PATH",
        help="write a PNG of the XComs in Airflow's UI (needs playwright and a Chromium)",
    )
    options = parser.parse_args(arguments)
    if importlib.util.find_spec("xcargo") is None:
        print(f"xcargo is not installed for {sys.executable}; run: make demo", file=sys.stderr)
        return 1
    ticker = Ticker()
    try:
        with (
            terminate_like_interrupt(),
            _fresh_home() as home,
            _store(options.store, home, ticker) as store,
        ):
            env = {"AIRFLOW__CORE__XCOM_BACKEND": "xcargo.XComBackend", **store}
            return _demo(home, env, ticker, ui=options.ui, screenshot=options.screenshot)
    except ClusterError as error:
        ticker.done()
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        ticker.done()
        return 130


def _demo(home: Path, env: dict[str, str], ticker: Ticker, *, ui: bool, screenshot: Path | None) -> int:
    print(f"Airflow {_version('apache-airflow-core')}")
    print(f"xcargo {_version('airflow-provider-xcargo')}")
    for name in sorted(env):
        if not name.startswith("AIRFLOW_CONN_"):
            print(f"  {name}={env[name]}")
    with Cluster(home, dags=DAGS, env=env, progress=ticker) as cluster:
        results = [cluster.wait(dag_id, cluster.trigger(dag_id)) for dag_id in DAG_IDS]
        ticker.done()
        code = _show(cluster, results)
        _show_ui(cluster, results[0], ui=ui, screenshot=screenshot, ticker=ticker)
        ticker("stopping Airflow")
    ticker.done()
    print(f"Done in {ticker.seconds:.0f} s.")
    return code


def _show(cluster: Cluster, results: list[RunResult]) -> int:
    """Print what happened; 1 if a run failed, else 0."""
    rows = [row for result in results for row in cluster.xcoms(result.dag_id, result.run_id)]
    print(f"\n{table_of_values(rows)}\n")
    for result in results:
        if result.ok:
            print(f"{result.dag_id}: success, what was pulled equals what was pushed")
        else:
            print(f"{result.dag_id}: {result.state.upper()}")
        for task in result.tasks:
            if task.state not in ("success", "upstream_failed"):
                print(f"--- the end of the log of {task.task_id} ({task.state})")
                log = cluster.task_log(result.dag_id, result.run_id, task.task_id)
                print("\n".join(log.splitlines()[-LOG_LINES:]))
    took = results[0].task("push_objects").duration_seconds
    if took is not None:
        print(f"push_objects took {took:.2f} s (Airflow's duration of the task instance)")
    if not all(result.ok for result in results):
        return 1
    if all(stored_value(row).in_database for row in rows):
        print("Yet no value went to the store: is the threshold larger than the values?")
        return 1
    return 0


def _show_ui(cluster: Cluster, result: RunResult, *, ui: bool, screenshot: Path | None, ticker: Ticker) -> None:
    page = cluster.task_url(result.dag_id, result.run_id, "push_objects")
    if screenshot is not None:
        ticker("taking a screenshot")
        try:
            importlib.import_module("demo.screenshot").take(page, screenshot)
            ticker.done()
            print(f"The XComs of push_objects, as Airflow shows them: {screenshot}")
        except ImportError as error:
            ticker.done()
            print(f"No screenshot: {error}", file=sys.stderr)
    if ui:
        print(f"\nAirflow runs at {cluster.url} (no login)\nXComs of push_objects: {page}")
        print("Ctrl-C stops it.")
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                time.sleep(3600)
    else:
        print("To look at it in the browser: make ui")


@contextlib.contextmanager
def _store(kind: str, home: Path, ticker: Ticker) -> Iterator[dict[str, str]]:
    """A place for large values, and the variables that make xcargo use it."""
    if kind == "local":
        yield {"AIRFLOW__XCARGO__PATH": (home / "xcargo").as_uri()}
        return
    ticker(f"starting a local {kind} server")
    servers: Any = importlib.import_module("tests.servers")
    with servers.start(kind) as server:
        yield {"AIRFLOW__XCARGO__PATH": server.root, **server.env()}


@contextlib.contextmanager
def _fresh_home() -> Iterator[Path]:
    """A new directory below `.demo`; it stays for inspection until the next run removes it.

    A lock says that a run still lives in a directory: another demo leaves it alone.
    """
    STATE.mkdir(exist_ok=True)
    for old in STATE.iterdir():
        if old.is_dir():
            with (old / "lock").open("w") as lock, contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(old, ignore_errors=True)
    home = Path(tempfile.mkdtemp(prefix="run-", dir=STATE))
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield home


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    sys.exit(main())
