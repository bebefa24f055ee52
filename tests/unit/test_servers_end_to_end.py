"""The pipeline over real servers: the request budget, and what a store's failures come to."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tests.servers import Fault, FaultProxy, Server
from tests.unit.conftest import HERE, in_fork, make_pipeline
from xcargo.errors import (
    AccessDeniedError,
    ConfigurationError,
    IntegrityError,
    ObjectNotFoundError,
    RootNotFoundError,
    StoreError,
)
from xcargo.pipeline.pipeline import Pipeline

pytestmark = pytest.mark.servers

VALUE = {f"key{i}": os.urandom(60).hex() for i in range(100)}
LARGE = os.urandom(23_000_000)


def pipeline_on(server: Server, **settings: Any) -> Pipeline:
    return make_pipeline(server.root, connection=server.connection, **settings)


def through(proxy: FaultProxy, server: Server, **settings: Any) -> Pipeline:
    return make_pipeline(server.root, connection=server.via(proxy.url).connection, **settings)


def requests(server: Server) -> list[str]:
    """Methods of the requests that reached the server since the last call."""
    methods = [method for method, _ in server.requests()]
    server.reset_requests()
    return methods


def test_one_request_a_push_one_a_pull_one_a_purge(any_server: Server) -> None:
    """No listing, no HEAD, no bucket check: counted at the server, for the first value of a process and the second."""
    pipeline = pipeline_on(any_server)
    requests(any_server)
    for _ in range(2):
        row = pipeline.push(VALUE, HERE)
        assert requests(any_server) == ["PUT"]
        assert pipeline.pull(row) == VALUE
        assert requests(any_server) == ["GET"]
        assert pipeline.purge(row) is True
        assert requests(any_server) == ["POST" if any_server.kind == "azure" else "DELETE"]  # Azure: a batch of one
        assert pipeline.purge(row) is True
        with pytest.raises(ObjectNotFoundError):
            pipeline.pull(row)
        requests(any_server)


def test_a_small_value_asks_the_store_nothing(any_server: Server) -> None:
    """Values in the row cost no request, and open no client."""
    pipeline = pipeline_on(any_server)
    requests(any_server)
    assert pipeline.push({"a": 23}, HERE) == {"a": 23}
    assert requests(any_server) == []


def test_a_large_value_travels_in_parallel_parts(any_server: Server) -> None:
    """Above four parts both ways are split; the value is the same."""
    pipeline = pipeline_on(any_server, part_bytes=5 * 1024 * 1024)
    requests(any_server)
    row = pipeline.push(LARGE, HERE)
    assert len(requests(any_server)) >= 5
    assert pipeline.pull(row) == LARGE
    assert requests(any_server) == ["GET"] * 6  # one for each chunk of 4 MiB: a part has no room for two
    assert pipeline.purge(row)


def test_a_size_that_an_envelope_only_claims_is_not_allocated(any_server: Server) -> None:
    """A forged size of a terabyte ends at the first part, as does one of an object that was replaced."""
    pipeline = pipeline_on(any_server)
    row: Any = pipeline.push(VALUE, HERE)
    requests(any_server)
    with pytest.raises(IntegrityError, match="bytes"):
        pipeline.pull({**row, "stored_bytes": 2**40, "size_bytes": 2**40})
    assert requests(any_server) == ["GET"] * 2  # and a look whether the object has expired


@pytest.mark.parametrize("kind", ["s3", "gcs", "azure"])
def test_a_missing_bucket_is_named_and_not_created(kind: str, request: pytest.FixtureRequest) -> None:
    """Push and pull say that the bucket is missing."""
    server = request.getfixturevalue("strict_s3" if kind == "s3" else f"{kind}_server")
    scheme, _, rest = server.root.partition("://")
    root = f"{scheme}://{rest.partition('@')[0]}@no-such-bucket/x"
    pipeline = make_pipeline(root, connection=server.connection, timeout_seconds=5)
    for _ in range(2):  # still missing the second time: the first push did not make it
        with pytest.raises(RootNotFoundError, match="no-such-bucket"):
            pipeline.push(VALUE, HERE)


@pytest.fixture
def strict_s3() -> Iterator[SimpleNamespace]:
    """SeaweedFS makes a bucket that is missing; moto, like Amazon, refuses."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    extra = {"endpoint_url": f"http://{host}:{port}"}
    connection = {"conn_type": "aws", "login": "k", "password": "s", "extra": extra}
    yield SimpleNamespace(root="s3://xcargo_s3@xcom", connection=connection)
    server.stop()


