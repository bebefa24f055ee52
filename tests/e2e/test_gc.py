"""All the ways in which Airflow deletes rows, on PostgreSQL and a real S3 server; then sweeps, by database and REST.

XCARGO_GC_RUNS says how many Dag runs take part, 16 where it does not.

What is expected is asked of PostgreSQL and of the bucket themselves, not of xcargo.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from demo.environment import airflow_environment
from tests.servers import Server, start
from tests.servers.postgres import Postgres
from tests.servers.postgres import run as run_postgres
from tests.servers.processes import free_ports, running

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        next(iter(importlib.metadata.distributions(name="apache-airflow-task-sdk")), None) is None,
        reason="needs Airflow 3",
    ),
]

HERE = Path(__file__).parent / "gc"
EXAMPLE = Path(__file__).parents[2] / "examples" / "dags" / "xcargo_gc.py"
RUNS = int(os.environ.get("XCARGO_GC_RUNS", "16")) // 4
"""Runs of each of the four Dags."""
PROCESSES = 2
"""So many make them."""

GRACE_SECONDS = 2

LOOPBACK = httpx.Client(trust_env=False, timeout=120)


@dataclass
class Life:
    """An Airflow whose scheduler runs where that is said, and what is asked of its database and bucket."""

    home: Path
    env: dict[str, str]
    url: str
    server: Server
    postgres: Postgres
    seconds: dict[str, float]

    def command(self, *args: str, module: str = "airflow", **env: str) -> str:
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", module, *args],
            env=self.env | {"PYTHONWARNINGS": "ignore"} | env,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        self.seconds[" ".join((module, *args[:2]))] = time.monotonic() - started
        assert done.returncode == 0, f"{args}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout

    def gc(self, *args: str, **env: str) -> dict[str, Any]:
        out = self.command("gc", "--json", "--grace", f"{GRACE_SECONDS}s", *args, module="xcargo", **env)
        report: dict[str, Any]
        (report,) = json.loads(out)
        return report

    def verify(self, *args: str, **env: str) -> dict[str, int]:
        """Verdict -> how many rows got it; none of them a bad one."""
        told = json.loads(self.command("verify", "--json", *args, module="xcargo", **env))
        assert told["problems"] == []
        counts: dict[str, int] = {verdict: number for verdict, number in told["counts"].items() if number}
        return counts

    def make_runs(self, days: range) -> list[tuple[str, str]]:
        """A run of each Dag on each day. Gives their Dags and ids, by day."""
        started = time.monotonic()
        log = self.home / "runs.log"
        parts = [days[n::PROCESSES] for n in range(min(PROCESSES, len(days)))]
        told = [self.home / f"runs{n}.json" for n in range(len(parts))]
        with log.open("ab") as output:
            makers = [
                subprocess.Popen(
                    [sys.executable, HERE / "run_life.py", file, *map(str, part)],
                    env=self.env | {"PYTHONWARNINGS": "ignore"},
                    cwd=self.home,
                    stdout=output,
                    stderr=output,
                )
                for part, file in zip(parts, told, strict=True)
            ]
            try:
                assert [maker.wait(1800) for maker in makers] == [0] * len(makers), log.read_text()[-5000:]
            finally:
                for maker in makers:
                    maker.kill()
                    maker.wait()
        self.seconds["making runs"] = self.seconds.get("making runs", 0) + time.monotonic() - started
        return [tuple(run) for file in told for run in json.loads(file.read_text())]

    @contextmanager
    def scheduler(self, **env: str) -> Iterator[None]:
        """A scheduler with LocalExecutor while the block lasts."""
        command = [sys.executable, "-m", "airflow", "scheduler", "--skip-serve-logs"]
        with running(command, is_ready=lambda: True, env=self.env | env):
            yield

    def wait_for(self, runs: list[tuple[str, str]], seconds: float = 300) -> None:
        """Until these runs have succeeded."""
        deadline = time.monotonic() + seconds
        for dag, run in runs:
            path = f"/api/v2/dags/{dag}/dagRuns/{quote(run, safe='')}"
            while (state := self.rest("GET", path)["state"]) != "success":
                assert state in ("queued", "running"), state
                assert time.monotonic() < deadline
                time.sleep(0.5)

    def rest(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"}
        answer = LOOPBACK.request(method, self.url + path, headers=headers, json=body)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    @cached_property
    def token(self) -> str:
        deadline = time.monotonic() + 240
        while True:
            try:
                return str(LOOPBACK.get(f"{self.url}/auth/token").json()["access_token"])
            except httpx.TransportError:  # the API server is still importing
                assert time.monotonic() < deadline
                time.sleep(0.5)

    def objects(self) -> set[str]:
        """What lies in the bucket, but for the note that says whose it is."""
        return {key for key in self.server.list_keys() if key.startswith("demo/")} - {"demo/~xcargo/owner.json"}

    def referenced(self, *, archives: bool = True) -> set[str]:
        """What rows name, asked of PostgreSQL."""
        names = self.postgres.sql(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' AND (table_name = 'xcom'"
            f" OR ({str(archives).lower()} AND table_name LIKE '\\_airflow\\_deleted\\_\\_xcom\\_\\_%'))",
            database="airflow",
        ).split()
        found: set[str] = set()
        for name in names:
            told = self.postgres.sql(f"SELECT value->>'uri' FROM \"{name}\" WHERE value ? 'uri'", database="airflow")
            found |= {uri.removeprefix(f"s3://{self.server.bucket}/") for uri in told.split()}
        return found

    def now(self) -> str:
        """The time by which 'db clean' judges, after a moment."""
        time.sleep(1)
        return self.postgres.sql("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS+00:00')").strip()


def in_key(run: str) -> str:
    """A run's id as it is in object keys."""
    return quote(run, safe="").replace("%", "~")


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    """An Airflow on PostgreSQL, its objects on S3; its API server runs."""
    home = tmp_path_factory.mktemp("gc")
    dags = home / "dags"
    dags.mkdir()
    (dags / "gc_life.py").write_text((HERE / "gc_life.py").read_text())
    with run_postgres() as postgres, start("s3") as server:
        env = {
            "AIRFLOW__CORE__XCOM_BACKEND": "xcargo.XComBackend",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": postgres.create("airflow"),
            "AIRFLOW__XCARGO__PATH": server.root,
            **server.env(),
        }
        (port,) = free_ports(1)
        life = Life(home, airflow_environment(home, dags, port, env), f"http://127.0.0.1:{port}", server, postgres, {})
        life.command("db", "migrate")
        api = [sys.executable, "-m", "airflow", "api-server", "--host", "127.0.0.1", "--port", str(port)]
        with running(api, is_ready=lambda: True, env=life.env):
            yield life


