"""Results that real tasks reuse over S3 and files, on one Airflow over Google Cloud Storage and Azure too.

Which requests tasks make depends on Airflow; what each costs on each cloud is in tests/unit/test_memo.py. The first run
is in another process than those after it.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import pytest
from airflow import __version__ as airflow_version

from tests.servers import Kind, Server, start

from .conftest import HERE
from .settle import Place

CLOUDS: tuple[Kind, ...] = ("s3", "gcs", "azure") if airflow_version.startswith("3.3.") else ("s3",)
STORES = (*CLOUDS, "file")
DAG_FILE = HERE / "memo_stores" / "dags" / "contract_memo_stores.py"
PLACE = re.compile(r"(?P<entry>~xcargo/memo/)?contract_memo_(?:s3|gcs|azure|file)/(?(entry)|[^/]+/)(?P<task>\w+)/")


@dataclass(frozen=True)
class Folder:
    """Objects in files, for those who damage them."""

    path: Path

    def list_keys(self) -> list[str]:
        return [str(path.relative_to(self.path)) for path in self.path.rglob("*") if path.is_file()]

    def raw_get(self, key: str) -> bytes:
        return (self.path / key).read_bytes()

    def raw_put(self, key: str, data: bytes) -> None:
        (self.path / key).write_bytes(data)

    def raw_delete(self, key: str) -> None:
        (self.path / key).unlink()


@dataclass(frozen=True)
class Run:
    """What a run over one store did."""

    state: str
    ran: list[str]
    log: str
    requests: list[str]
    """Method, task, and whether it is for an entry or a result, as the server saw them. Of files none is seen."""


def place_of(path: str) -> str | None:
    """The task, and whether it is an entry or a result of it."""
    found = PLACE.search(unquote(path))
    return found and f"{found['task']} {'entry' if found['entry'] else 'result'}"


def damage(objects: Server | Folder) -> None:
    """The entry of the first task is cut off, that of the second forged, and the results of the third are gone."""
    for key in objects.list_keys():
        place = place_of(key)
        if place == "extract entry":
            objects.raw_put(key, objects.raw_get(key)[:-100])
        elif place == "clean entry":
            objects.raw_put(key, objects.raw_get(key).replace(b'"map_index":-1', b'"map_index":3'))
        elif place == "train result":
            objects.raw_delete(key)


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Server]]:
    with ExitStack() as stack:
        yield {kind: stack.enter_context(start(kind, count=True)) for kind in CLOUDS}


@pytest.fixture(scope="module")
def runs(place: Place, servers: dict[str, Server], database: Path) -> list[dict[str, Run]]:
    """The first run; in another process one with another argument of the last task; and that again, all damaged."""
    routes = [{"name": kind, "dag": f"contract_memo_{kind}", "path": servers[kind].root} for kind in CLOUDS]
    env = {
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAG_FILE.parent),
        "CONTRACT_STORES": " ".join(STORES),
        "AIRFLOW__XCARGO__ROUTES": json.dumps(routes),
        "AIRFLOW__XCARGO__SIGNING_KEY": base64.b64encode(os.urandom(32)).decode(),
    }
    for server in servers.values():
        env |= server.env()

    def start_python(rounds: str) -> subprocess.Popen[str]:
        command, variables = [sys.executable, str(DAG_FILE)], os.environ | env | {"CONTRACT_ROUNDS": rounds}
        return subprocess.Popen(command, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(python: subprocess.Popen[str]) -> dict[str, Run]:
        assert python.stdin
        assert python.stdout
        for server in servers.values():
            server.reset_requests()
        print(file=python.stdin, flush=True)
        told = ""
        while not told.endswith("ENDS all\n"):
            line = python.stdout.readline()
            assert line, told[-20_000:]
            told += line
        found = {}
        for log, store, state in zip(*[iter(re.split(r"ENDS (\w+) (\w+)\n", told))] * 3):
            requests = [
                f"{method} {'a list' if 'list' in path else place_of(path)}"
                for method, path in (servers[store].requests() if store in servers else [])
            ]
            found[store] = Run(state, re.findall(rf"RUNS {store} (\w+)", log), log, requests)
        return found

    with start_python("1") as python:
        found = [run(python)]
    with start_python("2") as python:
        found.append(run(python))
        for server in servers.values():
            damage(server)
        damage(Folder(place.root))
        return [*found, run(python)]


@pytest.mark.parametrize("store", STORES)
def test_what_has_not_changed_is_copied_by_the_store(runs: list[dict[str, Run]], store: str) -> None:
    """Of three tasks the one that changed runs again; the others cost three requests, and no byte of their results."""
    first, second, _ = (run[store] for run in runs)
    assert (first.state, first.ran) == ("success", ["extract", "clean", "train"])
    assert (second.state, second.ran) == ("success", ["train"])
    assert second.log.count("xcargo reused the result") == 2
    assert "xcargo computes the result (changed: argument rounds)" in second.log
    if store != "file":
        expected = [
            *("GET extract entry", "PUT extract result", "HEAD extract result"),
            *("GET clean entry", "PUT clean result", "HEAD clean result"),
            *("GET train entry", "GET a list", "GET train entry"),
            *("GET clean result", "PUT train result", "PUT train entry"),
            "GET train result",  # by the last task
        ]
        if airflow_version.startswith("2."):  # it loads arguments before it calls the function
            expected.append("GET extract result")
        assert sorted(second.requests) == sorted(expected)


@pytest.mark.parametrize("store", STORES)
def test_what_is_damaged_is_computed_again(runs: list[dict[str, Run]], store: str) -> None:
    """An entry that is cut off or forged, and a result that is gone: a line in the log says which."""
    run = runs[2][store]
    assert (run.state, run.ran) == ("success", ["extract", "clean", "train"])
    for line in (
        rf"does not use an entry of memoize: The entry is not JSON \[~xcargo/memo/contract_memo_{store}/extract/",
        rf"does not use an entry of memoize: .*signature.*\[~xcargo/memo/contract_memo_{store}/clean/",
        rf"computes the result again, since an earlier one cannot be used: .*/contract_memo_{store}/.*/train/",
    ):
        assert re.search(line, run.log)
