"""Live references through a real API server: those of the database, however they are paged, or a refusal."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import sqlalchemy as sa

from tests.metadata import Metadata, disposed
from tests.servers.processes import free_ports, running
from xcargo.airflow.references.database import DatabaseReferences
from xcargo.airflow.references.rest import RestApi, RestReferences
from xcargo.errors import AccessDeniedError, ReferencesUnavailableError
from xcargo.lifecycle.references import XComFilter

KEYS = ("return_value", "a/b", "what? #1 100%", "ü ö", "..", "a+b&c=d", "~")
PASSWORD = "correct horse"


def envelope(name: str) -> dict[str, Any]:
    return {
        "__id__": "xcargo/1",
        "type": "list",
        "size_bytes": 5000,
        "stored_bytes": 300,
        "codec": "msgpack",
        "uri": f"s3://bucket/xcom/{name}",
        "checksum": "blake3:00",
        "created_at": "2026-01-01T12:00:00.344+00:00",
    }


@pytest.fixture(scope="module")
def deployment(_templates: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Metadata, str]]:
    """A metadata database with rows of three Dags, and the URL of an API server over it."""
    home = tmp_path_factory.mktemp("rest")
    with disposed(_templates.sqlite(home)) as metadata:
        for dag_id in ("one", "two three", "ü"):
            metadata.dag(dag_id)
        metadata.run("one", "empty", state="running")
        metadata.push_many(
            (
                envelope(f"{dag_id}-{run_id}-{n}-{key}") if n < 2 else {"plain": n},
                {"dag_id": dag_id, "run_id": run_id, "task_id": "t.x", "map_index": n, "key": key},
            )
            for dag_id in ("one", "two three", "ü")
            for run_id in ("manual__2026-01-01T00:00:00+00:00", "r:2+~ #")
            for n in (-1, 0, 1, 2)
            for key in KEYS
        )
        passwords = home / "passwords.json"
        passwords.write_text(json.dumps({"admin": PASSWORD}))
        (port,) = free_ports(1)
        env = metadata.env | {
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
            "AIRFLOW__API_AUTH__JWT_SECRET": "0" * 64,
            "AIRFLOW__API__SECRET_KEY": "1" * 64,
        }
        url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "airflow", "api-server", "--host", "127.0.0.1", "--port", str(port)]
        with running([*command, "--workers", "1"], is_ready=lambda: _answers(url), env=env):
            yield metadata, url


def _answers(url: str) -> bool:
    with urllib.request.urlopen(f"{url}/api/v2/version", timeout=5) as answer:
        return bool(answer.status == 200)


@pytest.fixture
def metadata(deployment: tuple[Metadata, str]) -> Metadata:
    return deployment[0]


Front = Callable[[Callable[[str, dict[str, Any]], dict[str, Any] | None]], str]


@pytest.fixture
def front(deployment: tuple[Metadata, str]) -> Iterator[Front]:
    """A front before the API server that may change what it answers."""
    servers = []

    def start(change: Callable[[str, dict[str, Any]], dict[str, Any] | None]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._pass_on(None)

            def do_POST(self) -> None:
                self._pass_on(self.rfile.read(int(self.headers["Content-Length"])))

            def _pass_on(self, body: bytes | None) -> None:
                headers = {n: v for n, v in self.headers.items() if n.lower() in ("authorization", "content-type")}
                request = urllib.request.Request(deployment[1] + self.path, body, headers, method=self.command)
                try:
                    with urllib.request.urlopen(request, timeout=30) as answer:
                        status, found = answer.status, json.load(answer)
                except urllib.error.HTTPError as error:
                    status, found = error.code, {}
                changed = change(self.path, found)
                text = json.dumps(changed).encode()
                self.send_response(status if changed is not None else 500)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *args: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def rest(url: str, **options: Any) -> RestReferences:
    return RestReferences(RestApi(url, username="admin", password=PASSWORD), **options)


def told(references: Any) -> set[tuple[Any, ...]]:
    return {(r.coordinate, r.uri, r.stored_bytes, r.run_state, r.run_ended, r.run_date) for r in references}


@pytest.mark.parametrize("page_rows", [3, 100])
def test_they_are_those_of_the_database(deployment: tuple[Metadata, str], page_rows: int) -> None:
    """The same rows with their runs, whatever characters keys and ids hold; and a filter leaves out the same."""
    metadata, url = deployment
    database, api = DatabaseReferences(metadata.engine), rest(url, page_rows=page_rows)
    expected = told(database.iterate())
    assert len(expected) == 3 * 2 * 3 * len(KEYS)
    assert told(api.iterate()) == expected
    where = XComFilter(dag_id="two*", key="a*", map_index=1)
    assert told(api.iterate(where)) == told(database.iterate(where)) != set()
    assert set(api.runs()) == set(database.runs())
    row = next(iter(api.rows(where, only_envelopes=True)))
    assert api.current(row) == row.value
    assert (api.hides_dags, api.hides_attempts) == (True, False)


def test_a_listing_that_is_cut_short_is_refused(front: Front) -> None:
    """Fewer entries than promised, a page that fails, an entry that cannot be read: each is a refusal."""

    def shorter(path: str, found: dict[str, Any]) -> dict[str, Any]:
        if "xcom_entries" in found:
            found["xcom_entries"] = found["xcom_entries"][:5] if "offset=0" in path else found["xcom_entries"][:1]
        return found

    with pytest.raises(ReferencesUnavailableError, match="promises 28 entries and gives 5"):
        list(rest(front(shorter)).iterate(XComFilter(dag_id="one")))

    def failing(path: str, found: dict[str, Any]) -> dict[str, Any] | None:
        return None if "xcomEntries?" in path and "offset=0" not in path else found

    with pytest.raises(ReferencesUnavailableError, match="answers 500"):
        list(rest(front(failing), page_rows=10).iterate(XComFilter(dag_id="one")))


def test_a_listing_that_changes_while_it_is_read_is_read_anew(front: Front, metadata: Metadata) -> None:
    """A row that goes between two pages moves the others up; none of those is missed."""
    where = XComFilter(dag_id="ü", run_id="r:2+~ #")
    expected = told(DatabaseReferences(metadata.engine).iterate(where))
    gone: list[Any] = []

    def deleting(path: str, found: dict[str, Any]) -> dict[str, Any]:
        if "xcom_entries" in found and not gone:
            first = found["xcom_entries"][0]
            gone.append(first["key"])
            with metadata.engine.begin() as connection:
                connection.execute(
                    sa.text("DELETE FROM xcom WHERE dag_id='ü' AND run_id='r:2+~ #' AND key=:key AND map_index=:n"),
                    {"key": first["key"], "n": first["map_index"]},
                )
        return found

    found = told(rest(front(deleting), page_rows=5).iterate(where))
    left = told(DatabaseReferences(metadata.engine).iterate(where))
    assert gone
    assert left <= found <= expected
    assert len(left) == len(expected) - 1


def test_what_the_api_cannot_be_asked_for_is_refused(metadata: Metadata, deployment: tuple[Metadata, str]) -> None:
    """A slash in a run's id leads nowhere in a URL: its XComs are not taken for gone."""
    metadata.dag("slashed")
    metadata.push(envelope("x"), dag_id="slashed", run_id="a/b")
    with pytest.raises(ReferencesUnavailableError, match="slash"):
        list(rest(deployment[1]).iterate(XComFilter(dag_id="slashed")))


def test_who_may_not_is_told(deployment: tuple[Metadata, str]) -> None:
    """A wrong password and a wrong token end in an error, not in an empty list."""
    with pytest.raises(AccessDeniedError, match="no token"):
        list(RestReferences(RestApi(deployment[1], username="admin", password="wrong")).iterate())
    with pytest.raises(AccessDeniedError, match="refuses"):
        list(RestReferences(RestApi(deployment[1], token="made.up.token")).iterate())


def test_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    """After some attempts, a refusal that names the place."""
    (port,) = free_ports(1)
    with pytest.raises(ReferencesUnavailableError, match="does not answer"):
        list(rest(f"http://127.0.0.1:{port}").iterate())