@pytest.mark.parametrize("kind", ["s3", "azure"])
def test_wrong_credentials_are_told_with_the_connection_and_no_secret(
    kind: str, request: pytest.FixtureRequest
) -> None:
    """AccessDeniedError names the connection id; the secret does not appear."""
    server: Server = request.getfixturevalue(f"{kind}_server")
    secret = "d3JvbmctYW5kLXNlY3JldC1lbm91Z2gtdG8tYmUtYS1rZXk="
    pipeline = make_pipeline(server.root, connection={**server.connection, "password": secret})
    with pytest.raises(AccessDeniedError, match=f"xcargo_{kind}") as caught:
        pipeline.push(VALUE, HERE)
    assert secret not in str(caught.value)
    assert secret not in repr(caught.value.__cause__)


def test_credentials_that_were_rotated_are_looked_up_again(s3_server: Server) -> None:
    """One refusal makes the pool ask for the connection once more; the push then succeeds."""
    secrets = [{**s3_server.connection, "password": "old-secret"}, s3_server.connection]
    pipeline = make_pipeline(s3_server.root, connection=lambda: secrets.pop(0))
    assert pipeline.pull(pipeline.push(VALUE, HERE)) == VALUE
    assert secrets == []


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", method="PUT", status=503, times=2),
        Fault("reset_before", method="PUT", times=2),
        Fault("reset_after", method="PUT", times=1),
    ],
    ids=lambda fault: fault.kind,
)
def test_a_passing_fault_of_a_push_is_retried_inside_it(s3_server: Server, proxy: FaultProxy, fault: Fault) -> None:
    """The push succeeds and leaves exactly one object."""
    pipeline = through(proxy, s3_server, retry_wait_seconds=0.01)
    before = set(s3_server.list_keys())
    proxy.add(fault)
    row = pipeline.push(VALUE, HERE)
    assert pipeline.pull(row) == VALUE
    assert len(set(s3_server.list_keys()) - before) == 1


def test_a_body_altered_on_the_way_is_never_a_value(s3_server: Server, proxy: FaultProxy) -> None:
    """A flipped byte in an answer fails the checksum."""
    pipeline = through(proxy, s3_server)
    row = pipeline.push(VALUE, HERE)
    proxy.add(Fault("corrupt", method="GET", times=None))
    with pytest.raises(IntegrityError):
        pipeline.pull(row)


def test_a_dead_end_is_not_retried(s3_server: Server, proxy: FaultProxy) -> None:
    """A request that the server rejects for good is made once."""
    pipeline = through(proxy, s3_server)
    proxy.add(Fault("status", method="PUT", status=400, times=None))
    with pytest.raises(StoreError):
        pipeline.push(VALUE, HERE)
    assert [seen.method for seen in proxy.requests] == ["PUT"]


def test_an_endpoint_that_is_no_url_is_a_configuration_error(s3_server: Server) -> None:
    """The message names the connection, not a stack of HTTP."""
    connection = {**s3_server.connection, "extra": {"endpoint_url": "127.0.0.1:9000"}}
    with pytest.raises(ConfigurationError, match="xcargo_s3"):
        make_pipeline(s3_server.root, connection=connection, timeout_seconds=1).push(VALUE, HERE)


def test_a_child_forked_after_a_pull_pushes_and_pulls(any_server: Server) -> None:
    """obstore's threads do not cross a fork; the child works all the same, and so do its errors and its own child."""
    pipeline = pipeline_on(any_server)
    row = pipeline.push(VALUE, HERE)
    assert pipeline.pull(row) == VALUE

    def child() -> bool:
        again = pipeline.push({**VALUE, "child": 1}, HERE)
        works = pipeline.pull(again) == {**VALUE, "child": 1} and pipeline.pull(row) == VALUE
        purged = pipeline.purge(again)
        try:
            pipeline.pull(again)
        except ObjectNotFoundError:
            return works and purged and in_fork(lambda: pipeline.pull(row) == VALUE) == 0
        return False

    assert in_fork(child) == 0
    assert pipeline.pull(row) == VALUE  # the parent is untouched


def test_a_forked_child_may_have_more_descriptors_open_than_select_takes(s3_server: Server) -> None:
    """The pipe to the helper process has a number above 1,024 then."""
    pipeline = pipeline_on(s3_server)
    assert pipeline.pull(pipeline.push(VALUE, HERE)) == VALUE

    def child() -> bool:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
        held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1150)]
        return max(held) > 1024 and bool(pipeline.pull(pipeline.push(VALUE, HERE)) == VALUE)

    assert in_fork(child) == 0
