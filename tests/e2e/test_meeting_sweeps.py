"""Sweeps on two machines and a migration meet, while workers push; some of the clocks are wrong.

What is expected is asked of PostgreSQL and of the store themselves. XCARGO_CLOCKS=1 (`make clocks`) adds the wrong
clocks, XCARGO_MEETING says for how many seconds the workers push.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.metadata import Metadata
from tests.servers.clock import wrong_clock
from tests.servers.processes import free_ports, running
from tests.servers.server import Server

pytestmark = pytest.mark.e2e

SECONDS = float(os.environ.get("XCARGO_MEETING", "20"))
GRACE_SECONDS = 12
"""Longer than the time between an object and its row, on a machine that does a lot besides."""

clocks = pytest.mark.skipif("XCARGO_CLOCKS" not in os.environ, reason="takes minutes: make clocks")


@dataclass
class Place:
    """A store, and how it is looked at from behind."""

    url: str
    keys: Callable[[], list[str]]
    connection: Any = None
    env: dict[str, str] = field(default_factory=dict)


def folder(path: Path) -> Place:
    def keys() -> list[str]:
        return [file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()]

    return Place(path.as_uri(), keys)


def bucket(server: Server, metadata: Metadata) -> Place:
    """A path of its own, since a path belongs to one database."""
    name = metadata.url.rpartition("/")[2]
    below = f"demo/{name}/"

    def keys() -> list[str]:
        return [key.removeprefix(below) for key in server.list_keys() if key.startswith(below)]

    return Place(f"{server.root}/{name}", keys, server.connection, server.env())


@contextmanager
def moto(offset: str) -> Iterator[Place]:
    """An S3 server whose clock is wrong, and which does not look at those of others."""
    import boto3

    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    client = boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="k", aws_secret_access_key="s"
    )

    def is_ready() -> bool:
        try:
            return bool(client.create_bucket(Bucket="xcom"))
        except Exception as error:  # botocore's
            raise OSError from error

    def keys() -> list[str]:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket="xcom")
        return [entry["Key"].removeprefix("demo/") for page in pages for entry in page.get("Contents", [])]

    connection = {"conn_type": "aws", "login": "k", "password": "s", "extra": {"endpoint_url": url}}
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with running(command, is_ready=is_ready, env=wrong_clock(offset)):
        yield Place("s3://conn@xcom/demo", keys, connection, {"AIRFLOW_CONN_CONN": json.dumps(connection)})


@dataclass
class Meeting:
    """What runs beside each other, and with which clocks."""

    metadata: Metadata
    place: Place
    worker_clock: str = ""
    sweeper_clock: str = ""

    def process(self, *command: str, host: str, clock: str = "") -> subprocess.CompletedProcess[str]:
        """On a machine of this name and clock."""
        here = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', host]
        env = {
            **self.metadata.env,
            **self.place.env,
            "AIRFLOW__XCARGO__PATH": f"{self.place.url}/new",
            "AIRFLOW__XCARGO__READ_PATHS": f"{self.place.url}/old",
            **(wrong_clock(clock) if clock else {}),
        }
        return subprocess.run(
            [*(here if shutil.which("unshare") and os.geteuid() == 0 else []), sys.executable, *command],
            env=env,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def gc(self, host: str) -> subprocess.CompletedProcess[str]:
        options = ["--apply", "--yes", "--json", "--grace", f"{GRACE_SECONDS}s", "--max-share", "1"]
        return self.process("-m", "xcargo", "gc", *options, host=host, clock=self.sweeper_clock)

    def migrate(self) -> subprocess.CompletedProcess[str]:
        journal = str(self.metadata.home / "journal")
        return self.process("-m", "xcargo", "migrate", "--apply", "--json", "--journal", journal, host="mover")

    def work(self, dag: str) -> Counter[str]:
        about = {
            "url": f"{self.place.url}/{'old' if dag == 'a' else 'new'}",
            "database": self.metadata.url,
            "connection": self.place.connection,
            "large": "conn@" not in self.place.url,  # moto says of all uploads that they began in 2010
        }
        done = self.process(
            *("-m", "tests.e2e.gc.worker", dag, str(SECONDS), json.dumps(about)), host=dag, clock=self.worker_clock
        )
        assert done.returncode == 0, done.stderr
        return Counter(json.loads(done.stdout.splitlines()[-1]))

    def objects(self) -> set[str]:
        return {key for key in self.place.keys() if not key.endswith("~xcargo/owner.json")}

    def referenced(self) -> set[str]:
        base = self.place.url.replace("conn@", "").replace("xcargo_s3@", "")
        return {row["uri"].removeprefix(f"{base}/") for row in self.metadata.values().values()}

    def hold(self) -> dict[str, Any]:
        """All at once, and a last sweep past the grace. Gives figures."""
        with ThreadPoolExecutor() as pool:
            workers = [pool.submit(self.work, dag) for dag in "ab"]

            def again(command: Callable[..., subprocess.CompletedProcess[str]], *args: str) -> list[Any]:
                done = []
                while not all(worker.done() for worker in workers):
                    done.append(command(*args))
                return done

            sweeps = [pool.submit(again, self.gc, host) for host in ("sweeper-a", "sweeper-b")]
            moves = pool.submit(again, self.migrate)
            figures = sum((worker.result() for worker in workers), Counter[str]())
            swept = [one for sweep in sweeps for one in sweep.result()]
            moved = moves.result()
        for one in swept:
            assert one.returncode == 0 or "Another sweep is under way" in one.stderr, one.stderr
        assert {one.returncode for one in moved} == {0}, [one.stdout + one.stderr for one in moved if one.returncode]
        missing = self.referenced() - self.objects()
        assert not missing, f"lost: {missing}"
        time.sleep(GRACE_SECONDS + 2)
        last = self.gc("sweeper-a")
        assert last.returncode == 0, last.stderr
        verified = json.loads(self.process("-m", "xcargo", "verify", "--json", host="sweeper-a").stdout)
        assert verified["problems"] == []
        assert self.objects() == self.referenced()
        deleted = sum(
            report["outcomes"]["deleted"]["objects"] for one in [*swept, last] for report in json.loads(one.stdout)
        )
        switched = sum(c["rows"] for one in moved for c in json.loads(one.stdout)["counts"] if c["status"] == "moved")
        codes = Counter(one.returncode for one in swept)
        return {**figures, "sweeps": codes, "deleted": deleted, "moved": switched, "live": len(self.referenced())}


def test_two_sweeps_and_a_migration_meet_while_workers_push(postgres_metadata: Metadata, s3_server: Server) -> None:
    """Nothing that a row refers to is deleted, and past the grace nothing else is left, unfinished uploads neither."""
    figures = Meeting(postgres_metadata, bucket(s3_server, postgres_metadata)).hold()
    print(figures)
    assert sum(figures["sweeps"].values()) >= 2
    assert min(figures[what] for what in ("push", "crash", "delete row", "deleted", "moved", "live")) > 0


@clocks
@pytest.mark.parametrize(("worker", "sweeper"), [("+10m", "-10m"), ("-10m", "+10m")])
def test_the_same_with_clocks_that_the_store_just_accepts(
    postgres_metadata: Metadata, s3_server: Server, worker: str, sweeper: str
) -> None:
    """S3 refuses signatures that are more than a quarter of an hour off."""
    print(Meeting(postgres_metadata, bucket(s3_server, postgres_metadata), worker, sweeper).hold())


@clocks
@pytest.mark.parametrize(("worker", "sweeper"), [("+2h", "-2h"), ("-2h", "+2h")])
def test_the_same_with_clocks_that_are_hours_off(
    postgres_metadata: Metadata, tmp_path: Path, worker: str, sweeper: str
) -> None:
    """In a folder, whose server says when a file was written."""
    print(Meeting(postgres_metadata, folder(tmp_path / "xcom"), worker, sweeper).hold())


@clocks
@pytest.mark.parametrize("offset", ["+2h", "-2h"])
def test_the_same_with_a_store_whose_clock_is_hours_off(postgres_metadata: Metadata, offset: str) -> None:
    """Objects are as old as the store's own clock says."""
    with moto(offset) as place:
        print(Meeting(postgres_metadata, place).hold())


@clocks
@pytest.mark.parametrize("offset", ["+2h", "-2h"])
def test_a_sweep_whose_clock_the_store_refuses_deletes_nothing(
    postgres_metadata: Metadata, s3_server: Server, offset: str
) -> None:
    """It ends with an error that tells of the clock."""
    meeting = Meeting(postgres_metadata, bucket(s3_server, postgres_metadata), sweeper_clock=offset)
    done = meeting.gc("sweeper-a")
    assert done.returncode == 4
    assert "clock" in done.stderr
