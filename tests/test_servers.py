"""The test servers are what they claim to be: proved with obstore, as the product uses it."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from obstore.exceptions import (
    BaseError,
    PermissionDeniedError,
    UnauthenticatedError,
)

from tests.conftest import Connection
from tests.servers import Fault, FaultProxy, Kind, Server, start
from tests.servers.faults import FaultKind
from tests.servers.wire import call
from xcargo.airflow.connections import access_of
from xcargo.model.root import Root
from xcargo.stores.base import Limits
from xcargo.stores.object_store import ObstoreRequests, Work

KINDS = [
    pytest.param("s3", marks=pytest.mark.servers),
    pytest.param("gcs"),
    pytest.param("azure", marks=pytest.mark.servers),
]
SIGNED_KINDS = [pytest.param(kind, marks=pytest.mark.servers) for kind in ("s3", "azure")]


def open_store(server: Server, *, secret: str | None = None, work: Work = "request") -> Any:
    """obstore's client with the server's connection, as the product builds it; `secret` replaces the right one."""
    connection = {**server.connection, **({"password": secret} if secret else {})}
    root = Root.parse("/".join(server.root.split("/")[:3]))
    limits = Limits(20, retry_wait_seconds=0.01, retry_max_wait_seconds=0.05)
    return ObstoreRequests(root, access_of(root, lambda _: Connection(connection)), limits).client(work)


@pytest.fixture(scope="module")
def started() -> Iterator[dict[Kind, Server]]:
    """Each kind of server, started by the first test that asks for it."""
    with contextlib.ExitStack() as stack:

        class Starting(dict[Kind, Server]):
            def __missing__(self, kind: Kind) -> Server:
                self[kind] = stack.enter_context(start(kind, count=True))
                return self[kind]

        yield Starting()


@pytest.fixture
def server(started: dict[Kind, Server], request: pytest.FixtureRequest) -> Iterator[Server]:
    """The server of the kind that the test names, or fake-gcs-server; with an empty bucket."""
    server = started[getattr(request, "param", "gcs")]
    server.reset_requests()
    yield server
    for key in server.list_keys():
        server.raw_delete(key)


@pytest.fixture
def proxy(server: Server) -> Iterator[FaultProxy]:
    """A fault proxy in front of the server."""
    with FaultProxy(server.endpoint) as proxy:
        yield proxy


def every(kinds: list[Any]) -> pytest.MarkDecorator:
    """Run a test with each of these servers."""
    return pytest.mark.parametrize("server", kinds, indirect=True)


@every(KINDS)
def test_client_and_raw_calls_meet_in_the_same_bucket(server: Server) -> None:
    """Each sees what the other did, under keys that need quoting; only the client's requests are counted."""
    store, key = open_store(server), "demo/a b+ü=%41/x"
    written = store.put(key, b"one")
    assert (server.list_keys(), server.raw_get(key)) == ([key], b"one")
    head = store.head(key)
    assert (head["path"], head["size"], head["e_tag"]) == (key, 3, written["e_tag"])
    server.raw_put(key, b"two")
    assert bytes(store.get(key).bytes()) == b"two"
    assert [method for method, _ in server.requests()] == ["PUT", "HEAD", "GET"]
    assert all(unquote(path).partition("?")[0].endswith(f"/{key}") for _, path in server.requests())
    server.reset_requests()
    assert server.requests() == []
    server.raw_delete(key)
    server.raw_delete(key)
    with pytest.raises(FileNotFoundError):
        store.get(key)
    with pytest.raises(FileNotFoundError):
        server.raw_get(key)


@pytest.mark.servers
@every(KINDS)
def test_list_goes_over_several_pages(server: Server) -> None:
    """The client and the raw listing both see more keys than the 1000 of one page."""
    store = open_store(server)
    keys = [f"demo/{number:04}" for number in range(1100)]
    for key in keys:
        server.raw_put(key, b"")
    assert sorted(x["path"] for page in store.list("demo") for x in page) == keys
    assert server.list_keys() == keys


