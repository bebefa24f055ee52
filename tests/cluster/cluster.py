"""An Airflow on what stand for several machines, whose processes a test may kill and start again."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg2

import demo.cluster
from demo.processes import Process
from tests.cluster.gate import Gate
from tests.servers import Server, start
from tests.servers.postgres import Postgres
from tests.servers.postgres import run as run_postgres
from tests.servers.redis import run as run_redis

DAGS = (Path(demo.cluster.__file__).parent / "dags", Path(__file__).parent / "dags")
EDGE = "airflow.providers.edge3.executors.EdgeExecutor"
WORKERS = {"one": 16, "two": 4}
"""Celery workers and how many tasks each runs at once. Both serve the queue `default`, each one of its own name."""
HEARTBEAT_TIMEOUT_SECONDS = 20


class Cluster(demo.cluster.Cluster):
    """Scheduler, API server, triggerer, Dag processor, two Celery workers and an Edge worker.

    Each worker has a home of its own, and reaches the store and the API server through gates of its own, where a test
    can hold its requests or let them fail: `store_gates[name]`, `api_gates[name]`.
    """

    def __init__(self, home: Path, *, postgres: Postgres, store: Server, env: Mapping[str, str]) -> None:
        dags = home / "dags"
        for folder in DAGS:
            shutil.copytree(folder, dags, dirs_exist_ok=True)
        self.metadata_url = postgres.create("airflow")
        super().__init__(home, dags=dags, env=env, start_seconds=600.0)  # a busy machine takes its time
        self.env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = self.metadata_url
        self.env["AIRFLOW__CELERY__RESULT_BACKEND"] = self.metadata_url.replace("postgresql+psycopg2", "db+postgresql")
        self.env["AIRFLOW__EDGE__API_URL"] = f"{self.url}/edge_worker/v1/rpcapi"
        # Triggers are imported by the triggerer, pools by their children.
        self.env["PYTHONPATH"] = str(dags)
        # Where tasks meet and tell of what no XCom could.
        self.meeting = home / "meeting"
        self.meeting.mkdir()
        self.env["CLUSTER_MEETING"] = str(self.meeting)
        self.postgres, self.store = postgres, store
        self.store_gates: dict[str, Gate] = {}
        self.api_gates: dict[str, Gate] = {}

    def start(self) -> None:
        # First, because the API server of the Edge executor would make its tables at the same time.
        self.command("db", "migrate", module="airflow")
        super().start()
        # It gives up where no API server answers.
        self.launch_worker("edge", "edge", "worker", "--edge-hostname", "edge", "--concurrency", 2)

    def launch_components(self) -> None:
        super().launch_components()
        self.launch("triggerer", "triggerer", "--skip-serve-logs", env=self._machine("triggerer"))
        for name, slots in WORKERS.items():
            self.launch_worker(name, "celery", "worker", "--celery-hostname", name, "--concurrency", slots)

    def launch_worker(self, name: str, *command: str | int, env: Mapping[str, str] | None = None) -> Process:
        """Start a worker as on a machine of its own."""
        more = ("--skip-serve-logs", "--without-mingle", "--without-gossip") if command[0] == "celery" else ()
        queues = name if command[0] == "edge" else f"default,{name}"
        return self.launch(name, *command, "--queues", queues, *more, env={**self._machine(name), **(env or {})})

    def _machine(self, name: str) -> dict[str, str]:
        """A home, logs and gates; the variables that lead there."""
        self.store_gates[name] = self.cleanup.enter_context(Gate(self.store.endpoint))
        self.api_gates[name] = self.cleanup.enter_context(Gate(self.url))
        home = self.home / name
        home.mkdir()
        return {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(self.logs / name),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.api_gates[name].url}/execution/",
            **self.store.via(self.store_gates[name].url).env(),
        }

    def kill(self, name: str) -> None:
        """Kill a component or server, with all that it started, by SIGKILL."""
        self._named(name).kill()

    def restart(self, name: str) -> None:
        """Start what was killed, as it was; a server answers when this returns."""
        self._named(name).start()
        answers = {
            "postgres": self.postgres.is_ready,
            "store": lambda: self.store.list_keys() is not None,
            "api-server": lambda: self.request("GET", "/api/v2/version") is not None,
        }.get(name)
        deadline = time.monotonic() + 240
        while answers:
            with contextlib.suppress(OSError):
                if answers():
                    return
            if time.monotonic() > deadline:
                raise demo.cluster.ClusterError(f"{name} does not answer")
            time.sleep(0.1)

    def result(self, dag_id: str, run_id: str) -> demo.cluster.RunResult:
        self.restart_ended()
        return super().result(dag_id, run_id)

    def restart_ended(self) -> list[str]:
        """Start again what has ended by itself, as systemd or Kubernetes would. Returns the names."""
        ended = [name for name, process in self.processes.items() if process.exit_code is not None]
        for name in ended:
            self.processes[name].start()
        return ended

    def _named(self, name: str) -> Process:
        process = {"postgres": self.postgres.process, "store": self.store.process, **self.processes}[name]
        assert process is not None
        return process

    def query(self, sql: str, *parameters: object) -> list[Any]:
        url = self.metadata_url.replace("+psycopg2", "")
        with contextlib.closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
            cursor.execute(sql.replace("?", "%s"), parameters)
            return list(cursor.fetchall())

    def run(self, dag_id: str, *, seconds: float = 600.0) -> demo.cluster.RunResult:
        """A run of a Dag from trigger to end."""
        return self.wait(dag_id, self.trigger(dag_id), seconds=seconds)

    def events(self, *parts: str) -> Iterator[dict[str, Any]]:
        """What all tries of tasks logged, on all workers; of those with these parts in their log's path."""
        for path in self.logs.rglob("attempt=*.log"):
            if set(parts) <= set(path.parts):
                for line in path.read_text().splitlines():
                    with contextlib.suppress(ValueError):
                        yield json.loads(line)

    def errors(self, dag_id: str, run_id: str) -> list[str]:
        """The events of a run that were logged as an error."""
        events = self.events(f"dag_id={dag_id}", f"run_id={run_id}")
        return [str(event) for event in events if event.get("level") in ("error", "critical")]

    def objects(self) -> set[str]:
        """Keys of the stored values."""
        prefix = self.store.root.partition(f"{self.store.bucket}/")[2]
        keys = self.store.list_keys()
        return {key for key in keys if key.startswith(f"{prefix}/") and not key.startswith(f"{prefix}/~xcargo/")}

    def uploads(self) -> list[str]:
        """Keys of the uploads in parts that were begun, and neither completed nor aborted."""
        return list(self.store.raw.list_uploads())  # type: ignore[attr-defined]

    def referenced(self) -> set[str]:
        """Keys that the rows name, asked of PostgreSQL itself."""
        uris = self.query("SELECT value ->> 'uri' FROM xcom WHERE value ->> '__id__' LIKE 'xcargo/%%'")
        return {uri.removeprefix(f"s3://{self.store.bucket}/") for (uri,) in uris if uri}

    def command(self, *arguments: str, module: str = "xcargo") -> str:
        """What a command prints that is run beside the scheduler."""
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            env=self.env,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done.stdout

    def sweep(self, *, grace_seconds: int = 1) -> dict[str, Any]:
        """The report of `xcargo gc --apply`."""
        options = ("--json", "--apply", "--yes", "--grace", f"{grace_seconds}s", "--max-share", "1")
        (report,) = json.loads(self.command("gc", *options))
        return dict(report)


