"""Airflow 2 upgraded to 3 by its own ``db migrate``, with rows of every backend in its database: `make upgrades`."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.matrix.environments import CHECKOUT, clean_environ, make
from tests.matrix.interpreters import find_interpreter
from tests.matrix.releases import select
from tests.servers.postgres import run as run_postgres

DAGS = Path(__file__).parent / "dags"
KEY = "kTtQGSAbZ3CA/hzxlPpNvN1g+AX0Jf8ZqUoBxbNH7ck="
BACKENDS = {
    "common_io": "airflow.providers.common.io.xcom.backend.XComObjectStorageBackend",
    "stock": "airflow.models.xcom.BaseXCom",
    "pickled": "airflow.models.xcom.BaseXCom",
}


class Deployment:
    """A metadata database, a folder of objects, and the Airflow that is installed for it."""

    def __init__(self, home: Path, url: str) -> None:
        self.home = home
        self.objects = home / "objects"
        self.common = home / "common"
        for folder in (self.objects, self.common):
            folder.mkdir()
        self._env = clean_environ() | {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__XCOM_BACKEND": "xcargo.XComBackend",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url,
            "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH": self.common.as_uri(),
            "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD": "1000",
            "AIRFLOW__XCARGO__PATH": self.objects.as_uri(),
            "AIRFLOW__XCARGO__THRESHOLD_BYTES": "1000",
            "AIRFLOW__XCARGO__KEEP_KEY_ORDER": "True",
            "AIRFLOW__XCARGO__LEGACY_REFERENCES": self.common.as_uri(),
            "AIRFLOW__XCARGO__ENCRYPTION_KEYS": f"k={KEY}",
            "AIRFLOW__XCARGO__ROUTES": json.dumps(
                [
                    {"name": "guarded", "dag": "upgrade_guarded", "encryption_key": "k", "threshold_bytes": 1000},
                    {"name": "rest", "encryption_key": "none"},
                ]
            ),
            "NO_GCE_CHECK": "true",
            "PYTHONPATH": str(CHECKOUT),
            "PYTHONWARNINGS": "ignore",
            "SCARF_ANALYTICS": "false",
        }
        self.python = ""

    def install(self, airflow: str) -> None:
        """From now on this release runs, on the database that it has migrated."""
        (release,) = select([airflow])
        interpreter = find_interpreter(release)
        assert interpreter is not None
        self.python = str(make(release, interpreter))
        self.run("-m", "airflow", "db", "migrate")

    def run(self, *arguments: str, env: Mapping[str, str] = {}, code: int = 0) -> str:
        """What a process of the installed Airflow prints."""
        done = subprocess.run(
            [self.python, *arguments],
            env=self._env | dict(env),
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == code, done.stdout[-8000:] + done.stderr[-8000:]
        return done.stdout

    def push(self, kind: str) -> str:
        """Run the Dag that pushes the values of a kind. Gives the id of its run."""
        env = {}
        if kind in BACKENDS:
            env["AIRFLOW__CORE__XCOM_BACKEND"] = BACKENDS[kind]
        if kind == "pickled":
            env["AIRFLOW__CORE__ENABLE_XCOM_PICKLING"] = "True"
        if kind == "guarded":
            env["AIRFLOW__XCARGO__SIGNING_KEY"] = KEY
        return self.run(str(DAGS / "upgrade_dags.py"), kind, env=env).split()[-1]

    def pull(self, runs: dict[str, str], **env: str) -> dict[str, dict[str, str]]:
        """Kind -> task -> what a real task says of the value that it pulled."""
        report = self.home / "report"
        report.unlink(missing_ok=True)
        env |= {"UPGRADE_RUNS": json.dumps(runs), "UPGRADE_REPORT": str(report)}
        self.run(str(DAGS / "upgrade_dags.py"), "pull", env=env)
        found: dict[str, dict[str, str]] = {}
        for line in report.read_text().splitlines():
            kind, name, outcome = json.loads(line)
            found.setdefault(kind, {})[name] = outcome
        return found

    def json(self, *arguments: str) -> Any:
        """What a command of xcargo prints."""
        printed = self.run("-m", "xcargo", *arguments, "--json")
        return json.loads(printed[re.search(r"^[{\[]$", printed, re.MULTILINE).start() :])  # type: ignore[union-attr]

    def files(self) -> set[Path]:
        """The objects."""
        return {path for path in self.objects.rglob("*") if path.is_file() and "~xcargo" not in path.parts}


KINDS = ("xcargo", "guarded", "common_io", "stock", "pickled")
SORTED = {"common_io": ["small"], "stock": ["small", "when"]}
"""What comes back equal: PostgreSQL sorts keys that nobody has noted; Airflow's own times are pendulum's."""


@pytest.mark.parametrize("releases", [("2.11", "3.3"), ("2.9", "2.11", "3.3")], ids=" ".join)
def test_rows_of_every_backend_outlive_the_upgrade(releases: tuple[str, ...], tmp_path: Path) -> None:
    """Real tasks pull them on Airflow 3; sweeps, commands and a migration of xcargo know them.

    But for pickled rows, which Airflow takes out of the table.
    """
    with run_postgres() as server:
        deployment = Deployment(tmp_path, server.create("airflow"))
        deployment.install(releases[0])
        runs = {kind: deployment.push(kind) for kind in KINDS}
        objects = deployment.files()
        for release in releases[1:]:
            deployment.install(release)
        found = deployment.pull(runs)
        assert found.pop("pickled") == {"set": "not None"}
        equal = {kind: sorted(n for n, outcome in tasks.items() if outcome == "equal") for kind, tasks in found.items()}
        assert equal == {"xcargo": [], "guarded": []} | SORTED, found
        assert {outcome for tasks in found.values() for outcome in tasks.values()} == {"exact", "equal"}, found
        signed = deployment.pull({"guarded": runs["guarded"]}, AIRFLOW__XCARGO__SIGNING_KEY=KEY)
        assert signed == {"guarded": found["guarded"]}

        (report,) = deployment.json("gc", "--grace", "0")
        counts = {name: entry["objects"] for name, entry in report["objects"].items() if entry["objects"]}
        assert counts == {"live": len(objects)}
        assert deployment.json("verify")["counts"]["ok"] == len(objects)
        shown = deployment.run("-m", "xcargo", "cat", "upgrade_xcargo", runs["xcargo"], "large", "--head", "300")
        assert "text 0: NaN" in shown
        moved = deployment.json("migrate", "--apply")["counts"]
        assert {entry["from"]: entry["rows"] for entry in moved if entry["status"] == "moved"} == {
            "database": 1,
            "legacy": 1,
        }
        others = {kind: runs[kind] for kind in SORTED}
        moved_rows = deployment.pull(others, AIRFLOW__XCARGO__LEGACY_REFERENCES="")
        assert moved_rows == {kind: found[kind] for kind in others}

        server.sql("DELETE FROM dag_run WHERE dag_id = 'upgrade_xcargo'", database="airflow")
        deployment.json("gc", "--grace", "0", "--apply", "--yes")
        assert {path for path in deployment.files() if "upgrade_guarded" in path.parts} == {
            path for path in objects if "upgrade_guarded" in path.parts
        }
        assert not any("upgrade_xcargo" in path.parts for path in deployment.files())


def test_on_sqlite_airflow_deletes_all_rows_and_a_sweep_takes_nothing(tmp_path: Path) -> None:
    """A database without a reference is no proof that the objects are needed no more."""
    deployment = Deployment(tmp_path, f"sqlite:///{tmp_path}/airflow.db")
    deployment.install("2.11")
    deployment.push("xcargo")
    objects = deployment.files()
    deployment.install("3.3")
    refused = deployment.run("-m", "xcargo", "gc", "--apply", "--yes", "--grace", "0", "--max-share", "1", code=3)
    assert ": 0 live references" in refused
    assert deployment.files() == objects
