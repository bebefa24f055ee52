"""Values that a task hands on as it got them: copied by the store, or streamed where that cannot be."""

from __future__ import annotations

import base64
import logging
import os
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

import xcargo
from tests.servers import Server
from tests.unit.conftest import HERE, make_pipeline
from xcargo.errors import EnvelopeError, ObjectExpiredError, ObjectNotFoundError, SizeLimitError, StoreError
from xcargo.model.envelope import is_envelope, tombstone
from xcargo.model.keys import Key
from xcargo.model.root import Root
from xcargo.pipeline.pipeline import Pipeline
from xcargo.stores.local import LocalStore
from xcargo.testing import CountingStore, FaultyStore
from xcargo.transfer.encryption import encryption_of_copy

NEXT = replace(HERE, task_id="next_task")
OTHER_DAG = replace(HERE, dag_id="other_dag")
MEGABYTE = 1_000_000
NOISE = os.urandom(3 * MEGABYTE)
KEY = Key("2026", os.urandom(32))


def file_of(folder: Path, data: bytes = NOISE, name: str = "report.csv") -> xcargo.File:
    path = folder / name
    path.write_bytes(data)
    return xcargo.File(path)


def folder_of(folder: Path) -> xcargo.Directory:
    (folder / "model").mkdir()
    (folder / "model" / "weights").write_bytes(NOISE)
    return xcargo.Directory(folder / "model")


KINDS: dict[str, Callable[[Path], Any]] = {
    "bytes of one chunk": lambda _: NOISE[:100_000],
    "bytes of several chunks": lambda _: NOISE,
    "text that compresses": lambda _: "xcargo " * 500_000,
    "nested values": lambda _: {"rows": [{"n": n, "t": (n, str(n))} for n in range(5_000)]},
    "DataFrame": lambda _: pd.DataFrame({"n": range(50_000)}),
    "table": lambda _: pa.table({"n": range(50_000)}),
    "File": file_of,
    "Directory": folder_of,
    "stream": lambda _: (NOISE[n : n + 100_000] for n in range(0, len(NOISE), 100_000)),
}


def same(value: Any, other: Any) -> bool:
    equal = value.equals(other) if hasattr(value, "equals") else value == other
    return type(value) is type(other) and bool(equal)


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_handle_is_stored_by_a_copy_and_read_as_the_value(kind: str, encrypted: bool, tmp_path: Path) -> None:
    """No byte is read or put; the copy is an object of its own, and outlives the original. A copy of it works too."""
    stores: list[CountingStore] = []

    def counted(store: Any) -> CountingStore:
        stores.append(CountingStore(store))
        return stores[-1]

    keys: dict[str, Any] = {"encryption_keys": (KEY,), "encryption_key": KEY} if encrypted else {}
    pipeline = make_pipeline((tmp_path / "root").as_uri(), wrap=counted, **keys)
    row: Any = pipeline.push(KINDS[kind](tmp_path), HERE)
    value = pipeline.pull(row, HERE.dag_id)
    for store in stores:
        store.calls.clear()
    handed_on: Any = pipeline.push(pipeline.handle(row, HERE.dag_id), NEXT)
    assert sum((store.calls for store in stores), start=type(stores[0].calls)()) == {"copy": 1, "head": 1}
    assert handed_on["uri"].startswith(
        f"{pipeline.settings.root}/my_dag/manual__2026-01-01T00~3A00~3A00~2B00~3A00/next"
    )
    names = ("type", "preview", "codec", "size_bytes", "stored_bytes", "checksum")
    assert [handed_on.get(name) for name in names] == [row.get(name) for name in names]
    again = pipeline.push(pipeline.handle(handed_on), HERE)
    assert same(pipeline.pull(handed_on, HERE.dag_id), value)
    assert pipeline.purge(row)
    assert pipeline.purge(handed_on)
    assert same(pipeline.pull(again, HERE.dag_id), value if kind != "stream" else pipeline.pull(again))


@pytest.mark.servers
@pytest.mark.parametrize("size_bytes", [100_000, 3 * MEGABYTE])
def test_a_copy_costs_two_requests_and_no_byte(any_server: Server, size_bytes: int) -> None:
    """Counted at the server: the copy, and whether it is as long as the original. The value comes back."""
    pipeline = make_pipeline(any_server.root, connection=any_server.connection)
    row = pipeline.push(NOISE[:size_bytes], HERE)
    any_server.reset_requests()
    handed_on = pipeline.push(pipeline.handle(row), NEXT)
    assert [method for method, _ in any_server.requests()] == ["PUT", "HEAD"]
    assert pipeline.purge(row)
    assert pipeline.pull(handed_on) == NOISE[:size_bytes]


