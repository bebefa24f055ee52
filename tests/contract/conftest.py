"""One Airflow home for the whole session, settled before Airflow is imported."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.servers.postgres import run as run_postgres
from tests.servers.processes import StartError, free_ports, running

from .settle import DAGS, Place, settle

HERE = Path(__file__).parent
DAG_RUN_LIMIT_SECONDS = 900
USER, PASSWORD = "reader", "correct-horse"

_PLACE = pytest.StashKey[Place]()


def pytest_configure(config: pytest.Config) -> None:
    """Settle before any test module imports Airflow, and load the backend before any other module of ours."""
    if config.rootpath == HERE:
        config.stash[_PLACE] = settle()
        from xcargo.airflow import load_backend

        load_backend()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave nothing behind."""
    place = config.stash.get(_PLACE, None)
    if place:
        place.remove()


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """In a run from the root Airflow may be imported already, with another home."""
    return None if config.rootpath == HERE else True


def pytest_report_header() -> str:
    """Name the Airflow that the tests run on."""
    import airflow

    return f"airflow: {airflow.__version__}"


@dataclass(frozen=True)
class Row:
    """A row of the XCom table, as the database holds it."""

    task_id: str
    map_index: int
    key: str
    value: Any


@dataclass(frozen=True)
class Run:
    """A finished Dag run and what it left behind."""

    dag_id: str
    run_id: str
    state: str
    log: str
    """What all Dags' runs logged, to stdout or stderr as the Airflow has it."""
    rows: tuple[Row, ...]
    objects: frozenset[Path]

    def row(self, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        """What stands in the one row of that coordinate."""
        wanted = (task_id, map_index, key)
        (found,) = [row.value for row in self.rows if (row.task_id, row.map_index, row.key) == wanted]
        return found


@pytest.fixture(scope="session")
def place(pytestconfig: pytest.Config) -> Place:
    """Where this session's Airflow lives."""
    return pytestconfig.stash[_PLACE]


@pytest.fixture(scope="session")
def database(place: Place) -> Path:
    """The metadata database, with the schema of this Airflow."""
    done = run("-m", "airflow", "db", "migrate")
    assert done.returncode == 0, done.stdout + done.stderr
    return place.database


@pytest.fixture(scope="session")
def connections(place: Place) -> Iterator[dict[str, str]]:
    """The variables that name a database in a file, and a real PostgreSQL where there is one."""
    sqlite = json.dumps({"conn_type": "sqlite", "host": str(place.home / "items.db")})
    found = {"AIRFLOW_CONN_CONTRACT_SQLITE": sqlite}
    try:
        with run_postgres() as server:
            url = server.url().replace("+psycopg2", "") + "?options=-c%20timezone%3DUTC"
            found["AIRFLOW_CONN_CONTRACT_POSTGRES"] = url
            found["AIRFLOW_CONN_CONTRACT_POSTGRES_NAMED"] = f"{url}&cursor=namedtuplecursor"
            yield found
    except StartError as error:
        if error.may_retry:
            raise
        yield found


@pytest.fixture(scope="session")
def dag_runs(place: Place, database: Path, connections: dict[str, str]) -> dict[str, Run]:
    """Every contract Dag, run once by ``dag.test()`` in a process of its own; those that are reused, three times."""
    done = run(str(HERE / "run_dags.py"), str(place.home), timeout=DAG_RUN_LIMIT_SECONDS, env=connections)
    log = done.stdout + done.stderr
    assert done.returncode == 0, log[-20_000:]
    runs = json.loads((place.home / "runs.json").read_text())
    return {
        dag_id: Run(dag_id, **found, log=log, rows=rows_of(database, dag_id), objects=objects_of(place, dag_id))
        for dag_id, found in runs.items()
    }


@dataclass(frozen=True)
class WebServer:
    """The REST API of this Airflow, over a database that holds what the contract Dags left."""

    url: str
    database: str
    login: dict[str, Any]
    """Arguments that sign in one who may read everything."""
    refused: dict[str, dict[str, Any]]
    """The same of one who may read nothing; on Airflow 3 also of one who may read anything but XComs."""


@pytest.fixture(scope="session")
def web(place: Place, dag_runs: dict[str, Run], tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    """A real server, on a port of its own."""
    from .generation import AIRFLOW_2  # imports Airflow

    folder = tmp_path_factory.mktemp("web")
    shutil.copy(place.database_then, folder / "airflow.db")
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    users = (USER, "nobody", "no_xcoms")
    (folder / "passwords.json").write_text(json.dumps(dict.fromkeys(users, PASSWORD)))
    env = {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder}/airflow.db",
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__API__AUTH_BACKENDS": "airflow.api.auth.backend.basic_auth",
        "AIRFLOW__API__EXPOSE_CONFIG": "True",
        "AIRFLOW__WEBSERVER__EXPOSE_CONFIG": "True",
        "AIRFLOW__WEBSERVER__WORKERS": "1",
        **({} if AIRFLOW_2 else {"AIRFLOW__CORE__AUTH_MANAGER": "tests.contract.auth.PickyAuthManager"}),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin,nobody:,no_xcoms:viewer",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(folder / "passwords.json"),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__API_AUTH__JWT_ISSUER": "contract",  # without one 3.0 gives out no token, with a PyJWT of today
    }
    create = "users create -u {0} -p {1} -r {2} -e {0}@example.org -f R -l R"
    creates = [create.format(user, PASSWORD, role) for user, role in ((USER, "Admin"), ("nobody", "Public"))]
    for command in ["dags reserialize", *(creates if AIRFLOW_2 else [])]:
        done = run("-m", "airflow", *command.split(), env=env)
        assert done.returncode == 0, done.stdout + done.stderr
    kind = "webserver --hostname" if AIRFLOW_2 else "api-server --workers 1 --host"
    health = f"{url}/api/v1/health" if AIRFLOW_2 else f"{url}/api/v2/version"

    def answers() -> bool:
        with urllib.request.urlopen(health, timeout=5) as answer:
            return bool(answer.status == 200)

    with running(f"{sys.executable} -m airflow {kind} 127.0.0.1 --port {port}".split(), is_ready=answers, env=env):
        refused = {user: {"username": user, "password": PASSWORD} for user in users[1 : 2 if AIRFLOW_2 else 3]}
        login: dict[str, Any] = {"username": USER, "password": PASSWORD}
        if not AIRFLOW_2:
            request = urllib.request.Request(
                f"{url}/auth/token", json.dumps(login).encode(), {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=30) as answer:
                login = {"token": json.load(answer)["access_token"]}
        yield WebServer(url, env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"], login, refused)


STATE_DAGS = HERE / "dags_state"
COMMON_IO = "airflow.providers.common.io.state_store.backend.StateStoreObjectStorageBackend"


@dataclass(frozen=True)
class State:
    """What the Dag with state left: the rows of its tasks and of the asset, and the root of all objects."""

    root: Path
    run_id: str
    tasks: dict[tuple[str, int, str], Any]
    assets: dict[str, Any]
    asset_id: int
    region: str
    """That of the mapped task, from Airflow 3.4 on."""


@pytest.fixture(scope="session")
def state(database: Path, tmp_path_factory: pytest.TempPathFactory) -> State:
    """Common IO's backend at first, then ours by one setting more: the options of Common IO stay as they are."""
    root = tmp_path_factory.mktemp("state")
    env = {
        "AIRFLOW__COMMON_IO__STATE_STORE_OBJECTSTORAGE_PATH": root.as_uri(),
        "AIRFLOW__CORE__DAGS_FOLDER": str(STATE_DAGS),
        "AIRFLOW__XCARGO__PATH": "",
        "PYTHONPATH": f"{STATE_DAGS}:{os.environ['PYTHONPATH']}",
    }
    for backend, name in ((COMMON_IO, "old"), ("xcargo.StateStoreBackend", "new")):
        done = run(str(HERE / "run_state.py"), name, env=env | {"AIRFLOW__WORKERS__STATE_STORE_BACKEND": backend})
        assert done.returncode == 0, (done.stdout + done.stderr)[-20_000:]
    run_id = done.stdout.rpartition("RUN ")[2].split()[0]  # more may be logged behind it
    with sqlite3.connect(database) as rows:
        index = "region_index" if "region_index" in columns(rows, "task_state_store") else "map_index"
        tasks = rows.execute(f"SELECT task_id, {index}, key, value FROM task_state_store").fetchall()
        assets = rows.execute("SELECT key, value FROM asset_state_store").fetchall()
        ((asset_id,),) = rows.execute("SELECT id FROM asset WHERE name = 'contract_orders'")
    values = {row[:3]: ref_of(row[3]) for row in tasks}
    region = region_of("cleared")
    return State(root, run_id, values, {key: ref_of(value) for key, value in assets}, asset_id, region)


def region_of(task_id: str) -> str:
    from xcargo.airflow.references.database import DatabaseReferences
    from xcargo.lifecycle.references import XComFilter

    row = next(DatabaseReferences().rows(XComFilter(task_id=task_id, state=True)))
    return (row.coordinate.state and row.coordinate.state.region) or ""


def columns(database: sqlite3.Connection, table: str) -> set[str]:
    return {row[1] for row in database.execute(f"PRAGMA table_info({table})")}


def ref_of(value: str) -> Any:
    """What the backend gave for a value: JSON of ours, or a URL of Common IO's."""
    (ref,) = json.loads(value).values()
    try:
        return json.loads(ref)
    except ValueError:
        return ref


def run(
    *arguments: str, timeout: float = 300, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run this Python with the arguments, in this environment and ``env``.

    As in a wide terminal: Airflow cuts its tables off.
    """
    return subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"COLUMNS": "400"} | dict(env or {}),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def rows_of(database: Path, dag_id: str) -> tuple[Row, ...]:
    """All XCom rows of a Dag, of every attempt."""
    per_attempt = (
        "SELECT ti.task_id, ti.region_index, x.key, x.value FROM xcom_v2 x "
        "JOIN task_instance ti ON ti.id = x.task_instance_id WHERE ti.dag_id = ?"
    )
    single = "SELECT task_id, map_index, key, value FROM xcom WHERE dag_id = ?"
    with sqlite3.connect(database) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        found = connection.execute(per_attempt if "xcom_v2" in tables else single, (dag_id,)).fetchall()
    return tuple(Row(task_id, map_index, key, _parsed(value)) for task_id, map_index, key, value in found)


def _parsed(value: Any) -> Any:
    # SQLite keeps a number that stands alone in a JSON column as that number.
    return json.loads(value) if isinstance(value, (str, bytes)) else value


def objects_of(place: Place, dag_id: str) -> frozenset[Path]:
    """All object files of a Dag."""
    return frozenset(path for path in (place.root / dag_id).rglob("*") if path.is_file())


def file_of(envelope: dict[str, Any]) -> Path:
    """The file that an envelope refers to."""
    scheme, _, path = envelope["uri"].partition("://")
    assert scheme == "file"
    return Path(path)
