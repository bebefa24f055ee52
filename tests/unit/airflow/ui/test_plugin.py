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
from types import SimpleNamespace
from urllib.parse import unquote

import pytest
from airflow.api_fastapi.auth.managers.models.resource_details import AssetDetails, DagDetails
from airflow.api_fastapi.core_api import security
from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from tests.servers.node import find_node
from tests.unit.conftest import make_pipeline
from xcargo import File
from xcargo.airflow import ui
from xcargo.airflow.ui import stored, values, xcoms
from xcargo.airflow.ui.app import POLICY
from xcargo.airflow.ui.plugin import XCargoPlugin
from xcargo.airflow.ui.state import can_read_asset_state, can_read_task_state
from xcargo.airflow.ui.values import DownloadResponse
from xcargo.airflow.ui.xcoms import can_read_xcoms, current_user
from xcargo.errors import AccessDeniedError, IntegrityError, StoreUnavailableError, XCargoError
from xcargo.explorer.limits import PreviewTimeoutError, TooLargeError
from xcargo.model.coordinate import Coordinate
from xcargo.transfer.reporting import format_bytes

STATIC = Path(ui.__file__).parent / "static"

LOADED = """
import json, sys, threading
from airflow import plugins_manager

plugins, errors = plugins_manager._get_plugins()
views = [view for plugin in plugins for view in plugin.external_views if "xcargo" in view["href"]]
ours = [name for name in sys.modules if name.startswith(("xcargo.airflow.ui", "xcargo.explorer"))]
print(json.dumps({"views": views, "ours": ours, "errors": errors, "pyarrow": "pyarrow" in sys.modules}))

from airflow.models.xcom import XComModel
from fastapi.testclient import TestClient
from sqlalchemy.orm import class_mapper
from xcargo.airflow.ui.app import build

def loaded():
    return ["pyarrow.compute" in sys.modules, class_mapper(XComModel, configure=False).configured]

app = build()
before = loaded()
with TestClient(app):
    [thread.join() for thread in threading.enumerate() if thread.name == "xcargo-warm"]
    print(json.dumps([before, loaded()]))
"""


