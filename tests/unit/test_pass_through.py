"""Values that a task hands on as it got them: copied by the store, or streamed where that cannot be."""

from __future__ import annotations

import base64
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import xcargo
from benchmarks.memory import Peak
from tests.servers import Server
from tests.unit.conftest import HERE, make_pipeline
from xcargo.errors import (
    EnvelopeError,
    IntegrityError,
    ObjectExpiredError,
    ObjectNotFoundError,
    SizeLimitError,
    StoreError,
    UnsupportedTypeError,
)
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
ENCRYPTED: dict[str, Any] = {"encryption_keys": (KEY,), "encryption_key": KEY}


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

    pipeline = make_pipeline((tmp_path / "root").as_uri(), wrap=counted, **(ENCRYPTED if encrypted else {}))
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


PAYLOADS = {
    "one chunk": (NOISE[:100_000], {}),
    "several chunks": (NOISE, {}),
    "several parts": (NOISE * 12, {"part_bytes": 5 * 1024 * 1024}),
    "compressed chunks": (b"xcargo " * 500_000, {}),
    "encrypted chunk": (NOISE[:100_000], ENCRYPTED),
    "encrypted compressed chunks": (b"xcargo " * 500_000, ENCRYPTED),
}


@pytest.mark.servers
@pytest.mark.parametrize("kind", PAYLOADS)
def test_a_copy_costs_two_requests_and_no_byte(any_server: Server, kind: str) -> None:
    """Counted at the server: the copy, and whether it is as long as the original. The value comes back."""
    value, settings = PAYLOADS[kind]
    pipeline = make_pipeline(any_server.root, connection=any_server.connection, **settings)
    row = pipeline.push(value, HERE)
    any_server.reset_requests()
    handed_on = pipeline.push(pipeline.handle(row), NEXT)
    assert [method for method, _ in any_server.requests()] == ["PUT", "HEAD"]
    assert any_server.sent_bytes() == 0
    assert pipeline.purge(row)
    assert pipeline.pull(handed_on) == value


@pytest.mark.servers
def test_a_copy_of_what_is_gone_says_what_and_where(any_server: Server) -> None:
    """On every store: the error of a pull, with the object's URI and what to do, and no object is left."""
    pipeline = make_pipeline(f"{any_server.root}/handed-on", connection=any_server.connection)
    row: Any = pipeline.push(NOISE[:100_000], HERE)
    handle = pipeline.handle(row)
    assert pipeline.purge(row)
    with pytest.raises(ObjectNotFoundError, match=re.escape(row["uri"])) as caught:
        pipeline.push(handle, NEXT)
    assert caught.value.hint
    assert not [key for key in any_server.list_keys() if "/handed-on/" in key]


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
        ("memory://test/xcom", ENCRYPTED),
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
    pipeline = make_pipeline(**ENCRYPTED)
    row: Any = pipeline.push(NOISE, HERE)
    handed_on: Any = pipeline.push(pipeline.handle(row), OTHER_DAG)
    assert handed_on["encryption"]["salt"] != row["encryption"]["salt"]
    assert "object_key" not in handed_on["encryption"]
    assert pipeline.pull(handed_on) == NOISE


def test_a_made_up_origin_of_another_dag_is_refused() -> None:
    """Whoever may write rows and objects of one Dag cannot have another Dag's ciphertext read there."""
    pipeline = make_pipeline(**ENCRYPTED)
    row: Any = pipeline.push(NOISE, HERE)
    moved: Any = pipeline.push(NOISE, OTHER_DAG)
    source = row["uri"].removeprefix("memory://test/xcom/")
    forged = {**moved, **{n: row[n] for n in ("checksum", "chunks")}}
    forged["encryption"] = {**row["encryption"], "object_key": source}
    with pytest.raises(EnvelopeError, match="another Dag"):
        pipeline.pull(forged, OTHER_DAG.dag_id)
    assert encryption_of_copy(row["encryption"], source, "other_dag/r/t/k~0") is None


