"""A real metadata database: Airflow's own ``db migrate`` made its tables, on SQLite, PostgreSQL or MySQL."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tests.servers.postgres import Postgres

NOON = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
_TABLES = (
    *("dag", "dag_bundle", "dag_run", "task_instance", "xcom"),
    *("asset", "asset_state_store", "task_state_store"),  # Airflow 3.3 on
)
_DEFAULTS = {
    "dag_id": "a_dag",
    "run_id": "a_run",
    "task_id": "a_task",
    "key": "return_value",
    "map_index": -1,
    "at": NOON,
    "state": "success",
    "date": None,
}


def airflow(home: Path, url: str, *arguments: str, env: Mapping[str, str] = {}, timeout: float = 300) -> str:
    """Airflow's own command on a database. Gives what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "airflow", *arguments],
        env={**environment(home, url), **env},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return str(done.stdout)


def environment(home: Path, url: str) -> dict[str, str]:
    """The variables of a process whose Airflow uses a database."""
    bare = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW_", "AWS_", "AZURE_", "GOOGLE_"))}
    return bare | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__XCOM_BACKEND": "xcargo.XComBackend",
        "AIRFLOW__CORE__FERNET_KEY": "",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_GCE_CHECK": "true",
        "PYTHONWARNINGS": "ignore",
        "SCARF_ANALYTICS": "false",
    }


@dataclass
class Metadata:
    """One database, and rows to put into it."""

    url: str
    home: Path
    engine: Any = field(init=False)

    def __post_init__(self) -> None:
        self.engine = sa.create_engine(self.url)

    @property
    def env(self) -> dict[str, str]:
        return environment(self.home, self.url)

    def airflow(self, *arguments: str, **options: Any) -> str:
        """Airflow's own command on this database."""
        return airflow(self.home, self.url, *arguments, **options)

    @cached_property
    def _tables(self) -> dict[str, sa.Table]:
        known = sa.MetaData()
        known.reflect(self.engine, only=lambda name, _: name in _TABLES)
        return dict(known.tables)

    def dag(self, dag_id: str) -> None:
        """A Dag, as the Dag processor would know it."""
        with self.engine.begin() as connection:
            bundle = self._tables["dag_bundle"]
            if not connection.execute(sa.select(bundle.c.name).where(bundle.c.name == "test")).first():
                self._insert(connection, "dag_bundle", name="test")
            self._insert(connection, "dag", dag_id=dag_id, bundle_name="test", is_paused=False, is_stale=False)

    def run(self, dag_id: str, run_id: str, *, state: str = "success", date: datetime | None = None) -> int:
        """A Dag run. Gives its number."""
        with self.engine.begin() as connection:
            return self._run(connection, dag_id, run_id, state, date)

    def push(self, value: Any, **where: Any) -> None:
        """A row of an XCom, replacing one of the same coordinate; ``where`` as for `push_many`."""
        self.push_many([(value, where)])

    def push_many(self, rows: Iterable[tuple[Any, dict[str, Any]]]) -> None:
        """Rows in one transaction, each with any part of its coordinate, ``at``, and its run's state and date."""
        with self.engine.begin() as connection:
            for value, where in rows:
                self._push(connection, value, {**_DEFAULTS, **where})

    def state(self, ref: str, *, asset: str | None = None, **where: Any) -> None:
        """A row of the state store, of a task or of an asset, that holds what its backend gave."""
        described = {**_DEFAULTS, **where}
        value = json.dumps({"__airflow_state_ref__": ref})
        row = {"key": described["key"], "value": value, "updated_at": described["at"]}
        with self.engine.begin() as connection:
            if asset is not None:
                assets = self._tables["asset"]
                number = connection.execute(sa.select(assets.c.id).filter_by(name=asset)).scalar()
                if number is None:
                    inserted = self._insert(connection, "asset", name=asset, uri=f"x://{asset}", group="asset")
                    number = inserted.inserted_primary_key[0]
                self._insert(connection, "asset_state_store", asset_id=number, **row)
                return
            run = self._run(connection, *(described[name] for name in ("dag_id", "run_id", "state", "date")))
            row |= {name: described[name] for name in ("dag_id", "run_id", "task_id", "map_index")}
            self._insert(connection, "task_state_store", dag_run_id=run, expires_at=described.get("expires_at"), **row)

    def execute(self, statement: str, **parameters: Any) -> None:
        """A statement of SQL."""
        with self.engine.begin() as connection:
            connection.execute(sa.text(statement).bindparams(**parameters))

    def values(self) -> dict[tuple[str, str, str, int, str], Any]:
        """Every row of the XCom table, as the database gives it."""
        x = self._tables["xcom"].c
        with self.engine.connect() as connection:
            rows = connection.execute(sa.select(x.dag_id, x.run_id, x.task_id, x.map_index, x.key, x.value))
            return {tuple(row[:5]): row[5] for row in rows}

    def _push(self, connection: Any, value: Any, described: dict[str, Any]) -> None:
        number = self._run(connection, described["dag_id"], described["run_id"], described["state"], described["date"])
        tasks, xcoms = self._tables["task_instance"], self._tables["xcom"]
        where = {name: described[name] for name in ("dag_id", "run_id", "task_id", "map_index")}
        if not connection.execute(sa.select(tasks.c.id).filter_by(**where)).first():
            task_id = uuid.uuid4() if isinstance(tasks.c.id.type, sa.Uuid) else uuid.uuid4().hex
            self._insert(connection, "task_instance", id=task_id, try_number=1, state="success", **where)
        row = {**where, "key": described["key"]}
        connection.execute(xcoms.delete().filter_by(**row))
        self._insert(connection, "xcom", dag_run_id=number, value=value, timestamp=described["at"], **row)

    def _run(self, connection: Any, dag_id: str, run_id: str, state: str, date: datetime | None) -> int:
        runs = self._tables["dag_run"]
        found = connection.execute(sa.select(runs.c.id).filter_by(dag_id=dag_id, run_id=run_id)).scalar()
        if found is None:
            found = self._insert(
                connection,
                "dag_run",
                dag_id=dag_id,
                run_id=run_id,
                run_type="manual",
                state=state,
                logical_date=date,
                run_after=date or NOON,
                start_date=date or NOON,
                end_date=(date or NOON) if state in ("success", "failed") else None,
            ).inserted_primary_key[0]
        return int(found)

    def _insert(self, connection: Any, name: str, /, **values: Any) -> Any:
        """Insert, with a value of each column's type where it must have one."""
        table = self._tables[name]
        for column in table.c:
            needed = not column.nullable and column.server_default is None and column.name not in values
            if needed and not (column.primary_key and isinstance(column.type, sa.Integer)):
                values[column.name] = _something(column.type)
        return connection.execute(table.insert().values(**values))


