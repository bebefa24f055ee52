"""postgres: a PostgreSQL of its own on loopback, never run by root.

Debian's package brings the programs. Where it is missing, root installs it; anybody else is told.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from demo.processes import Process

from .debian import provide
from .processes import StartError, free_ports, running, scratch_directory

_USER = "airflow"
_NOBODY = 65534


@dataclass(frozen=True)
class Postgres:
    """A running server; ``bin`` holds its programs."""

    bin: Path
    port: int
    password: str
    process: Process | None = None
    """The program, to kill it and start it again."""

    def url(self, database: str = "postgres") -> str:
        """SQLAlchemy's URL of a database."""
        return f"postgresql+psycopg2://{_USER}:{self.password}@127.0.0.1:{self.port}/{database}"

    def sql(self, *statements: str, database: str = "postgres") -> str:
        """Run statements with psql; gives what they print."""
        command = [str(self.bin / "psql"), "-h", "127.0.0.1", "-p", str(self.port), "-U", _USER, "-d", database]
        done = subprocess.run(
            [*command, "-XAtq", "-v", "ON_ERROR_STOP=1", *(part for s in statements for part in ("-c", s))],
            env={**os.environ, "PGPASSWORD": self.password},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        return done.stdout

    def is_ready(self) -> bool:
        """Whether it answers. Raises OSError while nothing listens."""
        with socket.create_connection(("127.0.0.1", self.port), 1):
            pass
        with contextlib.suppress(RuntimeError):
            return self.sql("SELECT 1") == "1\n"
        return False

    def create(self, name: str, template: str = "template1") -> str:
        """A new database. Gives its URL."""
        self.sql(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.url(name)


@contextmanager
def run(max_connections: int = 50) -> Iterator[Postgres]:
    """A PostgreSQL with its data in a scratch directory. Raises StartError where there is none and none may come."""
    programs = find_programs()
    data, password, (port,) = scratch_directory("postgres"), secrets.token_hex(16), free_ports(1)
    secret = data / "password"
    secret.write_text(password)
    cluster = data / "cluster"
    # PostgreSQL does not run as root.
    other = os.geteuid() == 0
    if other:
        os.chown(data, _NOBODY, _NOBODY)
        os.chown(secret, _NOBODY, _NOBODY)
    become = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"] if other else []
    try:
        subprocess.run(
            [
                *become,
                *map(str, (programs / "initdb", "-D", cluster, "-U", _USER)),
                *map(str, ("-A", "scram-sha-256", "--pwfile", secret, "-E", "UTF8", "--locale=C", "--no-sync")),
            ],
            check=True,
            capture_output=True,
            timeout=60,
        )
    except subprocess.CalledProcessError as error:
        shutil.rmtree(data, ignore_errors=True)
        raise StartError(f"initdb: {error.stderr.decode()}", may_retry=False) from error
    command = [*become, str(programs / "postgres"), "-D", str(cluster), "-p", str(port), "-k", str(data)]
    command += ["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", f"max_connections={max_connections}"]
    server = Postgres(programs, port, password)
    with running(command, is_ready=server.is_ready, remove=[str(data)]) as process:
        yield replace(server, process=process)


def find_programs() -> Path:
    """Folder of PostgreSQL's programs, the newest version there is."""
    found = provide(_programs, "postgresql")
    if found is None:
        raise StartError("PostgreSQL is not installed: apt-get install postgresql", may_retry=False)
    return found


def _programs() -> Path | None:
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3].split(".")[0]))
    if debian:
        return debian[-1].parent
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found else None
