"""An Airflow with the explorer, its values in a real S3 server behind a proxy, and its pages in a real browser."""

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
from typing import TYPE_CHECKING, Any

from demo.cluster import Cluster
from tests.servers import FaultProxy, Server, start

if TYPE_CHECKING:
    from typing_extensions import Self

DAGS = Path(__file__).resolve().parents[2] / "demo" / "dags"
SWEEPING = Path(__file__).with_name("gc") / "sweeping.py"
DAG = "explorer_demo"
PASSWORDS = {"admin": "admin-secret", "reader": "reader-secret", "nobody": "nobody-secret"}
LOOPBACK = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class World:
    """A cluster with two runs of the demo's Dag, and its S3 server."""

    cluster: Cluster
    runs: tuple[str, str]
    server: Server
    proxy: FaultProxy
    tokens: dict[str, str]

    @property
    def url(self) -> str:
        return self.cluster.url

    @property
    def log(self) -> str:
        """What the API server has logged, unquoted."""
        return urllib.parse.unquote((self.cluster.logs / "api-server.log").read_text(errors="replace"))

    def page(self, task: str, run: int = 1) -> str:
        """The tab of a task instance in Airflow's UI."""
        quoted = urllib.parse.quote(self.runs[run], safe="")
        return f"{self.url}/dags/{DAG}/runs/{quoted}/tasks/{task}/plugin/xcom_data"

    def get(self, route: str, task: str = "", *, run: int = 1, key: str = "return_value", **query: Any) -> Any:
        """Status and answer of a route of the Dag, to the reader."""
        value = {"run_id": self.runs[run], "task_id": task, "key": key} if task else {}
        request = urllib.request.Request(
            f"{self.url}/xcargo/api/dags/{DAG}/{route}?{urllib.parse.urlencode(value | query)}",
            headers={"Authorization": f"Bearer {self.tokens['reader']}"},
        )
        try:
            with LOOPBACK.open(request, timeout=90) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()


@contextmanager
def living(home: Path) -> Iterator[World]:
    """Two runs of the demo's Dag; an admin, a reader and a user without any right. Downloads are signed."""
    passwords = home / "passwords.json"
    passwords.write_text(json.dumps(PASSWORDS))
    dags = home / "dags"
    shutil.copytree(DAGS, dags, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(SWEEPING, dags)
    with start("s3") as server, FaultProxy(server.endpoint) as proxy:
        env = {
            "AIRFLOW__CORE__XCOM_BACKEND": "xcargo.XComBackend",
            "AIRFLOW__WORKERS__STATE_STORE_BACKEND": "xcargo.StateStoreBackend",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin,reader:viewer,nobody:",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
            "AIRFLOW__XCARGO__UI": "True",
            "AIRFLOW__XCARGO__UI_SIGNED_DOWNLOADS": "True",
            "AIRFLOW__XCARGO__PATH": f"{server.root}/explorer",
            **server.via(proxy.url).env(),
        }
        cluster = Cluster(home, dags=dags, env=env, login=("admin", PASSWORDS["admin"]))
        api = {"conn_type": "http", "host": cluster.url, "login": "admin", "password": PASSWORDS["admin"]}
        cluster.env["AIRFLOW_CONN_AIRFLOW_API"] = json.dumps(api)
        with cluster:
            runs = [cluster.trigger(DAG) for _ in range(2)]
            assert all(cluster.wait(DAG, run).ok for run in runs)
            tokens = {name: cluster.token(name, password) for name, password in PASSWORDS.items()}
            yield World(cluster, (runs[0], runs[1]), server, proxy, tokens)


@dataclass
class Seen:
    """A page, and the frame of the explorer in it."""

    page: Any
    tab: Any


class Desk:
    """Opens pages as a user, each in a browser window of its own, for the length of a `with` block.

    A failure in it prints what is on the pages. At its end no script has failed, and no alert was shown.
    """

    def __init__(self, chromium: Any, world: World) -> None:
        self._chromium = chromium
        self._world = world
        self._contexts: list[Any] = []
        self._complaints: list[str] = []

    def __call__(self, task: str, *, run: int = 1, **context: Any) -> Seen:
        """The tab of a task."""
        return self.at(self._world.page(task, run), **context)

    def at(self, url: str, *, user: str = "reader", **context: Any) -> Seen:
        """Any page."""
        opened = self._chromium.new_context(**{"viewport": {"width": 1400, "height": 900}, **context})
        self._contexts.append(opened)
        opened.add_cookies([{"name": "_token", "value": self._world.tokens[user], "url": self._world.url}])
        page = opened.new_page()
        page.set_default_timeout(30_000)
        complain = self._complaints.append
        page.on("pageerror", lambda error: complain(str(error)))
        page.on("dialog", lambda dialog: (complain(f"dialog {dialog.message}"), dialog.dismiss()))
        page.on("console", lambda message: complain(message.text) if _policy(message) else None)
        page.goto(url)
        return Seen(page, page.frame_locator("iframe"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        pages = [page for context in self._contexts for page in context.pages]
        for page in pages if kind else []:
            print(f"{page.url}\n{page.frames[-1].locator('body').inner_text()[:4000]}\n")
        for context in self._contexts:
            context.close()
        assert kind or not self._complaints, self._complaints


def _policy(message: Any) -> bool:
    return "Content Security Policy" in message.text and "xcargo" in message.location.get("url", "")