def delete_in_all_ways(life: Life) -> None:
    """The commands of Airflow, and the requests that its UI sends."""
    first = life.make_runs(range(1))
    unarchived_before = life.now()
    first += life.make_runs(range(1, 2))
    archived_before = life.now()
    rest = life.make_runs(range(2, RUNS))
    assert len(life.objects()) == 12 * 4 * RUNS
    assert len(life.referenced()) == 11 * 4 * RUNS  # all but the first of 'twice'
    assert life.verify() == {"ok": 11 * 4 * RUNS}
    (gone, changed), cleared = ([run for dag, run in rest if dag == f"life_{name}"][:2] for name in "ac")
    life.command("dags", "delete", "--yes", "life_b")
    life.rest("DELETE", "/api/v2/dags/life_d")
    life.rest("DELETE", f"/api/v2/dags/life_a/dagRuns/{quote(gone, safe='')}")
    entries = f"/api/v2/dags/life_a/dagRuns/{quote(changed, safe='')}/taskInstances"
    life.rest("DELETE", f"{entries}/parts/xcomEntries/return_value")
    life.rest("PATCH", f"{entries}/twice/xcomEntries/twice", {"value": "small"})
    for clean, more in ((unarchived_before, ["--skip-archive"]), (archived_before, [])):
        life.command("db", "clean", "--clean-before-timestamp", clean, "--tables", "xcom", "--yes", *more)
    assert not any(in_key(run) in uri for _, run in first for uri in life.referenced(archives=False))
    life.command("tasks", "test", "life_c", "parts", "2026-02-03")  # a run that it deletes again
    clear_and_run_again(life, cleared)
    time.sleep(GRACE_SECONDS + 2)


def clear_and_run_again(life: Life, runs: list[str]) -> None:
    """By the command and as the UI does it, beside a scheduler: what was pushed before is nobody's then."""
    by_command, by_request = runs
    day = life.rest("GET", f"/api/v2/dags/life_c/dagRuns/{quote(by_command, safe='')}")["logical_date"]

    def rows_of(run: str) -> set[str]:
        return {uri for uri in life.referenced(archives=False) if f"life_c/{in_key(run)}/" in uri}

    before = {run: rows_of(run) for run in runs}
    with life.scheduler():
        life.command("tasks", "clear", "--yes", "--start-date", day, "--end-date", day, "life_c")
        whole = {"dag_run_id": by_request, "dry_run": False, "only_failed": False, "reset_dag_runs": True}
        life.rest("POST", "/api/v2/dags/life_c/clearTaskInstances", whole)
        life.wait_for([("life_c", run) for run in runs])
    for run in runs:
        assert len(before[run]) == len(rows_of(run)) == 11
        assert not before[run] & rows_of(run)


