"""An Airflow with the explorer, its values in a real S3 server, and its pages in a real browser."""

from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.cluster import Cluster
from tests.servers import Server, start

DAGS = Path(__file__).resolve().parents[2] / "demo" / "dags"
SWEEPING = Path(__file__).with_name("gc") / "sweeping.py"
DAG = "explorer_demo"
PASSWORDS = {"admin": "admin-secret", "reader": "reader-secret", "nobody": "nobody-secret"}


@dataclass(frozen=True)
class World:
    """A cluster with two runs, and its S3 server."""

    cluster: Cluster
    runs: tuple[str, str]
    server: Server
    tokens: dict[str, str]

    @property
    def url(self) -> str:
        return self.cluster.url

    @property
    def log(self) -> Path:
        return self.cluster.logs / "api-server.log"

    def page(self, task: str, run: int = 1) -> str:
        """The tab of a task instance in Airflow's UI."""
        quoted = urllib.parse.quote(self.runs[run], safe="")
        return f"{self.url}/dags/{DAG}/runs/{quoted}/tasks/{task}/plugin/xcom_data"

    def get(
        self, path: str, user: str | None, *, cookie: bool = False, url: str = "", typed: str = "", **query: str
    ) -> tuple[int, bytes]:
        """An answer of the explorer: as a user, by either kind of login, or as nobody."""
        request = urllib.request.Request(f"{url or self.url}/xcargo/{path}?{urllib.parse.urlencode(query)}")
        if typed:
            request.add_header("X-Xcargo-Text", urllib.parse.quote(typed))
        if user and cookie:
            request.add_header("Cookie", f"_token={self.tokens[user]}")
        elif user:
            request.add_header("Authorization", f"Bearer {self.tokens[user]}")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def value(self, task: str, key: str = "return_value", run: int = 1) -> dict[str, str]:
        """The query that names a value."""
        return {"run_id": self.runs[run], "task_id": task, "key": key}


@contextmanager
def living(home: Path) -> Iterator[World]:
    """Two runs of the demo's Dag; an admin, a reader and a user without any right."""
    passwords = home / "passwords.json"
    passwords.write_text(json.dumps(PASSWORDS))
    dags = home / "dags"
    shutil.copytree(DAGS, dags, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(SWEEPING, dags)
    with start("s3") as server:
        env = {
            "AIRFLOW__CORE__XCOM_BACKEND": "xcargo.XComBackend",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin,reader:viewer,nobody:",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
            "AIRFLOW__XCARGO__UI": "True",
            "AIRFLOW__XCARGO__PATH": f"{server.root}/explorer",
            **server.env(),
        }
        made = Cluster(home, dags=dags, env=env, login=("admin", PASSWORDS["admin"]))
        api = {"conn_type": "http", "host": made.url, "login": "admin", "password": PASSWORDS["admin"]}
        made.env["AIRFLOW_CONN_AIRFLOW_API"] = json.dumps(api)
        with made as cluster:
            runs = [cluster.trigger(DAG)]
            assert cluster.wait(DAG, runs[0]).ok
            runs.append(cluster.trigger(DAG))
            assert cluster.wait(DAG, runs[1]).ok
            tokens = {name: cluster.token(name, password) for name, password in PASSWORDS.items()}
            yield World(cluster, (runs[0], runs[1]), server, tokens)


@dataclass
class Seen:
    """A page, and the frame of the explorer in it."""

    page: Any
    tab: Any


class Desk:
    """Opens pages as a user, each in a browser window of its own."""

    def __init__(self, chromium: Any, world: World) -> None:
        self._chromium = chromium
        self._world = world
        self._contexts: list[Any] = []
        self.complaints: list[str] = []

    def __call__(self, task: str, *, user: str = "reader", run: int = 1, **context: Any) -> Seen:
        """The tab of a task."""
        return self.at(self._world.page(task, run), user=user, **context)

    def at(self, url: str, *, user: str = "reader", **context: Any) -> Seen:
        """Any page."""
        made = self._chromium.new_context(**{"viewport": {"width": 1400, "height": 900}, **context})
        self._contexts.append(made)
        made.add_cookies([{"name": "_token", "value": self._world.tokens[user], "url": self._world.url}])
        page = made.new_page()
        page.set_default_timeout(30_000)
        tell = self.complaints.append
        page.on("pageerror", lambda error: tell(str(error)))
        page.on("dialog", lambda dialog: (tell(f"dialog {dialog.message}"), dialog.dismiss()))
        page.on("console", lambda message: tell(message.text) if _policy(message) else None)
        page.goto(url)
        return Seen(page, page.frame_locator("iframe"))

    def text(self) -> str:
        """What stands on the pages that are open."""
        pages = [page for context in self._contexts for page in context.pages]
        return "\n\n".join(f"{page.url}\n{page.frames[-1].locator('body').inner_text()[:4000]}" for page in pages)

    def close(self) -> None:
        for context in self._contexts:
            context.close()


def _policy(message: Any) -> bool:
    return "Content Security Policy" in message.text and "xcargo" in message.location.get("url", "")