@pytest.mark.parametrize("make", [file_of, folder_of])
def test_a_file_or_folder_that_was_not_downloaded_is_copied(make: Callable[[Path], Any], tmp_path: Path) -> None:
    """It keeps a new name; what was downloaded may have been changed there, and is uploaded."""
    root = tmp_path / "root"
    stores: list[CountingStore] = []

    def counted(store: Any) -> CountingStore:
        stores.append(CountingStore(store))
        return stores[-1]

    pipeline = make_pipeline(root.as_uri(), wrap=counted)
    row = pipeline.push(make(tmp_path), HERE)
    pulled = pipeline.pull(row)
    pulled.name = "renamed"
    stores[0].calls.clear()
    handed_on = pipeline.push(pulled, NEXT)
    assert stores[0].calls == {"copy": 1, "head": 1}
    assert pipeline.pull(handed_on).name == "renamed"
    pulled.path.touch()
    stores[0].calls.clear()
    pipeline.push(pulled, NEXT)
    assert stores[0].calls == {"put": 1}


def test_a_handle_of_a_value_in_its_row_is_that_value() -> None:
    """It has no object: the row is that of the value itself."""
    pipeline = make_pipeline()
    assert pipeline.push(pipeline.handle({"a": 23}), NEXT) == {"a": 23}
    assert pipeline.pull(pipeline.push(pipeline.handle(pipeline.push((1, 2), HERE)), NEXT)) == (1, 2)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "stream"])
def test_handles_inside_a_value_come_back_as_what_they_stand_for(kind: str, tmp_path: Path) -> None:
    """A dict and a list of handles, twice the same one among them, is the dict and list of the values."""
    pipeline = make_pipeline(tmp_path.as_uri())
    row = pipeline.push(KINDS[kind](tmp_path), HERE)
    handle, value = pipeline.handle(row), pipeline.pull(row)
    pulled = pipeline.pull(pipeline.push({"first": handle, "all": [handle, 1], "n": (1, handle)}, NEXT))
    assert pulled["all"][1] == pulled["n"][0] == 1
    assert all(same(part, value) for part in (pulled["first"], pulled["all"][0], pulled["n"][1]))


@pytest.mark.parametrize(
    ("url", "settings"),
    [
        ("memory://elsewhere/x", {}),
        ("memory://test/xcom", {"encryption_key": KEY, "encryption_keys": (KEY,)}),
    ],
    ids=["another root", "another key"],
)
def test_elsewhere_the_payload_is_stored_again(url: str, settings: dict[str, Any]) -> None:
    """Where the settings of the push name another root or key, the value is put there as these settings say."""
    row = make_pipeline().push(NOISE, HERE)
    pipeline = make_pipeline(url, read_paths=() if settings else ("memory://test/xcom",), **settings)
    handed_on: Any = pipeline.push(pipeline.handle(row), NEXT)
    assert handed_on["uri"].startswith(url)
    assert ("encryption" in handed_on) == bool(settings)
    assert handed_on["type"] == "bytes"
    assert pipeline.pull(handed_on) == NOISE


def test_an_encrypted_value_of_another_dag_is_encrypted_again() -> None:
    """A ciphertext is bound to its Dag: a copy elsewhere could not be told from one that was moved there."""
    pipeline = make_pipeline(encryption_keys=(KEY,), encryption_key=KEY)
    row: Any = pipeline.push(NOISE, HERE)
    handed_on: Any = pipeline.push(pipeline.handle(row), OTHER_DAG)
    assert handed_on["encryption"]["salt"] != row["encryption"]["salt"]
    assert "object_key" not in handed_on["encryption"]
    assert pipeline.pull(handed_on) == NOISE


