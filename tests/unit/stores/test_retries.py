"""Repeated requests: waits, bounds, lines in the log, over real servers and file systems that fail."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import Connection
from tests.servers import Fault, FaultProxy, Server
from xcargo.airflow.connections import access_of
from xcargo.errors import ObjectExistsError, StoreUnavailableError
from xcargo.model.root import Root
from xcargo.model.settings import Settings
from xcargo.stores.base import Limits
from xcargo.stores.object_store import ObjectStore
from xcargo.stores.retry import pause_seconds

DATA = os.urandom(50_000)


@given(
    attempt=st.integers(1, 200),
    left=st.floats(0, 60),
    busy=st.booleans(),
    asked=st.none() | st.floats(0, 1000),
    first=st.floats(0.001, 5),
)
def test_a_wait_leaves_time_for_what_follows_it(
    attempt: int, left: float, busy: bool, asked: float | None, first: float
) -> None:
    """A tenth of the bound is always left for the last attempt; what the store asks for is waited, as far as that."""
    limits = Limits(60, retry_wait_seconds=first)
    error = StoreUnavailableError("x")
    error.busy, error.retry_after_seconds = busy, asked
    wait = pause_seconds(attempt, error, limits, left)
    if left <= 6:
        assert wait is None
    else:
        assert wait is not None
        assert 0 <= wait <= left - 6
        assert wait >= min(asked or 0, left - 6)
        assert wait <= max(5, asked or 0)


def test_waits_double_up_to_the_longest() -> None:
    """Each lies between half of its size and all of it."""
    limits = Limits(1e6, retry_wait_seconds=1, retry_max_wait_seconds=8)
    for attempt, longest in enumerate([1, 2, 4, 8, 8, 8], 1):
        waits = [pause_seconds(attempt, StoreUnavailableError("x"), limits, 1e6) for _ in range(50)]
        assert all(wait is not None and longest / 2 <= wait <= longest for wait in waits)
        assert len(set(waits)) > 1


def test_limits_are_those_of_the_settings() -> None:
    """All of them, so that nobody who opens a store leaves one out; time and concurrency may be others."""
    settings = Settings(
        Root.parse("s3://b/x"),
        timeout_seconds=7,
        part_bytes=6 * 1024 * 1024,
        max_concurrency=3,
        retry_wait_seconds=0.3,
        retry_max_wait_seconds=0.9,
        hedge_after_seconds=2,
        fsync=False,
    )
    assert Limits.from_settings(settings) == Limits(7, 6 * 1024 * 1024, 3, 0.3, 0.9, 2, fsync=False)
    assert Limits.from_settings(settings, timeout_seconds=1, max_concurrency=9).retry_wait_seconds == 0.3


@pytest.fixture
def opened(s3_server: Server, proxy: FaultProxy) -> Callable[..., ObjectStore]:
    """A store behind the proxy."""
    root = Root.parse(s3_server.root + "/retries")
    access = access_of(root, lambda _: Connection(s3_server.via(proxy.url).connection))
    return lambda **limits: ObjectStore(root, access, Limits(**{"timeout_seconds": 4, **limits}))


def methods(proxy: FaultProxy) -> list[str]:
    return [seen.method for seen in proxy.requests]


def test_each_repetition_is_one_line_that_says_what_where_and_when_next(
    opened: Callable[..., ObjectStore], proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    """And no signature of a URL."""
    proxy.add(Fault("status", method="PUT", status=500, times=2))
    with caplog.at_level(logging.WARNING, "xcargo"):
        opened().put("a/b~1", [DATA])
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    for number, line in enumerate(lines, 1):
        assert re.search(
            rf"attempt {number} to put s3://xcom/demo/retries/a/b~1 failed, \d\.\d s after the first: "
            r".*PUT at http://127\.0\.0\.1:\d+: .*500.*\. Next in \d\.\d s, for 4 s in all",
            line,
        )
        assert "Signature" not in line


def test_a_put_whose_answer_was_lost_is_recognised_and_not_repeated(
    opened: Callable[..., ObjectStore], proxy: FaultProxy, s3_server: Server
) -> None:
    """One put, one get: the object lies there."""
    proxy.add(Fault("reset_after", method="PUT", times=None))
    opened().put("lost~1", [DATA])
    assert methods(proxy) == ["PUT", "GET"]
    assert s3_server.raw_get("demo/retries/lost~1") == DATA


def test_a_lost_put_over_an_object_of_the_same_size_is_repeated(
    opened: Callable[..., ObjectStore], proxy: FaultProxy, s3_server: Server
) -> None:
    """Names that are written again: an entry of memoize, a text of the state store."""
    s3_server.raw_put("demo/retries/fixed~1", DATA[::-1])
    proxy.add(Fault("status", method="PUT", status=500, times=1))
    opened().put("fixed~1", [DATA])
    assert s3_server.raw_get("demo/retries/fixed~1") == DATA


def test_a_lost_answer_of_a_create_is_told_from_another_ones_object(
    opened: Callable[..., ObjectStore], proxy: FaultProxy, s3_server: Server
) -> None:
    """Ours by its bytes; the same size alone does not do."""
    proxy.add(Fault("reset_after", method="PUT", times=1))
    opened().put("create~1", [DATA], mode="create")
    assert s3_server.raw_get("demo/retries/create~1") == DATA
    s3_server.raw_put("demo/retries/create~2", DATA[::-1])
    proxy.add(Fault("reset_after", method="PUT", times=1))
    with pytest.raises(ObjectExistsError):
        opened().put("create~2", [DATA], mode="create")
    assert s3_server.raw_get("demo/retries/create~2") == DATA[::-1]


def test_a_busy_store_is_left_alone_twenty_times_longer(
    opened: Callable[..., ObjectStore], proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    """503 and 429 say that there is too much to do; 500 does not."""
    store = opened(retry_wait_seconds=0.02)
    waits = {}
    for status in (500, 503, 429):
        caplog.clear()
        proxy.add(Fault("status", method="PUT", status=status))
        store.put("busy~1", [DATA])
        found = re.search(r"Next in (\d\.\d) s", caplog.text)
        assert found
        waits[status] = float(found.group(1))
    assert waits[500] == 0.0
    assert min(waits[503], waits[429]) >= 0.2


@pytest.mark.parametrize("verb", ["get", "put"])
def test_a_store_that_never_answers_takes_no_more_than_the_bound(
    opened: Callable[..., ObjectStore], proxy: FaultProxy, verb: str
) -> None:
    """More than one attempt fits into it, and the error says how many there were."""
    store = opened(timeout_seconds=2)
    store.put("stuck~1", [DATA])
    proxy.reset_requests()
    proxy.add(Fault("stall", times=None))
    work = {
        "get": lambda: store.get("stuck~1"),
        "put": lambda: store.put("stuck~1", [DATA]),
    }[verb]
    begun = time.monotonic()
    with pytest.raises(StoreUnavailableError, match=r"\(tried \d times in \d\.\d s of 2\)"):
        work()
    assert time.monotonic() - begun < 2.5  # the bound itself, and what a busy machine takes to notice
    assert len(proxy.requests) >= 2


def test_a_slow_small_get_is_asked_for_a_second_time_beside_the_first(
    opened: Callable[..., ObjectStore], proxy: FaultProxy
) -> None:
    """The second answer counts, though the first never comes; without hedging the stuck request has to end first."""
    store = opened(timeout_seconds=40, hedge_after_seconds=0.3)
    store.put("slow~1", [DATA])
    proxy.reset_requests()
    proxy.add(Fault("stall", method="GET", times=1))
    assert bytes(store.get("slow~1")) == DATA
    assert methods(proxy) == ["GET", "GET"]
    proxy.add(Fault("status", method="GET", status=404, times=None))
    with pytest.raises(FileNotFoundError):
        store.get("slow~1")


def test_an_upload_in_parts_whose_completion_was_lost_is_recognised(any_server: Server) -> None:
    """On every store: the object is whole, and no second upload is made."""
    data = os.urandom(21 * 1024 * 1024)
    root = Root.parse(any_server.root + "/retries")
    with FaultProxy(any_server.endpoint) as proxy:
        server = any_server.via(proxy.url)
        access = access_of(root, lambda _: Connection(server.connection))
        store = ObjectStore(root, access, Limits(5, 5 * 1024 * 1024))
        last = {"s3": ("POST", "uploadId"), "gcs": ("POST", "uploadId"), "azure": ("PUT", "comp=blocklist")}
        method, match = last[any_server.kind]
        proxy.add(Fault("reset_after", method=method, match=match, times=1))
        store.put("parts~1", [data])
    key = any_server.root.split("/", 3)[3] + "/retries/parts~1"
    assert any_server.raw_get(key) == data
    any_server.raw_delete(key)
