"""What several suites share: one server of each kind a session, hypothesis profiles."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.servers import Kind, Server, start
from tests.servers.postgres import Postgres
from tests.servers.postgres import run as run_postgres
from tests.servers.processes import StartError

# Importing airflow writes into its home: never into the user's.
_HOME = tempfile.mkdtemp(prefix="xcargo-tests-")
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
os.environ["AIRFLOW_HOME"] = _HOME

settings.register_profile("default", max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


class Connection:
    """What an Airflow connection gives, made of a server's own description of it."""

    def __init__(self, fields: dict[str, Any], conn_id: str = "test") -> None:
        self.conn_id = conn_id
        self.conn_type = fields["conn_type"]
        self.host = fields.get("host")
        self.login = fields.get("login")
        self.password = fields.get("password")
        self.schema = fields.get("schema")
        self.port = fields.get("port")
        self.extra_dejson = fields.get("extra", {})


def _running(kind: Kind) -> Iterator[Server]:
    with start(kind, count=True) as server:
        yield server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Server]:
    """A real S3 server that checks signatures."""
    yield from _running("s3")


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[Server]:
    """A real Google Cloud Storage emulator."""
    yield from _running("gcs")


@pytest.fixture(scope="session")
def azure_server() -> Iterator[Server]:
    """A real Azure Blob Storage emulator."""
    yield from _running("azure")


@pytest.fixture(params=["s3", "gcs", "azure"])
def any_server(request: pytest.FixtureRequest) -> Server:
    """Each kind of server in turn."""
    server: Server = request.getfixturevalue(f"{request.param}_server")
    return server


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL."""
    try:
        with run_postgres() as server:
            yield server
    except StartError as error:
        if error.may_retry:
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def _templates(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from tests.metadata import Templates

    return Templates(tmp_path_factory.mktemp("metadata"))


@pytest.fixture
def sqlite_metadata(_templates: Any, tmp_path: Path) -> Iterator[Any]:
    """A metadata database on SQLite."""
    from tests.metadata import disposed

    with disposed(_templates.sqlite(tmp_path)) as metadata:
        yield metadata


@pytest.fixture
def postgres_metadata(_templates: Any, postgres: Postgres, tmp_path: Path) -> Iterator[Any]:
    """A metadata database on PostgreSQL."""
    from tests.metadata import disposed

    with disposed(_templates.postgres(postgres, tmp_path)) as metadata:
        yield metadata


@pytest.fixture
def mysql_metadata(_templates: Any, tmp_path: Path) -> Iterator[Any]:
    """A metadata database on the MySQL that XCARGO_MYSQL names."""
    from tests.metadata import disposed

    with disposed(_templates.mysql(os.environ["XCARGO_MYSQL"], tmp_path)) as metadata:
        yield metadata


@pytest.fixture(params=["sqlite", "postgres", *(["mysql"] if "XCARGO_MYSQL" in os.environ else [])])
def metadata(request: pytest.FixtureRequest) -> Any:
    """A metadata database of each kind in turn."""
    return request.getfixturevalue(f"{request.param}_metadata")