@pytest.mark.parametrize("size_bytes", [100_000, 3 * MEGABYTE])
def test_a_store_without_copies_streams_and_says_so_once(
    size_bytes: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The value is stored all the same; one line of the log for two pushes."""
    pipeline = make_pipeline(tmp_path.as_uri(), wrap=without_copies)
    row = pipeline.push(NOISE[:size_bytes], HERE)
    caplog.set_level(logging.INFO, logger="xcargo")
    rows = [pipeline.push(pipeline.handle(row), NEXT) for _ in range(2)]
    assert [pipeline.pull(row) for row in rows] == [NOISE[:size_bytes]] * 2
    assert len([record for record in caplog.records if "does not copy" in record.message]) == 1


def without_copies(store: Any) -> FaultyStore:
    return FaultyStore(store, lambda verb, _: StoreError("It makes none") if verb == "copy" else None)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("nested", [False, True], ids=["whole", "nested"])
def test_what_is_streamed_is_never_held_whole(nested: bool, tmp_path: Path) -> None:
    """Handed on as it is or within another value, 150 MB cost memory for some chunks."""
    pipeline = make_pipeline(tmp_path.as_uri(), wrap=without_copies, compression="none", fsync=False)
    handle = pipeline.handle(pipeline.push(bytes(150 * MEGABYTE), HERE))
    peak = Peak()
    pipeline.push({"first": handle, "more": [(handle, 1)]} if nested else handle, NEXT)
    assert peak.extra_bytes() < 120 * MEGABYTE


def test_a_lazyframe_is_copied_unless_it_was_queried(tmp_path: Path) -> None:
    """As it was pulled it is the whole table, which nobody computes; every query of it is another frame."""
    stores: list[CountingStore] = []

    def counted(store: Any) -> CountingStore:
        stores.append(CountingStore(store))
        return stores[-1]

    pipeline = make_pipeline(tmp_path.as_uri(), wrap=counted)
    frame = pl.DataFrame({"n": range(50_000), "text": ["xcargo"] * 50_000})
    pulled = pipeline.pull(pipeline.push(frame.lazy(), HERE))
    stores[0].calls.clear()
    handed_on = pipeline.push(pulled, NEXT)
    assert stores[0].calls == {"copy": 1, "head": 1}
    for value, expected in ((pulled, frame), (pulled.select("n"), frame.select("n")), (pulled.head(3), frame.head(3))):
        assert pipeline.pull(pipeline.push(value, NEXT)).collect().equals(expected)
    assert pipeline.pull(handed_on).collect().equals(frame)


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
def test_a_scan_of_a_table_is_handed_on_as_a_lazyframe(encrypted: bool) -> None:
    """A handle's scan() is the whole table: its bytes are stored again, as what a LazyFrame is stored as."""
    table = pa.table({"n": range(50_000)})
    pipeline = make_pipeline(**(ENCRYPTED if encrypted else {}))
    pulled = pipeline.pull(pipeline.push(pipeline.handle(pipeline.push(table, HERE)).scan(), NEXT))
    assert type(pulled) is pl.LazyFrame
    assert pulled.collect().to_arrow().equals(table)


def test_a_handle_of_what_is_gone_or_expired_fails_the_push(tmp_path: Path) -> None:
    """No row refers to nothing: the error is that of a pull, and no copy is left."""
    pipeline = make_pipeline(tmp_path.as_uri())
    row: Any = pipeline.push(NOISE, HERE)
    handle = pipeline.handle(row)
    path = Path(row["uri"].removeprefix("file://"))
    path.write_bytes(tombstone("dag=x keep=1d", datetime(2026, 1, 1), len(NOISE)))
    with pytest.raises(ObjectExpiredError, match="keep=1d"):
        pipeline.push(handle, NEXT)
    path.write_bytes(NOISE[:-1])
    with pytest.raises(IntegrityError, match=f"{len(NOISE) - 1} bytes.*{re.escape(row['uri'])}"):
        pipeline.push(handle, NEXT)
    path.unlink()
    with pytest.raises(ObjectNotFoundError):
        pipeline.push(handle, NEXT)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("settings", [{}, ENCRYPTED], ids=["plain", "encrypted"])
def test_damage_that_keeps_the_length_is_found_when_the_copy_is_read(settings: dict[str, Any], tmp_path: Path) -> None:
    """The checksum moves with the object: no pull and no verify of the copy takes its bytes for the value's."""
    pipeline = make_pipeline(tmp_path.as_uri(), **settings)
    row: Any = pipeline.push(NOISE, HERE)
    path = Path(row["uri"].removeprefix("file://"))
    stored = bytearray(path.read_bytes())
    stored[2 * MEGABYTE] ^= 1
    path.write_bytes(stored)
    handed_on: Any = pipeline.push(pipeline.handle(row), NEXT)
    for read in (pipeline.pull, pipeline.verify):
        with pytest.raises(IntegrityError, match=re.escape(handed_on["uri"])) as caught:
            read(handed_on)
        assert caught.value.hint


def test_a_copy_that_is_not_complete_yet_is_streamed(tmp_path: Path) -> None:
    """Azure may answer before it has copied, when the copy is empty; that one is not left behind."""

    class Pending(CountingStore):
        def copy(self, source: str, target: str) -> None:
            self.store.put(target, [])

    pipeline = make_pipeline(tmp_path.as_uri(), wrap=Pending)
    handed_on = pipeline.push(pipeline.handle(pipeline.push(NOISE, HERE)), NEXT)
    assert pipeline.pull(handed_on) == NOISE
    assert [path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()] == [len(NOISE)] * 2


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


def test_a_value_compressed_by_a_newer_release_is_handed_on() -> None:
    """The store copies it; only whoever loads it needs that release."""
    pipeline: Pipeline = make_pipeline()
    row: Any = pipeline.push(b"x" * 5000, HERE)
    handed_on: Any = pipeline.push(pipeline.handle({**row, "compression": "later"}), NEXT)
    assert (handed_on["compression"], handed_on["checksum"]) == ("later", row["checksum"])
    assert pipeline.pull({**handed_on, "compression": row["compression"]}) == b"x" * 5000


def test_a_frame_that_arrow_cannot_hold_is_named_by_its_column() -> None:
    """The error, with all its causes, quotes no cell."""
    for cell in ("hunter2", "hunter2\ud800"):
        frame = pd.DataFrame({"a": pd.Series([1, cell], dtype=object)})
        pipeline: Pipeline = make_pipeline()
        with pytest.raises(UnsupportedTypeError, match=r"Arrow cannot hold the frame: .*column a") as caught:
            pipeline.handle(pipeline.push(frame, HERE)).to_arrow()
        assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_the_salt_moves_with_the_object() -> None:
    """The envelope of a copy names the key of the original, which the ciphertext is bound to."""
    pipeline: Pipeline = make_pipeline(**ENCRYPTED)
    row: Any = pipeline.push(b"x" * 5000, HERE)
    handed_on: Any = pipeline.push(pipeline.handle(row), NEXT)
    original = row["uri"].removeprefix("memory://test/xcom/")
    assert handed_on["encryption"] == {**row["encryption"], "object_key": original}
    assert len(base64.b64decode(handed_on["encryption"]["salt"])) == 32
