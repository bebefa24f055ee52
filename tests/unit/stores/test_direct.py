"""Large reads past the store's client: over a real server, and over one that fails."""

from __future__ import annotations

import logging
import os

import pytest

from tests.conftest import Connection
from tests.servers import Fault, FaultProxy, Server
from xcargo.airflow.connections import access_of
from xcargo.errors import IntegrityError, ObjectNotFoundError
from xcargo.model.root import Root
from xcargo.stores.base import Access, Limits
from xcargo.stores.direct import may_read_directly
from xcargo.stores.object_store import ObjectStore

pytestmark = pytest.mark.servers

DATA = os.urandom(9_000_000)
ROOT = Root.parse("s3://c@bucket/prefix")


@pytest.fixture
def store(s3_server: Server, proxy: FaultProxy) -> ObjectStore:
    """A store behind the proxy that holds one large object."""
    root = Root.parse(s3_server.root + "/direct")
    access = access_of(root, lambda _: Connection(s3_server.via(proxy.url).connection))
    store = ObjectStore(root, access, Limits(timeout_seconds=8, retry_wait_seconds=0.01))
    store.put("a b/x=1~large", [DATA])
    proxy.reset_requests()
    return store


def read(store: ObjectStore, start: int = 0, size: int = len(DATA), key: str = "a b/x=1~large") -> bytes:
    memory = bytearray(size)
    return bytes(memory[: store.get_into(key, memoryview(memory), start=start)])


def gets(proxy: FaultProxy) -> list[bool]:
    """Of each GET whether it came by a signed URL."""
    return ["X-Amz-Signature=" in seen.path for seen in proxy.requests if seen.method == "GET"]


def test_a_large_read_is_one_request_by_a_signed_url(store: ObjectStore, proxy: FaultProxy) -> None:
    """Whole or in part; a small one is the client's."""
    assert read(store) == DATA
    assert read(store, 100, 5_000_000) == DATA[100:5_000_100]
    assert read(store, 100, 1_000_000) == DATA[100:1_000_100]
    assert gets(proxy) == [True, True, False]


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", match="X-Amz-Signature", status=503),
        Fault("status", match="X-Amz-Signature", status=403),
        Fault("reset_before", match="X-Amz-Signature"),
        Fault("truncate", match="X-Amz-Signature"),
        Fault("stall", match="X-Amz-Signature"),
        Fault("drip", match="X-Amz-Signature", seconds=1),
    ],
    ids=lambda fault: f"{fault.kind} {fault.status}",
)
def test_what_fails_is_read_on_by_the_client(
    store: ObjectStore, proxy: FaultProxy, fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    """The bytes are right, the signature is in no line of the log, and the next read tries again."""
    proxy.add(fault)
    with caplog.at_level(logging.DEBUG):
        assert read(store) == DATA
        assert read(store) == DATA
    assert gets(proxy) == [True, False, True]
    assert "Signature" not in caplog.text


def test_three_failures_in_a_row_are_enough(store: ObjectStore, proxy: FaultProxy) -> None:
    """Where signed URLs are not allowed, each process finds that out once."""
    proxy.add(Fault("status", match="X-Amz-Signature", status=403, times=None))
    for _ in range(5):
        assert read(store) == DATA
    assert gets(proxy) == [True, False, True, False, True, False, False, False]


def test_errors_are_those_of_the_client(store: ObjectStore) -> None:
    """An object that is not there, or not so long."""
    with pytest.raises(ObjectNotFoundError):
        read(store, key="a~gone")
    with pytest.raises(IntegrityError, match="shorter"):
        read(store, len(DATA) + 1, 5_000_000)
    assert read(store, 0, len(DATA) + 5_000_000) == DATA


def test_a_connection_that_the_server_has_closed_is_no_failure(store: ObjectStore, proxy: FaultProxy) -> None:
    """Idle connections end; the read that finds one ended is made all the same."""
    assert read(store) == DATA
    proxy.add(Fault("refuse", seconds=0.2))
    assert read(store) == DATA


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_child_leaves_the_connections_of_its_parent_alone(store: ObjectStore) -> None:
    """Parent and child read at the same time, and each gets its own bytes."""
    assert read(store) == DATA
    child = os.fork()
    if child == 0:
        os._exit(0 if all(read(store, 7, 5_000_000) == DATA[7:5_000_007] for _ in range(3)) else 1)
    assert all(read(store) == DATA for _ in range(3))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "http_proxy"])
def test_the_environments_proxy_is_not_bypassed(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Whoever set a proxy wants requests to go there."""
    assert may_read_directly(ROOT, Access())
    monkeypatch.setenv(name, "http://proxy:3128")
    assert not may_read_directly(ROOT, Access())


@pytest.mark.parametrize(
    "access",
    [
        Access(client={"proxy_url": "http://proxy"}),
        Access(client={"root_certificate": "…"}),
        Access({"skip_signature": True}),
        Access({"aws_sse_customer_key_base64": "…"}),
        Access({"sse_customer_encryption_key_base64": "…"}),
        Access({"request_payer": True}),
    ],
)
def test_what_a_signed_url_cannot_carry_is_left_to_the_client(access: Access) -> None:
    """Proxies, certificates, keys in headers, requests without signature."""
    assert not may_read_directly(ROOT, access)
    assert not may_read_directly(Root.parse("gs://bucket/prefix"), Access())
