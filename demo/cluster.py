"""A real Airflow 3 on this machine: API server, scheduler with LocalExecutor, Dag processor."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import socket
import sqlite3
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from demo.environment import airflow_environment
from demo.keeper import Keeper, signal_session
from demo.processes import Process, stop_all, terminate_like_interrupt, uninterrupted
from demo.tasklog import read_task_log

if TYPE_CHECKING:
    from typing_extensions import Self

Progress = Callable[[str], None]
"""Told the current step, again and again while it lasts."""

FINISHED = frozenset({"success", "failed"})
POLL_SECONDS = 0.25


class ClusterError(RuntimeError):
    """Airflow did not start, or did not do what it was asked to; the message carries the log."""


@dataclass(frozen=True)
class TaskResult:
    """How one task instance ended."""

    task_id: str
    map_index: int
    state: str | None
    duration_seconds: float | None
    """`task_instance.duration` of the metadata database; None if the task never started."""
    try_number: int


@dataclass(frozen=True)
class RunResult:
    """How a Dag run ended, with its task instances in order of start."""

    dag_id: str
    run_id: str
    state: str
    tasks: tuple[TaskResult, ...]

    @property
    def ok(self) -> bool:
        """The run and each of its tasks succeeded."""
        return self.state == "success" and all(task.state == "success" for task in self.tasks)

    def task(self, task_id: str) -> TaskResult:
        """The (first) instance of a task. Raises KeyError if the run has none."""
        for task in self.tasks:
            if task.task_id == task_id:
                return task
        raise KeyError(task_id)


@dataclass(frozen=True)
class XComRow:
    """One row of the table `xcom`: the value as it stands there, not decoded by any backend."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    key: str
    value: Any
    """The JSON value of the row."""
    row_bytes: int
    """The length of the JSON text in the row."""