def test_a_sweep_leaves_exactly_what_rows_refer_to(life: Life) -> None:
    """The dry run shows the exact orphans, applying takes them and nothing else; rows in archives count as rows.

    Then every object that a row refers to is read back and is what was stored.
    """
    delete_in_all_ways(life)
    objects, referenced = life.objects(), life.referenced()
    orphans = objects - referenced
    assert referenced < objects
    assert len(orphans) > 12 * RUNS
    dry = life.gc("--max-share", "1")
    assert dry["objects"]["orphan"]["objects"] == len(orphans)
    assert dry["objects"]["live"]["objects"] == len(referenced)
    assert dry["missing"] == 0
    assert life.objects() == objects
    done = life.gc("--max-share", "1", "--apply", "--yes")
    assert done["outcomes"]["deleted"]["objects"] == len(orphans)
    assert life.objects() == referenced
    assert life.verify() == {"ok": len(referenced)}
    again = life.gc("--apply", "--yes")
    assert again["objects"]["orphan"]["objects"] == 0
    print(json.dumps({"runs": 4 * RUNS, "seconds": life.seconds, "objects": len(objects), "orphans": len(orphans)}))


def test_the_same_through_the_rest_api(life: Life) -> None:
    """Where there is no database: the archives are gone, more runs too."""
    life.command("db", "drop-archived", "--yes")
    (run, *_) = [r["dag_run_id"] for r in life.rest("GET", "/api/v2/dags/life_c/dagRuns?limit=100")["dag_runs"]]
    life.rest("DELETE", f"/api/v2/dags/life_c/dagRuns/{quote(run, safe='')}")
    time.sleep(GRACE_SECONDS + 2)
    objects, referenced = life.objects(), life.referenced()
    assert referenced < objects
    via = ["--via", "rest", "--api-url", life.url, "--all-dags", "--max-share", "1"]
    nowhere = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql+psycopg2://nobody@127.0.0.1:9/none"}
    token = {"XCARGO_API_TOKEN": life.token}
    dry = life.gc(*via, **token, **nowhere)
    assert dry["objects"]["orphan"]["objects"] == len(objects - referenced)
    life.gc(*via, "--apply", "--yes", **token, **nowhere)
    assert life.objects() == referenced
    assert life.verify(*via[:4], **token, **nowhere) == {"ok": len(referenced)}
    print(json.dumps({"seconds": life.seconds, "objects": len(objects), "live": len(referenced)}))


def test_the_maintenance_dag_sweeps_from_workers(life: Life) -> None:
    """The example's Dag, whose tasks have no database: split, planned, judged, swept side by side, told in XComs."""
    for dag in ("life_a", "life_c"):
        (run, *_) = [r["dag_run_id"] for r in life.rest("GET", f"/api/v2/dags/{dag}/dagRuns?order_by=-id")["dag_runs"]]
        life.rest("DELETE", f"/api/v2/dags/{dag}/dagRuns/{quote(run, safe='')}")
    time.sleep(GRACE_SECONDS + 2)
    orphans = life.objects() - life.referenced()
    assert len(orphans) > 11
    text = EXAMPLE.read_text()
    for was, now in {
        "APPLY = False": "APPLY = True",
        "MAX_SHARE = 0.5": "MAX_SHARE = 1.0",
        '"24h"': f'"{GRACE_SECONDS}s"',
        '"all_dags": False': '"all_dags": True',
        '"@weekly"': "None",
    }.items():
        assert text.count(was) == 1
        text = text.replace(was, now)
    (life.home / "dags" / "xcargo_gc.py").write_text(text)
    life.command("dags", "reserialize")
    made = life.rest("POST", "/api/v2/dags/xcargo_gc/dagRuns", {"logical_date": None})["dag_run_id"]
    connection = {"conn_type": "http", "host": life.url, "password": life.token}
    with life.scheduler(AIRFLOW_CONN_AIRFLOW_API=json.dumps(connection)):
        life.wait_for([("xcargo_gc", made)])
    assert life.objects() == life.referenced()
    cat = ("cat", "xcargo_gc", made)
    judged = json.loads(life.command(*cat, "judge", module="xcargo"))
    assert judged["orphan"]["objects"] == len(orphans)
    (report,) = json.loads(life.command(*cat, "sweep", "--map-index", "0", "--head", "0", module="xcargo"))
    assert report["prefixes"] == ["life_a"]
    assert report["outcomes"]["deleted"]["objects"] == sum(key.startswith("demo/life_a/") for key in orphans)
