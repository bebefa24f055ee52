"""A pipeline over any root, with the connection of a test server and with wrapped stores."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest

from tests.conftest import Connection
from tests.servers import FaultProxy, Server
from xcargo.airflow.connections import access_of
from xcargo.codecs import Registry
from xcargo.model.coordinate import Coordinate
from xcargo.model.root import Root
from xcargo.model.settings import Settings
from xcargo.pipeline.observer import Observer
from xcargo.pipeline.pipeline import Pipeline, RowRules
from xcargo.stores import StorePool
from xcargo.stores.base import Access, Limits, Store
from xcargo.stores.local import buckets

HERE = Coordinate("my_dag", "manual__2026-01-01T00:00:00+00:00", "my_task", "return_value")

FORKS = multiprocessing.get_context("forkserver")
"""Makes processes that share what is loaded, and have no thread of obstore and no settings. A test run has one server
for all of them, so everything that they share is named here."""
FORKS.set_forkserver_preload(["tests.unit.cli.worker", "tests.unit.test_crashes", "obstore"])


class WrappingPool(StorePool):
    """Wraps each store it opens."""

    def __init__(self, access_of: Callable[[Root], Access], wrap: Callable[[Store], Any]) -> None:
        super().__init__(access_of)
        self._wrap = wrap
        self._wrapped: dict[tuple[Root, Limits], Store] = {}

    def forget(self, root: Root) -> None:
        super().forget(root)
        self._wrapped.clear()

    def store(self, root: Root, limits: Limits) -> Store:
        if (root, limits) not in self._wrapped:
            self._wrapped[root, limits] = self._wrap(super().store(root, limits))
        return self._wrapped[root, limits]


def make_pipeline(
    url: str = "memory://test/xcom",
    *,
    connection: dict[str, Any] | Callable[[], dict[str, Any]] | None = None,
    wrap: Callable[[Store], Any] = lambda store: store,
    read_paths: tuple[str, ...] = (),
    mask: Callable[[str], str] = str,
    observer: Observer | None = None,
    team: str | None = None,
    rules: RowRules | None = None,
    codecs: Registry | None = None,
    **settings: Any,
) -> Pipeline:
    """A pipeline over ``url``; ``connection`` is (or looks up) its Airflow connection, as a dictionary."""

    def access(root: Root) -> Access:
        if root.scheme in ("file", "memory"):
            return Access()
        found = connection() if callable(connection) else connection
        assert found is not None
        return access_of(root, lambda conn_id: Connection(found, conn_id))

    defaults = Settings(Root.parse(url), read_roots=tuple(map(Root.parse, read_paths)))
    return Pipeline(
        dataclasses.replace(defaults, **settings),
        codecs or Registry(entry_points=False),
        WrappingPool(access, wrap),
        mask=mask,
        observer=observer,
        team=lambda: team,
        rules=rules,
    )


@cache
def google_key() -> dict[str, str]:
    """The key file of a service account, made here."""
    from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    account = {"type": "service_account", "client_email": "me@project.iam.gserviceaccount.com"}
    return {**account, "private_key": key.decode(), "private_key_id": "1"}


@pytest.fixture
def proxy(s3_server: Server) -> Iterator[FaultProxy]:
    """A proxy in front of the S3 server that disturbs what it is told to."""
    with FaultProxy(s3_server.endpoint) as proxy:
        yield proxy


def in_fork(work: Callable[[], object]) -> int:
    """Exit code of a child, forked here and now, that runs ``work``: 0 if that returns something true.

    The negative number of the signal that killed it; 99 if it hangs.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads that a fork does not have
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if work() else 2
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return 99


@pytest.fixture(autouse=True)
def _empty_memory() -> None:
    buckets.clear()
