"""The explorer's answers in a real API server over PostgreSQL, its values in a real S3 server behind a proxy."""

from __future__ import annotations

import importlib.metadata
import json
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pytest

from tests.metadata import disposed
from tests.servers import Fault, FaultProxy, start
from tests.servers.postgres import Postgres
from tests.servers.processes import free_ports, running
from tests.unit.conftest import make_pipeline
from xcargo.model.coordinate import Coordinate

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        next(iter(importlib.metadata.distributions(name="apache-airflow-task-sdk")), None) is None,
        reason="needs Airflow 3",
    ),
]

DAG, RUN = "a_dag", "manual__2026-01-01T00:00:00+00:00"
ROWS, BATCHES = 100_000, 20
GROWTH_BYTES = 128 * 1024 * 1024
"""What is kept for the next pages, and as much for what four looks have in hand."""

LOOPBACK = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Api:
    """The explorer below a URL, asked as an admin."""

    url: str
    token: str
    proxy: FaultProxy
    pid: int

    def get(self, route: str, task: str = "", headers: dict[str, str] | None = None, **query: Any) -> tuple[int, Any]:
        """Status and answer of a route of the Dag."""
        value = {"run_id": RUN, "task_id": task, "key": "return_value"} if task else {}
        text = urllib.parse.urlencode(value | query)
        request = urllib.request.Request(
            f"{self.url}/xcargo/api/dags/{DAG}/{route}?{text}",
            headers={"Authorization": f"Bearer {self.token}", **(headers or {})},
        )
        try:
            with LOOPBACK.open(request, timeout=90) as answer:
                status, body = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, body = error.code, error.read()
        return status, json.loads(body) if body[:1] in (b"{", b"[") else body