@every(SIGNED_KINDS)
def test_wrong_secret_is_refused(server: Server) -> None:
    """A client with another secret can neither write nor read."""
    server.raw_put("demo/x", b"x")
    store = open_store(server, secret="d3Jvbmcgd3Jvbmcgd3Jvbmc=")
    with pytest.raises((PermissionDeniedError, UnauthenticatedError)):
        store.get("demo/x")
    with pytest.raises((PermissionDeniedError, UnauthenticatedError)):
        store.put("demo/y", b"y")
    assert server.list_keys() == ["demo/x"]


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_server_outlives_its_process(end: signal.Signals) -> None:
    """python -m tests.servers prints a working connection; its server dies with it, even killed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.servers", "gcs"],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        word, assignment = shlex.split(process.stdout.readline())
        name, _, value = assignment.partition("=")
        endpoint = json.loads(value)["extra"]["keyfile_dict"]["gcs_base_url"]
        assert (word, name) == ("export", "AIRFLOW_CONN_XCARGO_GCS")
        assert is_listening(endpoint)
        children = descendants(process.pid)
        assert len(children) == 2  # the keeper and the server
        process.send_signal(end)
    deadline = time.monotonic() + 10
    while any(map(is_alive, children)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [pid for pid in children if is_alive(pid)] == []


def test_status_fault(server: Server, proxy: FaultProxy) -> None:
    """The client meets the status as often as asked, then the server; other methods do not."""
    proxy.add(Fault("status", method="PUT", status=503, times=2))
    store = open_store(server.via(proxy.url), work="several")
    with pytest.raises(FileNotFoundError):
        store.get("demo/x")
    store.put("demo/x", b"x")
    assert [(seen.method, seen.fault) for seen in proxy.requests] == [
        ("GET", None),
        ("PUT", "status"),
        ("PUT", "status"),
        ("PUT", None),
    ]
    assert [method for method, _ in server.requests()] == ["GET", "PUT"]
    proxy.add(Fault("status", status=429, retry_after=7, match="/demo/x$"))
    reply = call(proxy.url, "PUT", "/xcom/demo/x", body=b"x")
    assert (reply.status, reply.headers["retry-after"]) == (429, "7")


def test_refuse_fault(server: Server, proxy: FaultProxy) -> None:
    """Nothing listens while it lasts: until clear(), or for the given seconds."""
    store = open_store(server.via(proxy.url))
    store.put("demo/x", b"x")
    proxy.add(Fault("refuse"))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", urlsplit(proxy.url).port or 0))
    with pytest.raises(BaseError):
        store.get("demo/x")
    proxy.clear()
    assert bytes(store.get("demo/x").bytes()) == b"x"
    proxy.add(Fault("refuse", seconds=0.1))
    assert bytes(open_store(server.via(proxy.url), work="several").get("demo/x").bytes()) == b"x"


@pytest.mark.parametrize(("kind", "stored"), [("reset_before", []), ("reset_after", ["demo/x"])])
def test_reset_faults(server: Server, proxy: FaultProxy, kind: FaultKind, stored: list[str]) -> None:
    """A reset, not an orderly end, before the server has seen the request or after it has stored the object."""
    proxy.add(Fault(kind))
    with pytest.raises(ConnectionResetError):
        call(proxy.url, "PUT", "/xcom/demo/x", body=b"x")
    assert server.list_keys() == stored
    assert [seen.fault for seen in proxy.requests] == [kind]


def test_faults_of_a_body(server: Server, proxy: FaultProxy) -> None:
    """It breaks off, short of the announced length; or one byte differs, which nothing but a checksum would notice."""
    server.raw_put("demo/x", b"0123456789")
    store = open_store(server.via(proxy.url))
    proxy.add(Fault("truncate", method="GET"))
    with pytest.raises(BaseError):
        store.get("demo/x").bytes()
    proxy.add(Fault("corrupt", method="GET"))
    data = bytes(store.get("demo/x").bytes())
    assert [a == b for a, b in zip(data, b"0123456789", strict=True)].count(False) == 1
    assert bytes(store.get("demo/x").bytes()) == b"0123456789"


@pytest.mark.parametrize("wrong", [{"kind": "refuse", "method": "PUT"}, {"kind": "typo"}])
def test_a_fault_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    """A fault of no known kind, or with a field that its kind ignores, is an error."""
    with pytest.raises(ValueError, match=r"no such fault|no meaning"):
        Fault(**wrong)


def is_listening(endpoint: str) -> bool:
    try:
        socket.create_connection(("127.0.0.1", urlsplit(endpoint).port or 0), 1).close()
    except OSError:
        return False
    return True


def descendants(pid: int) -> list[int]:
    listing = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = {int(child): int(parent) for child, parent in map(str.split, listing.splitlines())}
    found = [pid]
    for seen in found:
        found += [child for child, parent in parents.items() if parent == seen]
    return found[1:]


def is_alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False
