"""Connections for schemes without a store of their own: real FTP and SFTP servers on loopback."""

from __future__ import annotations

import asyncio
import logging
import queue
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.unit.airflow.connection_kit import SECRET, Connection, access, store
from tests.unit.conftest import HERE, in_fork, make_pipeline
from xcargo.airflow import compat

pytest.importorskip("fsspec")

pytestmark = [pytest.mark.usefixtures("bare"), pytest.mark.filterwarnings("default")]


@dataclass
class Served:
    """A server that shows ``folder``."""

    port: int
    folder: Path


@pytest.fixture
def ftp(tmp_path: Path) -> Iterator[Served]:
    pytest.importorskip("pyftpdlib")
    from pyftpdlib.authorizers import DummyAuthorizer
    from pyftpdlib.handlers import FTPHandler
    from pyftpdlib.servers import ThreadedFTPServer

    folder = tmp_path / "served"
    folder.mkdir()
    users = DummyAuthorizer()
    users.add_user("me", SECRET, str(folder), perm="elradfmwMT")
    handler = type("Handler", (FTPHandler,), {"authorizer": users})
    server = ThreadedFTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"timeout": 0.05, "handle_exit": False}, daemon=True)
    thread.start()
    try:
        yield Served(server.socket.getsockname()[1], folder)
    finally:
        _hang_up("ftp")
        server.close_all()
        thread.join(5)


@pytest.fixture
def sftp(tmp_path: Path) -> Iterator[Served]:
    asyncssh = pytest.importorskip("asyncssh")
    pytest.importorskip("paramiko")
    folder = tmp_path / "served"
    folder.mkdir()
    me = asyncssh.generate_private_key("ssh-ed25519")
    (tmp_path / "me").write_bytes(me.export_private_key())
    (tmp_path / "me.pub").write_bytes(me.export_public_key())
    ready: queue.SimpleQueue[Any] = queue.SimpleQueue()
    made: list[Any] = []

    class Users(asyncssh.SSHServer):  # type: ignore[misc,name-defined]
        def connection_made(self, conn: Any) -> None:
            made.append(conn)

        def password_auth_supported(self) -> bool:
            return True

        def validate_password(self, username: str, password: str) -> bool:
            return (username, password) == ("me", SECRET)

    async def serve() -> None:
        server = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_factory=Users,
            server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
            authorized_client_keys=str(tmp_path / "me.pub"),
            sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=str(folder)),
        )
        stop = asyncio.Event()
        ready.put((server.get_port(), asyncio.get_running_loop(), stop))
        await stop.wait()
        server.close()
        for connection in made:
            connection.abort()
            await connection.wait_closed()
        await server.wait_closed()
        await asyncio.sleep(0)  # transports close their sockets a turn later

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    port, loop, stop = ready.get(timeout=10)
    try:
        yield Served(port, folder)
    finally:
        _hang_up("sftp")
        loop.call_soon_threadsafe(stop.set)
        thread.join(5)


def _hang_up(protocol: str) -> None:
    """Close the connections that fsspec keeps for the next use."""
    import fsspec

    kind = fsspec.get_filesystem_class(protocol)
    for made in list(kind._cache.values()):
        (made.client if protocol == "sftp" else made.ftp).close()
    kind.clear_instance_cache()


def serves(opened: Any, folder: Path) -> None:
    """Put, get, list and delete; the file is where the path says, and a missing one counts as deleted."""
    opened.put("a/b", [b"va", b"lue"])
    assert (folder / "xcom" / "a" / "b").read_bytes() == b"value"
    assert bytes(opened.get("a/b")) == b"value"
    assert [info.key for info in opened.list()] == ["a/b"]
    for _ in range(2):
        opened.delete(["a/b"])
    assert not (folder / "xcom" / "a" / "b").exists()


def test_ftp_by_login_and_password(ftp: Served) -> None:
    """Host, port, login and password of the connection open the file system; the host in the path is a name only."""
    connection = Connection("ftp", host="127.0.0.1", port=ftp.port, login="me", password=SECRET)
    serves(store("ftp://my_conn@anywhere/xcom", connection), ftp.folder)