@contextmanager
def running(home: Path, env: Mapping[str, str] | None = None, kind: type[Cluster] = Cluster) -> Iterator[Cluster]:
    """A cluster while the block lasts; `env` is laid over its settings. Nothing of it outlives this process."""
    with ExitStack() as stack:
        postgres = stack.enter_context(run_postgres(max_connections=300))
        broker = stack.enter_context(run_redis())
        store = stack.enter_context(start("s3"))
        settings = {
            "AIRFLOW__CORE__XCOM_BACKEND": "xcargo.XComBackend",
            "AIRFLOW__XCARGO__PATH": store.root,
            **store.env(),
            "AIRFLOW__CORE__EXECUTOR": f"CeleryExecutor,{EDGE}",
            "AIRFLOW__CORE__PARALLELISM": "64",
            "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "64",
            # A busy machine takes its time.
            "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "300",
            "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
            "AIRFLOW__XCARGO__TIMEOUT_SECONDS": "180",
            "AIRFLOW__CELERY__BROKER_URL": broker,
            "AIRFLOW__EDGE__API_ENABLED": "True",
            "AIRFLOW__EDGE__JOB_POLL_INTERVAL": "1",
            "AIRFLOW__EDGE__HEARTBEAT_INTERVAL": "5",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": str(HEARTBEAT_TIMEOUT_SECONDS),
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
        }
        yield stack.enter_context(kind(home, postgres=postgres, store=store, env={**settings, **(env or {})}))