def test_what_a_process_loads_and_when(tmp_path: Path) -> None:
    """Who loads plugins pays for two small modules and no library; a server loads what answers need at its start.

    Not when the application is made, which may be in another process. Its views are below the base URL.
    """
    options = {"AIRFLOW__XCARGO__UI": "True", "AIRFLOW__API__BASE_URL": "https://example.invalid/airflow/prod/"}
    environ = {**os.environ, "AIRFLOW_HOME": str(tmp_path), **options}
    done = subprocess.run([sys.executable, "-c", LOADED], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    plugins, server = (json.loads(line) for line in done.stdout.splitlines() if line.startswith(("{", "[[")))
    assert [view["destination"] for view in plugins["views"]] == ["task_instance", "dag_run", "dag", "nav"]
    assert all(view["href"].startswith("/airflow/prod/xcargo/") for view in plugins["views"])
    assert len({view["url_route"] for view in plugins["views"]}) == 4
    assert sorted(plugins["ours"]) == ["xcargo.airflow.ui", "xcargo.airflow.ui.plugin"]
    assert (plugins["errors"], plugins["pyarrow"]) == ({}, False)
    assert server == [[False, False], [True, True]]


def test_off_by_default() -> None:
    """Neither views nor an application."""
    assert (XCargoPlugin().external_views, XCargoPlugin().fastapi_apps) == ([], [])


def routes() -> list[APIRoute]:
    every = [*values.router.routes, *stored.router.routes]
    return [route for route in every if isinstance(route, APIRoute)]


@pytest.mark.parametrize("route", routes(), ids=lambda route: route.path)
def test_each_answer_asks_airflow_for_the_right_and_changes_nothing(route: APIRoute) -> None:
    """To the Dag's XComs, of state to its task instances or to the asset; of all Dags a user is needed. All are GET."""
    asked = [dependency.call for dependency in route.dependant.dependencies]
    assert route.methods == {"GET"}
    rights = {
        "/api/dags/{dag_id}/state": can_read_task_state,
        "/api/dags/{dag_id}/": can_read_xcoms,
        "/api/assets": can_read_asset_state,
        "/api/stored": current_user,
    }
    assert next(right for path, right in rights.items() if route.path.startswith(path)) in asked


def test_the_right_is_asked_for_the_dag_that_is_shown(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the asset; never for one that is named elsewhere in the address: who may read one asks for another."""
    asked: list[str | None] = []

    class OnlyMine:
        def is_authorized_dag(self, *, details: DagDetails | AssetDetails, **_: object) -> bool:
            asked.append(details.id)
            return bool(details.id == "mine")

        is_authorized_asset = is_authorized_dag

    monkeypatch.setattr(security, "get_auth_manager", OnlyMine)
    monkeypatch.setattr(security.DagModel, "get_team_name", lambda dag_id: None)
    app.dependency_overrides[current_user] = lambda: SimpleNamespace()
    query = {"dag_id": "mine", "asset_id": "mine", "run_id": "r", "task_id": "t", "key": "k", "other_run_id": "o"}
    client, paths = TestClient(app), {route.path for route in routes() if "{" in route.path}
    assert len(paths) > 30
    for path in paths:
        for theirs in ("theirs", "mine%2f..%2ftheirs", "%74heirs", "~"):
            named = path.replace("{dag_id}", theirs).replace("{asset_id}", theirs)
            assert client.get(named, params=query).status_code in (403, 404), named
    assert "mine" not in asked


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    """The application, as a server asks the plugin for it."""
    monkeypatch.setenv("AIRFLOW__XCARGO__UI", "True")
    (mounted,) = XCargoPlugin().fastapi_apps
    application: FastAPI = mounted["app"]
    return application


def test_every_answer_carries_the_policy(app: FastAPI) -> None:
    """Page, script, refusal and error alike."""
    client = TestClient(app, raise_server_exceptions=False)
    for path in ("/", "/static/app.js", "/static/none.js", "/api/nothing", "/api/stored"):
        answer = client.get(path)
        assert answer.headers["content-security-policy"] == POLICY, path
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert "unsafe" not in POLICY
    assert "http" not in POLICY


def test_the_page_loads_nothing_from_elsewhere() -> None:
    """Few files and bytes, and no address of another host in any but the names of XML's spaces."""
    files = list(STATIC.iterdir())
    assert (len(files) <= 19, sum(path.stat().st_size for path in files) < 95_000) == (True, True)
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


@pytest.mark.parametrize(
    ("error", "status", "what"),
    [
        (AccessDeniedError("x"), 502, "x"),
        (StoreUnavailableError("x"), 503, "x"),
        (TooLargeError("x"), 413, "x"),
        (PreviewTimeoutError("x"), 413, "x"),
        (IntegrityError("x"), 422, "x"),
        (RecursionError("secret"), 422, "The value is nested too deeply to be shown"),
        (ValueError("could not convert 'secret'"), 500, "The explorer failed: ValueError"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_are_answered_with_what_to_do(
    app: FastAPI, caplog: pytest.LogCaptureFixture, error: Exception, status: int, what: str
) -> None:
    """Each of ours with its hint; of any other no text, which may hold a part of a value, gets into answer or log."""
    if isinstance(error, XCargoError):
        error.hint = "Do this."

    def fails() -> None:
        raise error

    app.add_api_route("/api/fails", fails)
    answer = TestClient(app).get("/api/fails")  # raises what a server would log
    told = answer.json()["error"]
    assert (answer.status_code, told["what"], bool(told["hint"])) == (status, what, True)
    assert answer.headers["content-security-policy"] == POLICY
    assert "secret" not in answer.text + caplog.text


@pytest.mark.parametrize("name", ["\u202egnp.exe", 'a";filename="b', "a\r\nset-cookie: x=1", "..\\..\\x", "C:<|?*>"])
def test_a_download_has_a_harmless_name(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    """Whatever a file is called: no separator, no header of its own, nothing that turns letters round; and no page."""
    (tmp_path / "x").write_text("<script>alert(1)</script>")
    file = File(tmp_path / "x", name=name, media_type="text/html")
    row = make_pipeline(threshold_bytes=-1).push(file, Coordinate("d", "r", "t", "k"))
    found = xcoms.XComRow(xcoms.XComId("d", "r", "t", "k"), None, 9, row)
    monkeypatch.setattr(xcoms, "find", lambda *_: found)
    app.dependency_overrides[can_read_xcoms] = lambda: None
    answer = TestClient(app).get("/api/dags/d/download", params={"run_id": "r", "task_id": "t", "key": "k"})
    kind, _, quoted = answer.headers["content-disposition"].partition("; filename*=UTF-8''")
    assert (kind, answer.headers["content-type"]) == ("attachment", "application/octet-stream")
    assert unquote(quoted).isprintable()
    assert not set(unquote(quoted)) & set('/\\:*?"<>|')
    assert "set-cookie" not in answer.headers
    assert answer.text.startswith("<script>")


def test_no_more_than_eight_downloads_run_at_once(app: FastAPI) -> None:
    """The ninth is asked to try again; whichever way the others end, their places are free again."""
    end, running = threading.Event(), threading.Semaphore(0)

    def chunks() -> Iterator[bytes]:
        running.release()
        yield b"x"
        end.wait(30)
        raise OSError("the store went away")

    app.add_api_route("/api/slow", lambda: DownloadResponse(chunks()))
    app.add_api_route("/api/quick", lambda: DownloadResponse(iter([b"done"])))
    client = TestClient(app, raise_server_exceptions=False)
    with ThreadPoolExecutor(8) as users:
        slow = [users.submit(client.get, "/api/slow") for _ in range(8)]
        assert all(running.acquire(timeout=30) for _ in slow)
        assert client.get("/api/quick").status_code == 503
        end.set()
        wait(slow)
    assert client.get("/api/quick").content == b"done"
