"""The explorer's place in Airflow: off by default, light everywhere, guarded on every route."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from tests.servers.node import find_node
from xcargo.airflow import ui
from xcargo.airflow.ui import stored, values
from xcargo.airflow.ui.app import POLICY
from xcargo.airflow.ui.plugin import XCargoPlugin
from xcargo.airflow.ui.values import DownloadResponse
from xcargo.airflow.ui.xcoms import can_read_xcoms, current_user
from xcargo.errors import AccessDeniedError, IntegrityError, StoreUnavailableError, XCargoError
from xcargo.explorer.limits import PreviewTimeoutError, TooLargeError
from xcargo.transfer.reporting import format_bytes

STATIC = Path(ui.__file__).parent / "static"

LOADED = """
import json, sys
from airflow import plugins_manager
plugins, errors = plugins_manager._get_plugins()
before = set(sys.modules)
views = [view for plugin in plugins for view in plugin.external_views if "xcargo" in view["href"]]
new = sorted(name for name in set(sys.modules) - before)
ours = [name for name in sys.modules if name.startswith("xcargo.airflow.ui") or name.startswith("xcargo.explorer")]
print("TOLD", json.dumps({"views": views, "new": new, "ours": ours, "errors": errors,
      "heavy": [n for n in ("fastapi", "pyarrow", "numpy", "msgpack", "obstore") if n in sys.modules]}))
"""


def loaded(home: Path, **options: str) -> dict[str, Any]:
    """What a process other than an API server loads with its plugins."""
    environ = {**os.environ, "AIRFLOW_HOME": str(home), **options}
    done = subprocess.run([sys.executable, "-c", LOADED], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("TOLD ")]
    found: dict[str, Any] = json.loads(line.partition(" ")[2])
    return found


def test_off_by_default_and_two_modules_of_ours(tmp_path: Path) -> None:
    """Every process that loads plugins pays for two small modules and no library."""
    told = loaded(tmp_path)
    assert told["views"] == []
    assert sorted(told["ours"]) == ["xcargo.airflow.ui", "xcargo.airflow.ui.plugin"]
    assert told["errors"] == {}
    assert "pyarrow" not in told["heavy"]


def test_on_there_are_four_views_below_the_base_url_and_still_no_library(tmp_path: Path) -> None:
    """The application is built only where it is asked for, which naming the views is not."""
    told = loaded(tmp_path, AIRFLOW__XCARGO__UI="True", AIRFLOW__API__BASE_URL="https://example.invalid/airflow/prod/")
    assert [view["destination"] for view in told["views"]] == ["task_instance", "dag_run", "dag", "nav"]
    assert all(view["href"].startswith("/airflow/prod/xcargo/") for view in told["views"])
    assert len({view["url_route"] for view in told["views"]}) == 4
    assert sorted(told["ours"]) == ["xcargo.airflow.ui", "xcargo.airflow.ui.plugin"]


WARMED = """
import sys, threading
from airflow.models.xcom import XComModel
from fastapi.testclient import TestClient
from sqlalchemy.orm import class_mapper
from xcargo.airflow.ui.app import build

def loaded():
    return "pyarrow.compute" in sys.modules, class_mapper(XComModel, configure=False).configured

app = build()
before = loaded()
with TestClient(app):
    [thread.join() for thread in threading.enumerate() if thread.name == "xcargo-warm"]
    print("TOLD", before, loaded())
"""


def test_what_the_first_answer_needs_is_loaded_when_a_server_starts(tmp_path: Path) -> None:
    """Not when the application is made, which may be in another process; no request has to come."""
    environ = {**os.environ, "AIRFLOW_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", WARMED], env=environ, capture_output=True, text=True, check=False)
    assert "TOLD (False, False) (True, True)" in done.stdout, done.stdout + done.stderr


def routes() -> list[APIRoute]:
    every = [*values.router.routes, *stored.router.routes]
    return [route for route in every if isinstance(route, APIRoute)]


@pytest.mark.parametrize("route", routes(), ids=lambda route: route.path)
def test_each_answer_asks_airflow_for_the_right_and_changes_nothing(route: APIRoute) -> None:
    """A route of a Dag depends on the right to that Dag's XComs, the one of all Dags on a user; all are GET."""
    asked = [dependency.call for dependency in route.dependant.dependencies]
    assert route.methods == {"GET"}
    assert can_read_xcoms in asked if "{dag_id}" in route.path else current_user in asked


@pytest.fixture(scope="module")
def client() -> TestClient:
    (app,) = _built()
    return TestClient(app["app"], raise_server_exceptions=False)