class Cluster:
    """Run Airflow for the length of a `with` block, in a directory of its own.

    On entry: a fresh SQLite database in `home` is made and the components run and are healthy, or
    ClusterError is raised with the tail of the log of what failed. On exit, also by an exception,
    SIGINT or SIGTERM, every process it started is gone (killed, should this one be killed itself);
    `home` stays, its `logs` too.

    The Airflow is the one installed beside `sys.executable`. `env` is laid over the defaults
    below; AIRFLOW variables of the caller's own environment are not passed on, so that only what
    is given here counts. `login` is a user and a password, where not all users are admins. Takes
    about 20 s on two cores, the first time after an installation longer (Python compiles its files).
    """

    def __init__(
        self,
        home: Path,
        *,
        dags: Path,
        env: Mapping[str, str] | None = None,
        progress: Progress | None = None,
        start_seconds: float = 240.0,
        login: tuple[str, str] | None = None,
    ) -> None:
        self.home = home.resolve()
        self.logs = self.home / "logs"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.database = self.home / "airflow.db"
        self.env = airflow_environment(self.home, dags.resolve(), self.port, env or {})
        self._progress: Progress = progress or (lambda _step: None)
        self._start_seconds = start_seconds
        self.processes: dict[str, Process] = {}
        self._login = login
        self._token: str | None = None
        self._warm = False
        self.cleanup = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.cleanup.enter_context(terminate_like_interrupt())
        self._keeper = Keeper()
        self.cleanup.callback(self._keeper.close)
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop every process. Idempotent; returns within about 20 s."""
        try:
            with uninterrupted():
                stop_all(list(self.processes.values()))
                self.processes.clear()
        finally:
            self.cleanup.close()

    # -- starting ------------------------------------------------------------------------------

    def start(self) -> None:
        """Make the database and start the components; returns when they are healthy."""
        self.logs.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + self._start_seconds
        # Most of a start is importing, on one core each: the API server imports while the
        # database is made, and looks into it only when the first request asks it to.
        self.launch("api-server", "api-server", "--host", "127.0.0.1", "--port", self.port)
        migrate = self.launch("db-migrate", "db", "migrate")
        while migrate.exit_code is None:
            self._poll("making the metadata database", deadline)
        if migrate.exit_code != 0:
            raise _failure("airflow db migrate failed", migrate)
        del self.processes[migrate.name]
        self.launch_components()
        while (waiting := self._unhealthy()) is not None:
            self._poll(f"starting Airflow (waiting for the {waiting})", deadline)

    def launch_components(self) -> None:
        """Start what runs beside the API server."""
        self.launch("scheduler", "scheduler", "--skip-serve-logs")
        self.launch("dag-processor", "dag-processor")

    def launch(self, name: str, *arguments: str | int, env: Mapping[str, str] | None = None) -> Process:
        """Start an `airflow` command that runs until `stop`; `env` is laid over the cluster's."""
        airflow = Path(sys.executable).with_name("airflow")
        if not airflow.exists():
            raise ClusterError(f"there is no airflow beside {sys.executable}: install apache-airflow there")
        process = Process(
            name,
            [sys.executable, str(airflow), *map(str, arguments)],
            env={**self.env, **(env or {})},
            cwd=self.home,
            log=self.logs / f"{name}.log",
            keeper=self._keeper,
        )
        self.processes[name] = process
        return process

    def _poll(self, step: str, deadline: float) -> None:
        for process in self.processes.values():
            if process.exit_code:
                raise _failure(f"airflow {process.name} ended (exit {process.exit_code})", process)
        if time.monotonic() > deadline:
            raise ClusterError(
                f"still {step} after {self._start_seconds:.0f} s\n"
                + "\n".join(f"--- {p.log.name}\n{p.tail()}" for p in self.processes.values())
            )
        self._progress(step)
        time.sleep(POLL_SECONDS)

    def _unhealthy(self) -> str | None:
        """The first component that is not yet healthy, or None."""
        try:
            health = self.request("GET", "/api/v2/monitor/health")
            if not self._warm:
                # The API of the tasks is built at its first request, in seconds; not at the
                # expense of the first task, and while the scheduler still imports.
                self.request("GET", "/execution/health")
                self._warm = True
        except (OSError, ClusterError):
            return "API server"
        for component, name in (("scheduler", "scheduler"), ("dag_processor", "Dag processor")):
            if (health.get(component) or {}).get("status") != "healthy":
                return name
        return None

    # -- pausing -------------------------------------------------------------------------------

    def pause(self) -> None:
        """Freeze every process, so that another cluster has the machine to itself."""
        for process in self.processes.values():
            signal_session(process.session, signal.SIGSTOP)

    def resume(self) -> None:
        """Undo `pause`."""
        for process in self.processes.values():
            signal_session(process.session, signal.SIGCONT)

    # -- more ----------------------------------------------------------------------------------

    def another_api_server(self, env: Mapping[str, str], *, seconds: float = 120.0) -> str:
        """Start one more API server over the same database, `env` laid over; returns its URL when it answers."""
        port = free_port()
        self.launch(f"api-server-{port}", "api-server", "--host", "127.0.0.1", "--port", port, env=env)
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(OSError), _LOOPBACK.open(f"http://127.0.0.1:{port}/api/v2/version", timeout=10):
                return f"http://127.0.0.1:{port}"
            self._poll("starting another API server", deadline)

    # -- Dags ----------------------------------------------------------------------------------

    def trigger(self, dag_id: str, *, conf: Mapping[str, Any] | None = None, seconds: float = 60.0) -> str:
        """Start a run as soon as the Dag is known, and return its run id. `conf` are its parameters.

        Raises ClusterError if no such Dag appears within `seconds`, with Airflow's import errors.
        """
        deadline = time.monotonic() + seconds
        path = f"/api/v2/dags/{urllib.parse.quote(dag_id)}"
        while True:
            try:
                self.request("GET", path)
                break
            except ClusterError as error:
                if time.monotonic() > deadline:
                    errors = self._import_errors()
                    raise ClusterError(f"there is no Dag {dag_id}\n{errors}") from error
            self._progress(f"waiting for the Dag {dag_id} to be parsed")
            time.sleep(POLL_SECONDS)
        run = self.request("POST", f"{path}/dagRuns", {"logical_date": None, "conf": conf or {}})
        return str(run["dag_run_id"])

    def clear(self, dag_id: str, run_id: str) -> None:
        """Have every task of a run run again; `wait` waits for its end."""
        self.request(
            "POST",
            f"/api/v2/dags/{urllib.parse.quote(dag_id)}/clearTaskInstances",
            {"dag_run_id": run_id, "dry_run": False, "only_failed": False},
        )

    def wait(self, dag_id: str, run_id: str, *, seconds: float = 300.0) -> RunResult:
        """Wait for the end of a run. Raises ClusterError when it takes longer than `seconds`."""
        deadline = time.monotonic() + seconds
        while (result := self.result(dag_id, run_id)).state not in FINISHED:
            if time.monotonic() > deadline:
                raise ClusterError(f"{dag_id} {run_id} is {result.state} after {seconds:.0f} s")
            ended = sum(task.state == "success" for task in result.tasks)
            self._progress(f"running {dag_id} ({ended} of {len(result.tasks)} tasks done)")
            time.sleep(POLL_SECONDS)
        return result

    def result(self, dag_id: str, run_id: str) -> RunResult:
        """The run as it stands now in the metadata database."""
        states = self.query("SELECT state FROM dag_run WHERE dag_id = ? AND run_id = ?", dag_id, run_id)
        if not states:
            raise ClusterError(f"there is no run {run_id} of {dag_id}")
        tasks = self.query(
            "SELECT task_id, map_index, state, duration, try_number FROM task_instance"
            " WHERE dag_id = ? AND run_id = ?"
            " ORDER BY start_date IS NULL, start_date, task_id, map_index",
            dag_id,
            run_id,
        )
        return RunResult(dag_id, run_id, states[0][0], tuple(TaskResult(*row) for row in tasks))

    def xcoms(self, dag_id: str, run_id: str) -> list[XComRow]:
        """The rows of the table `xcom` of one run, in the order they were written."""
        rows = self.query(
            "SELECT task_id, map_index, key, CAST(value AS TEXT) FROM xcom"
            " WHERE dag_id = ? AND run_id = ? ORDER BY timestamp, key",
            dag_id,
            run_id,
        )
        return [
            XComRow(dag_id, run_id, task, index, key, json.loads(text), len(text.encode()))
            for task, index, key, text in rows
        ]

    def task_log(self, dag_id: str, run_id: str, task_id: str) -> str:
        """What the task's latest try logged, one line an event, with tracebacks."""
        return read_task_log(self.logs, dag_id, run_id, task_id)

    def task_url(self, dag_id: str, run_id: str, task_id: str) -> str:
        """The page of the task instance's XComs in Airflow's UI."""
        dag, run, task = (urllib.parse.quote(part, safe="") for part in (dag_id, run_id, task_id))
        return f"{self.url}/dags/{dag}/runs/{run}/tasks/{task}/xcom"

    def token(self, user: str, password: str) -> str:
        """What a user logs in to the API with. Raises ClusterError for a wrong password."""
        return str(self.request("POST", "/auth/token", {"username": user, "password": password})["access_token"])

    def query(self, sql: str, *parameters: object) -> list[Any]:
        """Read only, one statement, closed at once: a reader must not hold up Airflow."""
        with contextlib.closing(
            sqlite3.connect(f"{self.database.as_uri()}?mode=ro", uri=True, timeout=10)
        ) as connection:
            return connection.execute(sql, parameters).fetchall()

    def request(self, method: str, path: str, body: object = None) -> Any:
        """The API server's answer, as an admin. Raises ClusterError with the text of an error, OSError without one."""
        if self._token is None and path != "/auth/token":
            self._token = (
                self.token(*self._login) if self._login else self.request("GET", "/auth/token")["access_token"]
            )
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        if self._token is not None:
            request.add_header("Authorization", f"Bearer {self._token}")
        try:
            with _LOOPBACK.open(request, timeout=30) as response:
                text = response.read()
                return json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            raise ClusterError(f"{method} {path}: HTTP {error.code} {text}") from error

    # -- inside --------------------------------------------------------------------------------

    def _import_errors(self) -> str:
        errors = self.request("GET", "/api/v2/importErrors")["import_errors"]
        return "\n".join(f"{error['filename']}: {error['stack_trace']}" for error in errors)


_LOOPBACK = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Talks to this machine itself, whatever proxy the environment names."""


def free_port() -> int:
    """A loopback port nobody listens on.

    Airflow takes ten seconds and more until it listens. Nobody else may take the port meanwhile: it is below
    the ports of outgoing connections, and below those that the tests' servers choose from (20,000 and up).
    """
    for port in random.sample(range(10_000, 20_000), 200):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise ClusterError("no free port on 127.0.0.1")


def _failure(what: str, process: Process) -> ClusterError:
    return ClusterError(f"{what}; {process.log.name} ends with:\n{process.tail()}")