def table() -> Any:
    """Rows in batches, as a task would hand them on; 118 MB of them."""
    schema = pa.schema([("id", pa.int64()), *((f"x{n}", pa.float64()) for n in range(5)), ("name", pa.string())])
    numbers, names = pa.array(np.arange(ROWS) % 1000 / 8), pa.array([f"name {n % 500}" for n in range(ROWS)])

    def batches() -> Iterator[Any]:
        for n in range(BATCHES):
            ids = pa.array(np.arange(n * ROWS, (n + 1) * ROWS))
            yield pa.record_batch([ids, *[numbers] * 5, names], schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


@pytest.fixture(scope="module")
def api(_templates: Any, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """Values of each kind, and an API server that reaches them through a proxy."""
    home = tmp_path_factory.mktemp("explorer-api")
    with (
        start("s3") as server,
        FaultProxy(server.endpoint) as proxy,
        disposed(_templates.postgres(postgres, home)) as db,
    ):
        pipeline = make_pipeline(server.root, connection=server.connection)
        values = {
            "table": table(),
            "tree": {f"key {n}": [n, "text ö", None] for n in range(3000)},
            "array": np.arange(60_000.0).reshape(200, 300),
            "bytes": b"bytes " * 2000,
        }
        db.dag(DAG)
        for task, value in values.items():
            db.push(
                pipeline.push(value, Coordinate(DAG, RUN, task, "return_value")), dag_id=DAG, run_id=RUN, task_id=task
            )
        db.push({"plain": 1}, dag_id=DAG, run_id=RUN, task_id="plain")
        db.push({"plain": 2}, dag_id=DAG, run_id="other", task_id="plain")
        (port,) = free_ports(1)
        env = db.env | {
            **server.via(proxy.url).env(),
            "AIRFLOW__XCARGO__PATH": server.root,
            "AIRFLOW__XCARGO__UI": "True",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__API_AUTH__JWT_SECRET": "0" * 64,
            "AIRFLOW__API__SECRET_KEY": "1" * 64,
        }
        url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "airflow", "api-server", "--host", "127.0.0.1", "--port", str(port)]

        def answers() -> bool:
            with LOOPBACK.open(f"{url}/api/v2/version", timeout=5) as answer:
                return bool(answer.status == 200)

        with running([*command, "--workers", "1"], is_ready=answers, env=env):
            with LOOPBACK.open(f"{url}/auth/token", timeout=30) as answer:
                token = json.load(answer)["access_token"]
            (pid,) = {c.pid for c in psutil.net_connections("tcp") if c.laddr.port == port and c.status == "LISTEN"}
            yield Api(url, token, proxy, pid)


def test_each_route_answers_over_postgresql(api: Api) -> None:
    """What the rows tell, and what is read of the values."""
    listed = api.get("xcoms", run_id=RUN)[1]
    assert (listed["total"], {one["task_id"] for one in listed["xcoms"]}) == (
        5,
        {"table", "tree", "array", "bytes", "plain"},
    )
    assert [one["run_id"] for one in api.get("others", "plain")[1]["xcoms"]] == ["other"]
    assert api.get("value", "table")[1]["value"]["rows"] == ROWS * BATCHES
    assert api.get("tree", "tree")[1]["total"] == 3000
    hits = api.get("search", "tree", headers={"X-Xcargo-Text": "key%202999"})[1]["hits"]
    assert [hit["way"][-1]["key"] for hit in hits] == ["key 2999"]
    filters = urllib.parse.quote(json.dumps([{"column": 0, "operator": "less", "value": "4"}]))
    page = api.get("table", "table", {"X-Xcargo-Filters": filters}, columns="0,6", sort=0, descending="true")[1]
    assert page["cells"] == [["3", "2", "1", "0"], ["name 3", "name 2", "name 1", "name 0"]]
    assert api.get("column", "table", number=6)[1]["sampled"] == 10_000
    assert api.get("array", "array")[1]["count"] == 60_000
    assert bytes.fromhex(api.get("bytes", "bytes", start=6, count=5)[1]["hex"]) == b"bytes"
    assert api.get("compare", "plain", other_run_id="other")[1]["changes"][0]["where"] == "['plain']"
    assert api.get("download", "bytes") == (200, b"bytes " * 2000)
    assert api.get("stored", run_id=RUN)[1]["count"] == 4


HUGE = 10**30
ODD = (-1, HUGE, "1e9", "NaN", "²", "", "--5", "\0", "ü🙂", "'; --", "9" * 5000)


@pytest.mark.parametrize(
    ("route", "task", "names"),
    [
        ("xcoms", "", ("run_id", "task_id", "map_index", "start", "count")),
        ("others", "plain", ("run_id", "task_id", "key", "map_index", "attempt")),
        ("value", "tree", ("run_id", "key", "map_index", "attempt", "inside")),
        ("tree", "tree", ("at", "start", "count", "cursor", "inside")),
        ("search", "tree", ("start",)),
        ("table", "table", ("start", "count", "columns", "sort", "descending")),
        ("column", "table", ("number",)),
        ("array", "array", ("start", "first", "indexes", "part")),
        ("bytes", "bytes", ("start", "count", "at", "text")),
        ("bytes", "tree", ("at", "start")),
        ("compare", "plain", ("other_run_id", "other_map_index", "other_attempt")),
        ("download", "bytes", ("form", "inside")),
        ("stored", "", ("run_id",)),
    ],
)
def test_odd_questions_are_answered_in_words(api: Api, route: str, task: str, names: tuple[str, ...]) -> None:
    """Numbers beyond any database, signs, other scripts: an answer, or a refusal with a reason."""
    headers = {"X-Xcargo-Text": "x"} if route == "search" else {}
    for name in names:
        for odd in (*ODD, "part:²", "leaf:9999999999999999999999", f"leaf:{HUGE}/part:0"):
            status, answer = api.get(route, task, headers, **{name: odd})
            assert status == 200 or (400 <= status < 500 and isinstance(answer, dict)), (name, odd, status, answer)
            if status != 200:
                told = answer["error"]["what"] if "error" in answer else answer["detail"][0]["msg"]
                assert told, (name, odd)


@pytest.mark.parametrize(
    "filters",
    [
        "{", "3", "[3]", "[{}]", "null", '{"column": 0}', "[" * 3000,
        '[{"column": NaN, "operator": "less", "value": "1"}]',
        '[{"column": true, "operator": "less", "value": "1"}]',
        '[{"column": -1, "operator": "less", "value": "1"}]',
        '[{"column": 99999999999999999999, "operator": "less", "value": "1"}]',
        '[{"column": 0, "operator": "__class__", "value": "1"}]',
        '[{"column": 0, "operator": ["less"], "value": {"a": 1}}]',
        '[{"column": 0, "operator": "less", "value": "NaN"}]',
        '[{"column": 1, "operator": "equal", "value": "NaN"}]',
        '[{"column": 1, "operator": "equal", "value": NaN}]',
        '[{"column": 6, "operator": "contains", "value": "\\ud800"}]',
        '[{"column": 6, "operator": "equal", "value": "\\u0000"}]',
        '[{"column": 0, "operator": "contains", "value": "(((("}]',
    ],
)  # fmt: skip
def test_odd_filters_are_answered_in_words(api: Api, filters: str) -> None:
    """What is no filter, no column, no number or no text is refused; nothing else of it is done."""
    status, answer = api.get("table", "table", {"X-Xcargo-Filters": urllib.parse.quote(filters)}, columns="0")
    assert status in (200, 413, 422), answer
    assert status == 200 or answer["error"]["what"], answer


def test_twenty_users_leave_memory_as_it_was(api: Api) -> None:
    """Pages all over a table, by twenty at once: the process grows by what it may keep, not by what was read."""

    def pages(user: int) -> None:
        for n in range(15):
            start = (user * 7919 + n * 104_729) % (ROWS * BATCHES)
            assert api.get("table", "table", start=start, columns="0,1,2,3,4,5,6")[0] == 200

    pages(0)
    before = resident(api.pid)
    with ThreadPoolExecutor(20) as users:
        list(users.map(pages, range(20)))
    assert resident(api.pid) - before < GROWTH_BYTES


def resident(pid: int) -> int:
    """Bytes of memory of its own that a process has now."""
    told = Path(f"/proc/{pid}/status").read_text()
    return int(told.partition("RssAnon:")[2].split()[0]) * 1024


def test_a_store_that_stalls_holds_nobody_up(api: Api) -> None:
    """Each look is told in time, and what needs no store is answered beside them."""
    api.proxy.add(Fault("stall", times=None))
    try:
        with ThreadPoolExecutor(8) as users:
            looks = [users.submit(api.get, "array", "array", part="picture") for _ in range(8)]
            assert api.get("xcoms", run_id=RUN)[0] == 200
            assert not all(look.done() for look in looks)
            status, told = api.get("value", "bytes")
            assert (status, told["problem"]["kind"]) == (200, "store_unavailable")
            assert {look.result()[0] for look in looks} == {503}
    finally:
        api.proxy.clear()