def _something(kind: Any) -> Any:
    if isinstance(kind, sa.Boolean):
        return False
    if isinstance(kind, (sa.Integer, sa.Float)):
        return 1
    if isinstance(kind, sa.DateTime):
        return NOON
    if isinstance(kind, sa.JSON):
        return {}
    return "x"


class Templates:
    """Migrated databases, made once and copied."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._count = 0
        self._mysql_tables: list[str] = []

    @cached_property
    def _sqlite(self) -> Path:
        home = self._home / "sqlite"
        home.mkdir()
        airflow(home, f"sqlite:///{home}/airflow.db", "db", "migrate")
        return home / "airflow.db"

    def sqlite(self, home: Path) -> Metadata:
        """A fresh SQLite database in ``home``."""
        shutil.copy(self._sqlite, home / "airflow.db")
        return Metadata(f"sqlite:///{home}/airflow.db", home)

    def postgres(self, server: Postgres, home: Path) -> Metadata:
        """A fresh PostgreSQL database."""
        if not self._count:
            airflow(home, server.create("template_airflow"), "db", "migrate")
        self._count += 1
        return Metadata(server.create(f"airflow_{self._count}", "template_airflow"), home)

    def mysql(self, server: str, home: Path) -> Metadata:
        """A fresh MySQL database, which replaces the one before."""
        url = sa.make_url(server)
        engine = sa.create_engine(url)
        with engine.begin() as connection:
            if not self._mysql_tables:
                template = _new_mysql(connection, "xcargo_template")
                airflow(home, url.set(database=template).render_as_string(hide_password=False), "db", "migrate")
                connection.execute(sa.text(f"USE {template}"))
                for (name,) in connection.execute(sa.text("SHOW TABLES")).all():
                    self._mysql_tables.append(connection.execute(sa.text(f"SHOW CREATE TABLE `{name}`")).one()[1])
            fresh = _new_mysql(connection, "xcargo_airflow")
            connection.execute(sa.text(f"USE {fresh}"))
            connection.execute(sa.text("SET foreign_key_checks = 0"))
            for statement in self._mysql_tables:
                connection.exec_driver_sql(statement.replace("%", "%%"))
            connection.execute(sa.text("INSERT INTO alembic_version SELECT * FROM xcargo_template.alembic_version"))
        engine.dispose()
        return Metadata(url.set(database=fresh).render_as_string(hide_password=False), home)


def _new_mysql(connection: Any, name: str) -> str:
    connection.execute(sa.text(f"DROP DATABASE IF EXISTS {name}"))
    connection.execute(sa.text(f"CREATE DATABASE {name} CHARACTER SET utf8mb4"))
    return name


@contextmanager
def disposed(metadata: Metadata) -> Iterator[Metadata]:
    """The database, its connections closed at the end."""
    try:
        yield metadata
    finally:
        metadata.engine.dispose()