def _built() -> list[dict[str, Any]]:
    os.environ["AIRFLOW__XCARGO__UI"] = "True"
    try:
        return XCargoPlugin().fastapi_apps
    finally:
        del os.environ["AIRFLOW__XCARGO__UI"]


def test_every_answer_carries_the_policy(client: TestClient) -> None:
    """Page, script, refusal and error alike."""
    for path in ("/", "/static/app.js", "/static/none.js", "/api/nothing", "/api/stored"):
        answer = client.get(path)
        assert answer.headers["content-security-policy"] == POLICY, path
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert "unsafe" not in POLICY
    assert "http" not in POLICY


def test_the_page_loads_nothing_from_elsewhere() -> None:
    """Few files and bytes, and no address of another host in any but the names of XML's spaces."""
    files = list(STATIC.iterdir())
    assert (len(files) <= 19, sum(path.stat().st_size for path in files) < 90_000) == (True, True)
    for path in files:
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in text, path
        assert "https:" not in text, path
        assert "innerHTML" not in text, path
        assert len(text.splitlines()) <= 400, path


def test_the_page_writes_sizes_as_the_rest_of_xcargo_does(tmp_path: Path) -> None:
    """Its own formatter gives what ``format_bytes`` gives, but for a space at which no line ends."""
    sizes = [*range(0, 3000, 37), *(n * 1024**k for k in range(1, 6) for n in (1, 1.5, 9.996, 99.94, 100.4, 1023))]
    shutil.copy(STATIC / "dom.js", tmp_path / "dom.mjs")
    script = f"import {{ bytes }} from './dom.mjs'; console.log(JSON.stringify({json.dumps(sizes)}.map(bytes)))"
    command = [str(find_node().program), "--input-type=module", "--eval", script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert [text.replace("\u00a0", " ") for text in json.loads(done.stdout)] == list(map(format_bytes, sizes))


def test_other_methods_are_refused(client: TestClient) -> None:
    """There is nothing to write to."""
    assert client.post("/api/dags/d/xcoms").status_code == 405
    assert client.delete("/api/dags/d/value").status_code == 405


def test_an_unexpected_error_is_named_and_not_quoted(caplog: pytest.LogCaptureFixture) -> None:
    """Neither the answer nor anything that reaches the server's log has its text, which may hold a part of a value."""
    (app,) = _built()

    def fails() -> None:
        raise ValueError("could not convert 'secret'")

    app["app"].add_api_route("/api/fails", fails)
    answer = TestClient(app["app"]).get("/api/fails")  # raises what a server would log
    assert (answer.status_code, answer.json()["error"]["what"]) == (500, "The explorer failed: ValueError")
    assert answer.headers["content-security-policy"] == POLICY
    assert "secret" not in answer.text + caplog.text


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (AccessDeniedError("x"), 502),
        (StoreUnavailableError("x"), 503),
        (TooLargeError("x"), 413),
        (PreviewTimeoutError("x"), 413),
        (IntegrityError("x"), 422),
    ],
    ids=lambda value: type(value).__name__,
)
def test_our_errors_are_answered_with_what_to_do(error: XCargoError, status: int) -> None:
    """Each kind with its status, what went wrong and the hint."""
    (app,) = _built()
    error.hint = "Do this."

    def fails() -> None:
        raise error

    app["app"].add_api_route("/api/fails", fails)
    answer = TestClient(app["app"]).get("/api/fails")
    assert (answer.status_code, answer.json()["error"]["what"], answer.json()["error"]["hint"]) == (
        status,
        "x",
        "Do this.",
    )


def test_no_more_than_eight_downloads_run_at_once() -> None:
    """The ninth is asked to try again; whichever way the others end, their places are free again."""
    (app,) = _built()
    end, running = threading.Event(), threading.Semaphore(0)

    def chunks() -> Iterator[bytes]:
        running.release()
        yield b"x"
        end.wait(30)
        raise OSError("the store went away")

    app["app"].add_api_route("/api/slow", lambda: DownloadResponse(chunks()))
    app["app"].add_api_route("/api/quick", lambda: DownloadResponse(iter([b"done"])))
    client = TestClient(app["app"], raise_server_exceptions=False)
    with ThreadPoolExecutor(8) as users:
        slow = [users.submit(client.get, "/api/slow") for _ in range(8)]
        assert all(running.acquire(timeout=30) for _ in slow)
        assert client.get("/api/quick").status_code == 503
        end.set()
        wait(slow)
    assert client.get("/api/quick").content == b"done"
