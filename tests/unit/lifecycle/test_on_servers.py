"""What sweeps rest on, on every kind of store: folders, a note that is written once, a note in place of a value."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Connection
from tests.servers import Fault, FaultProxy, Server
from tests.unit.conftest import make_pipeline
from tests.unit.lifecycle.kit import Rows
from xcargo.airflow.connections import access_of
from xcargo.errors import ObjectExpiredError, SweepRefusedError
from xcargo.lifecycle.bookkeeping import Owner, claim, read_owner
from xcargo.lifecycle.plan import SweepOptions
from xcargo.lifecycle.report import Outcome, Report
from xcargo.lifecycle.sweep import Sweep, folders, shards
from xcargo.model.coordinate import Coordinate
from xcargo.model.envelope import tombstone
from xcargo.model.root import Root
from xcargo.stores import open_store
from xcargo.stores.base import Limits, Store
from xcargo.stores.local import LocalStore


def stores(server: Server, folder: Path, name: str) -> list[Store]:
    """One on the server, and one in a folder."""
    root = Root.parse(f"{server.root}/{name}")
    access = access_of(root, lambda conn_id: Connection(server.connection, conn_id))
    return [open_store(root, access, Limits()), LocalStore(Root.parse((folder / name).as_uri()))]


def test_folders_at_the_top_are_what_dags_there_are(any_server: Server, tmp_path: Path) -> None:
    """Neither files at the top nor the notes of sweeps are among them; an empty root has none."""
    for store in stores(any_server, tmp_path, "shards"):
        assert shards(store, 4) == []
        for dag in ("b", "a", "a b"):
            store.put(Coordinate(dag, "r", "t", "k").object_key(), [b"x"])
        store.put("at-the-top", [b"x"])
        store.put("~xcargo/quarantine/a/r/t/k~0123456789abcdef", [b"x"])
        store.put("~xcargo/memo/readme.txt", [b"x"])
        assert not list(store.list("~xcargo/memo/readme.txt"))  # since it is no folder
        assert folders(store) == ["a", "a~20b", "b"]
        assert shards(store, 2) == [["a", "b"], ["a~20b"]]
        assert shards(store, 9) == [["a"], ["a~20b"], ["b"]]


def test_of_two_first_sweeps_one_owns_the_root(any_server: Server, tmp_path: Path) -> None:
    """The one that was slower is refused, and deletes nothing."""
    a, b = Owner(database="a"), Owner(database="b")
    for store in stores(any_server, tmp_path, "owned"):
        assert read_owner(store) is None
        claim(store, None, a, ())
        claim(store, None, a, ())
        with pytest.raises(SweepRefusedError, match="not ours"):
            claim(store, None, b, ())
        assert read_owner(store) == a


def test_a_root_with_nothing_in_it_is_swept(any_server: Server, tmp_path: Path) -> None:
    """As of a deployment that has stored nothing yet, whose maintenance Dag runs already."""
    for store in stores(any_server, tmp_path, "fresh"):
        source: Any = Rows(set())
        with Sweep(store, source, root=Root.parse("file:///fresh"), options=SweepOptions()) as sweep:
            report = sweep.apply(sweep.plan())
        assert (report.refusals, report.outcomes) == ([], {})
        assert list(store.list()) == []


def test_a_lock_outlives_slow_answers(s3_server: Server) -> None:
    """Each deletion takes longer than the lock lasts; it is renewed by time, and another sweep is refused meanwhile."""
    root = Root.parse(f"{s3_server.root}/slow")
    live, *gone = (Coordinate(name, "r", "t", "k").object_key() for name in ("live", "gone", "gone"))
    source: Any = Rows({root.uri(live)})
    options = SweepOptions(grace_seconds=0, max_share=None, lock_seconds=4, workers=1)

    def sweep(server: Server) -> Report:
        access = access_of(root, lambda conn_id: Connection(server.connection, conn_id))
        with Sweep(open_store(root, access, Limits()), source, root=root, options=options) as sweeping:
            return sweeping.apply(sweeping.plan())

    for key in (live, *gone):
        s3_server.raw_put(f"{root.prefix}/{key}", b"x")
    time.sleep(1.1)  # times are whole seconds there
    with FaultProxy(s3_server.endpoint) as proxy, ThreadPoolExecutor(1) as pool:
        proxy.add(Fault("latency", method="DELETE", match="/gone/", seconds=4.4, times=None))
        slow = pool.submit(sweep, s3_server.via(proxy.url))
        for met in (1, 2):
            while len([seen for seen in proxy.requests if seen.fault]) < met:
                assert not slow.done()
                time.sleep(0.05)
            with pytest.raises(SweepRefusedError, match="under way"):
                sweep(s3_server)
        assert slow.result().outcomes[Outcome.DELETED].objects == 2
    assert [key for key in s3_server.list_keys() if "/slow/" in key] == [
        f"{root.prefix}/{key}" for key in (live, "~xcargo/owner.json")
    ]


def test_an_expired_value_is_told_from_a_lost_one_everywhere(any_server: Server, tmp_path: Path) -> None:
    """S3, GCS and Azure answer in their own ways to a range beyond the end."""
    store, _ = stores(any_server, tmp_path, "expired")
    pipeline = make_pipeline(f"{any_server.root}/expired", connection=any_server.connection, compression="none")
    for value in ("x" * 5000, b"\1" * 9_000_000):
        row: Any = pipeline.push(value, Coordinate("d", "r", "t", "k"))
        key = row["uri"].rpartition("/expired/")[2]
        store.put(key, [tombstone("keep 7d", datetime.now().astimezone(), row["stored_bytes"])])
        with pytest.raises(ObjectExpiredError):
            pipeline.pull(row)
        with pytest.raises(ObjectExpiredError):
            pipeline.handle(row).load()