def test_a_made_up_origin_of_another_dag_is_refused() -> None:
    """Whoever may write rows and objects of one Dag cannot have another Dag's ciphertext read there."""
    pipeline = make_pipeline(encryption_keys=(KEY,), encryption_key=KEY)
    row: Any = pipeline.push(NOISE, HERE)
    moved: Any = pipeline.push(NOISE, OTHER_DAG)
    source = row["uri"].removeprefix("memory://test/xcom/")
    forged = {**moved, **{n: row[n] for n in ("checksum", "chunks")}}
    forged["encryption"] = {**row["encryption"], "object_key": source}
    with pytest.raises(EnvelopeError, match="another Dag"):
        pipeline.pull(forged, OTHER_DAG.dag_id)
    assert encryption_of_copy(row["encryption"], source, "other_dag/r/t/k~0") is None


@pytest.mark.parametrize("size_bytes", [100_000, 40 * MEGABYTE])
def test_a_store_without_copies_streams_and_says_so_once(
    size_bytes: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The value is stored all the same, with a few chunks in memory; one line of the log for two pushes."""

    def no_copies(store: Any) -> FaultyStore:
        return FaultyStore(store, lambda verb, _: StoreError("It makes none") if verb == "copy" else None)

    pipeline = make_pipeline(tmp_path.as_uri(), wrap=no_copies)
    value = (NOISE * 14)[:size_bytes]
    row = pipeline.push(value, HERE)
    caplog.set_level(logging.INFO, logger="xcargo")
    tracemalloc.start()
    rows = [pipeline.push(pipeline.handle(row), NEXT) for _ in range(2)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 36 * MEGABYTE
    assert [pipeline.pull(row) == value for row in rows] == [True, True]
    assert len([record for record in caplog.records if "does not copy" in record.message]) == 1


def test_a_handle_of_what_is_gone_or_expired_fails_the_push(tmp_path: Path) -> None:
    """No row refers to nothing: the error is that of a pull, and no copy is left."""
    pipeline = make_pipeline(tmp_path.as_uri())
    row: Any = pipeline.push(NOISE, HERE)
    handle = pipeline.handle(row)
    path = Path(row["uri"].removeprefix("file://"))
    path.write_bytes(tombstone("dag=x keep=1d", datetime(2026, 1, 1), len(NOISE)))
    with pytest.raises(ObjectExpiredError, match="keep=1d"):
        pipeline.push(handle, NEXT)
    path.unlink()
    with pytest.raises(ObjectNotFoundError):
        pipeline.push(handle, NEXT)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_size_limit_holds_for_what_is_handed_on() -> None:
    """A handle of a value above max_size_bytes is refused, as the value is."""
    row = make_pipeline().push(NOISE, HERE)
    pipeline = make_pipeline(max_size_bytes=MEGABYTE)
    with pytest.raises(SizeLimitError):
        pipeline.push(pipeline.handle(row), NEXT)


def test_a_copy_is_signed_like_any_row() -> None:
    """Its row has a signature of its own, and an older one does not fit it."""
    pipeline = make_pipeline(signing_keys=(KEY,))
    row: Any = pipeline.push(NOISE, HERE)
    handed_on: Any = pipeline.push(pipeline.handle(row), NEXT)
    assert is_envelope(handed_on)
    assert handed_on["signature"] != row["signature"]
    assert pipeline.pull(handed_on, HERE.dag_id) == NOISE


def test_a_file_copied_in_a_folder_is_young_and_its_own(tmp_path: Path) -> None:
    """A sweep goes by its age; writing to neither file changes the other."""
    store = LocalStore(Root.parse(tmp_path.as_uri()))
    store.put("d/r/t/k~1", [b"value"])
    os.utime(tmp_path / "d/r/t/k~1", (1, 1))
    store.copy("d/r/t/k~1", "d/r/u/k~2")
    old, new = (tmp_path / name for name in ("d/r/t/k~1", "d/r/u/k~2"))
    assert new.read_bytes() == b"value"
    assert new.stat().st_mtime > old.stat().st_mtime + 1000
    assert new.stat().st_ino != old.stat().st_ino


def test_the_salt_moves_with_the_object() -> None:
    """The envelope of a copy names the key of the original, which the ciphertext is bound to."""
    pipeline: Pipeline = make_pipeline(encryption_keys=(KEY,), encryption_key=KEY)
    row: Any = pipeline.push(b"x" * 5000, HERE)
    handed_on: Any = pipeline.push(pipeline.handle(row), NEXT)
    original = row["uri"].removeprefix("memory://test/xcom/")
    assert handed_on["encryption"] == {**row["encryption"], "object_key": original}
    assert len(base64.b64decode(handed_on["encryption"]["salt"])) == 32
