"""The explorer where users and roles are those of FAB: they log in by its form, and their rights decide.

The provider does not live with everything else that is tested here, so its Airflow has an environment of its own.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from demo.environment import airflow_environment
from tests.e2e import browser
from tests.e2e.explorer import LOOPBACK
from tests.matrix.environments import CHECKOUT, clean_environ, find_uv
from tests.servers.processes import free_ports, running

AIRFLOW = next(iter(importlib.metadata.distributions(name="apache-airflow-core")), None)

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(AIRFLOW is None, reason="needs Airflow 3"),
    pytest.mark.skipif(browser.installed() is None, reason="there is no Chromium here, and none could be installed"),
]

PREPARE = Path(__file__).with_name("fab") / "prepare.py"
MANAGER = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"


def environment(version: str) -> Path:
    """Python of an environment with this Airflow and FAB, kept below `.cache`."""
    folder = CHECKOUT / ".cache" / f"fab-{version}"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        uv = [*find_uv(), "--quiet"]
        wanted = [f"apache-airflow=={version}", "apache-airflow-providers-fab", "--editable", f"{CHECKOUT}[ui]"]
        subprocess.run([*uv, "venv", "--clear", "--python", sys.executable, folder], env=clean_environ(), check=True)
        subprocess.run([*uv, "pip", "install", "--python", python, *wanted], env=clean_environ(), check=True)
        (folder / "ready").touch()
    return python


@dataclass(frozen=True)
class Fab:
    """An API server, and the run of its Dag `sales`; there is a Dag `hr` too."""

    url: str
    run: str

    def page(self, dag_id: str) -> str:
        query = {"dag_id": dag_id, "run_id": self.run, "task_id": "answer"}
        return f"{self.url}/xcargo/?{urllib.parse.urlencode(query)}"


@pytest.fixture(scope="module")
def fab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fab]:
    home = tmp_path_factory.mktemp("fab")
    (home / "dags").mkdir()
    shutil.copy(PREPARE, home / "dags")
    try:
        python = environment(str(AIRFLOW and AIRFLOW.version))
    except FileNotFoundError as error:
        pytest.skip(str(error))
    (port,) = free_ports(1)
    extra = {
        "AIRFLOW__CORE__AUTH_MANAGER": MANAGER,
        "AIRFLOW__CORE__XCOM_BACKEND": "xcargo.XComBackend",
        "AIRFLOW__XCARGO__UI": "True",
        "AIRFLOW__XCARGO__PATH": (home / "lake").as_uri(),
        "PYTHONWARNINGS": "ignore",
    }
    env = airflow_environment(home, home / "dags", port, extra)
    prepared = [python, home / "dags" / PREPARE.name, home / "run"]
    done = subprocess.run(prepared, env=env, cwd=home, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    made = Fab(f"http://127.0.0.1:{port}", (home / "run").read_text())

    def is_ready() -> bool:
        with LOOPBACK.open(f"{made.url}/xcargo/", timeout=10):
            return True

    command = [str(python), "-m", "airflow", "api-server", "--host", "127.0.0.1", "--port", str(port)]
    with running(command, is_ready=is_ready, env=env):
        yield made


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    context = chromium.new_context()
    page = context.new_page()
    page.set_default_timeout(30_000)
    yield page
    context.close()


def log_in(page: Any, fab: Fab, user: str) -> None:
    page.goto(f"{fab.url}/auth/login/")
    page.get_by_label("Username").fill(user)
    page.get_by_label("Password").fill("secret")
    page.locator("[type=submit]").first.click()
    page.wait_for_url(f"{fab.url}/")


def status(page: Any, fab: Fab, dag_id: str) -> int:
    """Of the answer with the value itself, to the browser with its cookie."""
    query = {"run_id": fab.run, "task_id": "answer", "key": "return_value"}
    return int(page.request.get(f"{fab.url}/xcargo/api/dags/{dag_id}/value?{urllib.parse.urlencode(query)}").status)


def test_fab_rights_decide(page: Any, fab: Fab) -> None:
    """Nobody gets nothing, a viewer every value, others the XComs of their Dags; each refusal is in words."""
    refused = "You may not read the XComs of this Dag"
    page.goto(fab.page("sales"))
    page.get_by_role("alert").get_by_text("You are not logged in").wait_for()
    assert status(page, fab, "sales") == 401

    for user, sales, hr, stored in (("viewer", 200, 404, 1), ("sales", 200, 403, 1), ("blind", 403, 403, 0)):
        page.context.clear_cookies()
        log_in(page, fab, user)
        page.goto(fab.page("sales"))
        if sales == 200:
            page.get_by_role("treeitem").get_by_text("Only for who may read sales.").first.wait_for()
        else:
            page.get_by_role("alert").get_by_text(refused).wait_for()
        if hr == 403:
            page.goto(fab.page("hr"))
            page.get_by_role("alert").get_by_text(refused).wait_for()
        assert (status(page, fab, "sales"), status(page, fab, "hr")) == (sales, hr), user
        assert page.request.get(f"{fab.url}/xcargo/api/stored").json()["count"] == stored