def test_sftp_by_password(sftp: Served) -> None:
    """The host may also be the one in the path."""
    connection = Connection("sftp", port=sftp.port, login="me", password=SECRET)
    serves(store("sftp://my_conn@127.0.0.1/xcom", connection), sftp.folder)


@pytest.mark.parametrize("protocol", ["ftp", "sftp"])
def test_a_handle_is_streamed_where_the_server_copies_nothing(
    protocol: str, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    """A task that hands on what it got stores it anew, says so once, and leaves no part of a copy."""
    server: Served = request.getfixturevalue(protocol)
    fields = {"conn_type": protocol, "host": "127.0.0.1", "port": server.port, "login": "me", "password": SECRET}
    pipeline = make_pipeline(f"{protocol}://my_conn@anywhere/xcom", connection=fields)
    value = random.Random(0).randbytes(200_000)
    row = pipeline.push(value, HERE)
    caplog.set_level(logging.INFO, logger="xcargo")
    rows = [row, *(pipeline.push(pipeline.handle(row), HERE) for _ in range(2))]
    assert [pipeline.pull(row) for row in rows] == [value] * 3
    assert len([record for record in caplog.records if "does not copy by itself" in record.message]) == 1
    assert [path.stat().st_size for path in server.folder.rglob("*") if path.is_file()] == [len(value)] * 3


@pytest.mark.parametrize("protocol", ["ftp", "sftp"])
def test_a_forked_child_has_a_connection_of_its_own(protocol: str, request: pytest.FixtureRequest) -> None:
    """It does not wait for the threads of its parent's, nor send anything on it; the parent's goes on."""
    served: Served = request.getfixturevalue(protocol)
    connection = Connection(protocol, host="127.0.0.1", port=served.port, login="me", password=SECRET)
    opened = store(f"{protocol}://my_conn@127.0.0.1/xcom", connection, timeout_seconds=20)
    opened.put("d/r/t/k~1", [b"of the parent"])

    def work() -> bool:
        began = time.monotonic()
        opened.put("d/r/t/k~2", [b"of the child"])
        return bytes(opened.get("d/r/t/k~1")) == b"of the parent" and time.monotonic() - began < 10

    assert in_fork(work) == 0
    assert bytes(opened.get("d/r/t/k~2")) == b"of the child"


@pytest.mark.parametrize("form", ["key_file", "private_key"])
def test_sftp_by_key(sftp: Served, tmp_path: Path, form: str) -> None:
    """The key fields of an ``sftp`` connection are understood, those only the hook knows are left out."""
    extra = {"key_file": str(tmp_path / "me")} if form == "key_file" else {"private_key": (tmp_path / "me").read_text()}
    connection = Connection(
        "sftp",
        host="127.0.0.1",
        port=sftp.port,
        login="me",
        extra={**extra, "no_host_key_check": "true", "conn_timeout": 5, "look_for_keys": False},
    )
    serves(store("sftp://my_conn@anywhere/xcom", connection), sftp.folder)


def test_nothing_is_opened_before_it_is_used() -> None:
    """Looking up the access of a root opens no file system."""
    assert access("ftp://my_conn@nowhere.invalid/xcom", Connection("ftp")).filesystem is not None


def test_a_scheme_of_a_provider_is_left_to_airflow() -> None:
    """A scheme that an Airflow provider registers is opened by Airflow; one that none does is not."""
    pytest.importorskip("airflow.providers.microsoft.azure")
    official = compat.get_filesystem("msgraph")
    assert official is not None
    assert official.__module__.startswith("airflow")
    assert compat.get_filesystem("sftp") is None


@pytest.mark.parametrize("url", ["file:///var/lib/xcom", "memory://xcom/a"])
def test_local_roots_need_no_connection(url: str) -> None:
    """Local roots ask for nothing."""
    found = access(url)
    assert (dict(found.config), found.credentials, found.filesystem) == ({}, None, None)
