"""Unfinished uploads in parts: what a killed push leaves in a bucket, and how a sweep takes it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.conftest import Connection
from tests.servers import Server
from tests.unit.lifecycle.kit import Rows
from xcargo.airflow.connections import access_of
from xcargo.errors import SweepRefusedError
from xcargo.lifecycle.plan import SweepOptions
from xcargo.lifecycle.report import Report
from xcargo.lifecycle.sweep import Sweep, folders
from xcargo.model.coordinate import Coordinate
from xcargo.model.root import Root
from xcargo.stores import open_store
from xcargo.stores.base import Limits, Store, Upload, uploads_of

MIB = 1024 * 1024

PUSH_AND_DIE = f"""
import json, os, signal, sys, threading
from tests.unit.lifecycle.test_uploads import opened

connection, pushes = map(json.loads, sys.argv[1:])
under_way = threading.Barrier(len(pushes), lambda: os.kill(os.getpid(), signal.SIGKILL))

def parts():
    for _ in range(3):
        yield bytes(5 * {MIB})
    under_way.wait()

for url, key in pushes:
    put = lambda put=opened(url, connection).put, key=key: put(key, parts(), expected_bytes=200 * {MIB})
    threading.Thread(target=put).start()
"""


def opened(url: str, connection: Any) -> Store:
    root = Root.parse(url)
    access = access_of(root, lambda conn_id: Connection(connection, conn_id))
    return open_store(root, access, Limits(timeout_seconds=20, part_bytes=5 * MIB))


def push_and_die(server: Server, *pushes: tuple[str, str]) -> None:
    """kill -9 in pushes of 200 MB each, after three of their parts; ``pushes`` are URLs of roots and keys."""
    command = [sys.executable, "-c", PUSH_AND_DIE, json.dumps(server.connection), json.dumps(pushes)]
    assert subprocess.run(command, check=False, timeout=60).returncode == -signal.SIGKILL


def unfinished(store: Store) -> dict[str, Upload]:
    uploads = uploads_of(store)
    assert uploads is not None
    return {upload.key: upload for upload in uploads.list()}


def sweep(store: Store, url: str, *live: str, **options: Any) -> Report:
    root = Root.parse(url)
    source: Any = Rows({root.uri(key) for key in live})
    with Sweep(store, source, root=root, options=SweepOptions(max_share=None, **options)) as sweeping:
        return sweeping.apply(sweeping.plan())


@pytest.mark.parametrize("kind", ["s3", "gcs"])
def test_what_a_killed_push_of_a_large_value_left_is_aborted_past_the_grace(
    kind: str, request: pytest.FixtureRequest
) -> None:
    """Never before; nor what is somebody else's, in the same bucket or below the same root; nor by no rows at all."""
    server: Server = request.getfixturevalue(f"{kind}_server")
    url = f"{server.root}/uploads"
    store, beside = opened(url, server.connection), opened(f"{url}-beside", server.connection)
    dag, other, live = (Coordinate(name, "r", "t", "k").object_key() for name in ("dag", "other", "live"))
    store.put(live, [b"x"])
    below = (dag, other, "theirs.bin", f"~xcargo/quarantine/{dag}")
    push_and_die(server, *((url, key) for key in below), (f"{url}-beside", dag))
    assert unfinished(store).keys() == set(below)
    assert folders(store) == ["dag", "live", "other", "theirs.bin"]
    young = sweep(store, url, live, grace_seconds=3600)
    assert young.to_json()["uploads"] == {
        "unfinished": 0,
        "too_young": 3,
        "not_ours": 1,
        "aborted": 0,
        "failed": 0,
        "unknown": None,
    }
    time.sleep(1.1)  # times are whole seconds there
    with pytest.raises(SweepRefusedError, match="not one live reference"):
        sweep(store, url, grace_seconds=0)
    first = sweep(store, url, live, grace_seconds=0, prefixes=("dag",))
    assert first.uploads is not None
    assert (first.uploads.unfinished, first.uploads.aborted) == (2, 2)
    assert unfinished(store).keys() == {other, "theirs.bin"}
    sweep(store, url, live, grace_seconds=0)
    assert unfinished(store).keys() == {"theirs.bin"}
    assert unfinished(beside).keys() == {dag}
    for site, (upload,) in ((store, unfinished(store).values()), (beside, unfinished(beside).values())):
        uploads: Any = uploads_of(site)
        uploads.abort(upload)
        uploads.abort(upload)  # one that is gone counts as aborted
    assert server.list_keys().count(f"{Root.parse(url).prefix}/{live}") == 1
    store.delete([live, "~xcargo/owner.json"])


def test_an_upload_that_goes_on_while_a_sweep_aborts_others_is_completed(s3_server: Server) -> None:
    """It is younger than the grace."""
    url = f"{s3_server.root}/going-on"
    store = opened(url, s3_server.connection)
    live, pushed = (Coordinate(name, "r", "t", "k").object_key() for name in ("live", "pushed"))
    store.put(live, [b"x"])

    reports: list[Report] = []

    def parts() -> Any:
        for n in range(8):
            if n == 6:
                reports.append(pool.submit(sweep, store, url, live, grace_seconds=60).result())
            yield bytes([n]) * (5 * MIB)

    with ThreadPoolExecutor(1) as pool:  # obstore takes the parts in a thread where it cannot be called
        store.put(pushed, parts())
    assert [report.uploads.too_young for report in reports if report.uploads] == [1]
    assert store.head(pushed).size_bytes == 40 * MIB
    store.delete([live, pushed, "~xcargo/owner.json"])


@pytest.mark.parametrize(("kind", "library"), [("s3", "botocore"), ("gcs", "google.auth.transport.requests")])
def test_without_the_clouds_library_the_report_says_what_to_install(
    kind: str, library: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or which rule of the bucket does instead; objects are swept all the same."""
    server: Server = request.getfixturevalue(f"{kind}_server")
    monkeypatch.setitem(sys.modules, library, None)
    url = f"{server.root}/without"
    store = opened(url, server.connection)
    live, gone = (Coordinate(name, "r", "t", "k").object_key() for name in ("live", "gone"))
    for key in (live, gone):
        store.put(key, [b"x"])
    time.sleep(1.1)
    report = sweep(store, url, live, grace_seconds=0)
    assert report.uploads is not None
    assert "pip install" in str(report.uploads.unknown)
    assert "xcargo policy" in str(report.uploads.unknown)
    assert [info.key for info in store.list()] == [live, "~xcargo/owner.json"]
    store.delete([live, "~xcargo/owner.json"])


@pytest.mark.parametrize("kind", ["azure", "folder"])
def test_other_stores_keep_no_such_uploads(kind: str, azure_server: Server, tmp_path: Any) -> None:
    """Azure deletes such parts by itself; a folder has files, which a sweep lists."""
    url = azure_server.root if kind == "azure" else tmp_path.as_uri()
    assert uploads_of(opened(url, azure_server.connection)) is None
