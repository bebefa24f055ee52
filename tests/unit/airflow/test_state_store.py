"""StateStoreBackend beside Common IO's: references, what is read, what is deleted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from airflow.providers.common.io.state_store import backend as common_io
from airflow.sdk.state import AssetScope, BaseStoreBackend, TaskScope

import xcargo
from xcargo.airflow import runtime
from xcargo.airflow.state_store import StateStoreBackend
from xcargo.errors import ConfigurationError, EnvelopeError, IntegrityError, ObjectNotFoundError, SignatureError
from xcargo.model.coordinate import Coordinate

TASK = TaskScope("a_dag", "manual__2026-01-01T00:00:00+00:00", "a_task", 3)
NAMED, BY_URI = AssetScope(name="orders"), AssetScope(uri="orders")
SCOPES = [TASK, NAMED, BY_URI]
LARGE = {"rows": list(range(2000)), "é": "ü"}
KEY = "kTtQGSAbZ3CA/hzxlPpNvN1g+AX0Jf8ZqUoBxbNH7ck="


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Where Common IO's options put state."""
    monkeypatch.setenv("AIRFLOW__COMMON_IO__STATE_STORE_OBJECTSTORAGE_PATH", tmp_path.as_uri())
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    monkeypatch.delenv("AIRFLOW_CTX_DAG_ID", raising=False)
    caches = (common_io._get_base_path, common_io._get_compression, common_io._get_threshold)
    own = (runtime.settings, runtime.pipeline, runtime.state_pipeline)
    for function in (*caches, *own):
        function.cache_clear()
    yield tmp_path
    for function in (*caches, *own):
        function.cache_clear()


def push(backend: BaseStoreBackend, value: Any, scope: Any = TASK, key: str = "a key") -> str:
    """What the row of a value is to hold."""
    kind = "task" if isinstance(scope, TaskScope) else "asset"
    ref: str = getattr(backend, f"serialize_{kind}_state_store_to_ref")(value=value, key=key, scope=scope)
    return ref


def pull(backend: BaseStoreBackend, ref: str, scope: Any = TASK) -> Any:
    """The value of a row."""
    kind = "task" if isinstance(scope, TaskScope) else "asset"
    return getattr(backend, f"deserialize_{kind}_state_store_from_ref")(ref)


def objects(folder: Path) -> set[str]:
    """All there is, but what Common IO wrote."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and "~" in str(path)}


def object_of(ref: str) -> Path:
    return Path(json.loads(ref)["uri"].removeprefix("file://"))


def test_the_id_of_a_dag_may_begin_with_any_letter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its folder begins as that of the assets does."""
    backend, scope = StateStoreBackend(), TaskScope("été", TASK.run_id, TASK.task_id, TASK.map_index)
    ref = push(backend, LARGE, scope)
    monkeypatch.setenv("AIRFLOW_CTX_DAG_ID", "été")
    assert pull(backend, ref, scope) == LARGE
    with pytest.raises(EnvelopeError, match="refers to an object of something else"):
        pull(backend, ref, NAMED)


@pytest.mark.parametrize("scope", SCOPES, ids=str)
@pytest.mark.parametrize("threshold", ["0", "1000"])
def test_a_value_comes_back_as_it_was(
    folder: Path, scope: Any, threshold: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of its row or out of object storage, whatever JSON makes of it."""
    monkeypatch.setenv("AIRFLOW__XCARGO__THRESHOLD_BYTES", threshold)
    values = [LARGE, "text", "s3://bucket/x", 0, 2**70, [], {"__id__": "xcargo/1"}, (1, {2}), {"b": 1, "a": 2}]
    for value in values:
        back = pull(StateStoreBackend(), push(StateStoreBackend(), value, scope), scope)
        assert (type(back), repr(back)) == (type(value), repr(value))
    assert len(objects(folder)) == (1 if threshold == "1000" else len(values))


@pytest.mark.parametrize("scope", SCOPES, ids=str)
@pytest.mark.parametrize(("compression", "threshold"), [("", "0"), ("gzip", "0"), ("", "1000000")])
def test_what_common_io_wrote_is_read(
    folder: Path, scope: Any, compression: str, threshold: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By one setting: its own options name the path. Its objects are not deleted with ours."""
    monkeypatch.setenv("AIRFLOW__COMMON_IO__STATE_STORE_OBJECTSTORAGE_COMPRESSION", compression)
    monkeypatch.setenv("AIRFLOW__COMMON_IO__STATE_STORE_OBJECTSTORAGE_THRESHOLD", threshold)
    theirs = common_io.StateStoreObjectStorageBackend()
    ref = push(theirs, LARGE, scope)
    assert pull(StateStoreBackend(), ref, scope) == LARGE
    StateStoreBackend().delete(scope, "a key")
    assert pull(StateStoreBackend(), ref, scope) == LARGE


def test_what_common_io_wrote_is_read_from_a_former_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a path of our own, ``legacy_references`` names that of Common IO; without it the pull says so."""
    ref = push(common_io.StateStoreObjectStorageBackend(), LARGE)
    monkeypatch.delenv("AIRFLOW__COMMON_IO__STATE_STORE_OBJECTSTORAGE_PATH")
    monkeypatch.setenv("AIRFLOW__XCARGO__PATH", (folder / "new").as_uri())
    runtime.settings.cache_clear()
    with pytest.raises(EnvelopeError, match="legacy_references"):
        pull(StateStoreBackend(), ref)
    monkeypatch.setenv("AIRFLOW__XCARGO__LEGACY_REFERENCES", folder.as_uri())
    runtime.settings.cache_clear()
    runtime.state_pipeline.cache_clear()
    assert pull(StateStoreBackend(), ref) == LARGE


@pytest.mark.parametrize("scope", SCOPES, ids=str)
def test_a_missing_object_is_an_error(folder: Path, scope: Any) -> None:
    """Of ours and of Common IO's, whose own backend gives None."""
    theirs = common_io.StateStoreObjectStorageBackend()
    refs = push(StateStoreBackend(), LARGE, scope), push(theirs, LARGE, scope)
    for path in list(folder.rglob("*")):
        if path.is_file():
            path.unlink()
    assert pull(theirs, refs[1], scope) is None
    for ref in refs:
        with pytest.raises(ObjectNotFoundError, match="is not there"):
            pull(StateStoreBackend(), ref, scope)


def test_a_damaged_object_is_an_error(folder: Path) -> None:
    """Its checksum is in the row."""
    ref = push(StateStoreBackend(), LARGE)
    data = object_of(ref).read_bytes()
    object_of(ref).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(IntegrityError):
        pull(StateStoreBackend(), ref)


def test_an_object_is_compressed_encrypted_and_its_row_signed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As XComs are; a row that was changed is refused."""
    monkeypatch.setenv("AIRFLOW__XCARGO__ENCRYPTION_KEYS", KEY)
    monkeypatch.setenv("AIRFLOW__XCARGO__SIGNING_KEY", KEY)
    ref = push(StateStoreBackend(), ["secret"] * 1000)
    assert pull(StateStoreBackend(), ref) == ["secret"] * 1000
    assert object_of(ref).name.endswith(".msgpack.zst.enc")
    assert len(object_of(ref).read_bytes()) < 500
    with pytest.raises(SignatureError):
        pull(StateStoreBackend(), json.dumps(json.loads(ref) | {"type": "dict"}))
    with pytest.raises(ConfigurationError, match="cannot be encrypted"):
        StateStoreBackend().set(TASK, "k", "1")


def test_a_row_reaches_nothing_but_state_of_its_own_kind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not an XCom, not the state of an asset or another Dag, nothing outside of the configured roots."""
    backend = StateStoreBackend()
    monkeypatch.setenv("AIRFLOW__XCARGO__PATH", folder.as_uri())
    monkeypatch.setenv("AIRFLOW__XCARGO__THRESHOLD_BYTES", "0")
    xcom = json.dumps(runtime.pipeline().push(LARGE, Coordinate("a_dag", "r", "t", "k")))
    task, asset = push(backend, LARGE), push(backend, LARGE, NAMED)
    for ref, scope in ((task, NAMED), (asset, TASK), (xcom, TASK), (xcom, NAMED)):
        with pytest.raises(EnvelopeError, match="refers to an object of something else"):
            pull(backend, ref, scope)
    outside = json.loads(task) | {"uri": "file:///etc/a_dag/r/~state/t/-1/k/~0123456789abcdef"}
    with pytest.raises(EnvelopeError, match="none of the configured roots"):
        pull(backend, json.dumps(outside))
    monkeypatch.setenv("AIRFLOW_CTX_DAG_ID", "a_dag")
    assert pull(backend, task) == LARGE
    monkeypatch.setenv("AIRFLOW_CTX_DAG_ID", "other_dag")
    with pytest.raises(EnvelopeError, match="'other_dag' refers to a value of Dag 'a_dag'"):
        pull(backend, task)


@pytest.mark.parametrize("scope", SCOPES, ids=str)
def test_delete_takes_every_value_of_a_key_and_nothing_else(folder: Path, scope: Any) -> None:
    """Also those that later ones replaced; without a word where there is nothing."""
    backend = StateStoreBackend()
    for key in ("a", "a", "a b", "ab"):
        push(backend, LARGE, scope, key)
    backend.delete(scope, "a")
    left = objects(folder)
    assert {key.split("/")[-2] for key in left} == {"a~20b", "ab"}
    backend.delete(scope, "a")
    asyncio.run(backend.adelete(scope, "ab"))
    assert {key.split("/")[-2] for key in objects(folder)} == {"a~20b"}


def test_clear_takes_a_task_instance_or_all_map_indexes(folder: Path) -> None:
    """Of the task alone whose scope it is; an asset has no map index."""
    backend = StateStoreBackend()
    others = [TaskScope("a_dag", TASK.run_id, "a_task", n) for n in (-1, 4)]
    other_task = TaskScope("a_dag", TASK.run_id, "a_task_more", 3)
    for scope in (TASK, *others, other_task, NAMED, BY_URI):
        push(backend, LARGE, scope)
    backend.clear(TASK)
    assert not any("/a_task/3/" in key for key in objects(folder))
    assert len(objects(folder)) == 5
    asyncio.run(backend.aclear(TASK, all_map_indices=True))
    assert len(objects(folder)) == 3
    backend.clear(NAMED, all_map_indices=True)
    assert {key.split("/")[0] for key in objects(folder)} == {"a_dag", "~asset-uris"}


@pytest.mark.skipif(not hasattr(TASK, "region_id"), reason="this Airflow has no loops")
def test_regions_of_loops_keep_apart(folder: Path) -> None:
    """Airflow 3.4: clearing all map indexes is for one region."""
    backend = StateStoreBackend()
    inside = TaskScope("a_dag", TASK.run_id, "a_task", 3, UUID(int=7))
    for scope in (TASK, inside):
        push(backend, LARGE, scope)
    backend.clear(TASK, all_map_indices=True)
    (left,) = objects(folder)
    assert f"/~state-{UUID(int=7)}/a_task/3/" in left
    backend.clear(inside)
    assert not objects(folder)


def test_a_store_that_fails_fails_no_deletion(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with the purge of an XCom: a line in the log, and an orphan."""
    monkeypatch.setenv("AIRFLOW__COMMON_IO__STATE_STORE_OBJECTSTORAGE_PATH", "s3://no_such_connection@bucket")
    StateStoreBackend().clear(TASK)
    monkeypatch.setenv("AIRFLOW__XCARGO__THRESHOLD_BYTES", "many")
    runtime.settings.cache_clear()
    runtime.state_pipeline.cache_clear()
    asyncio.run(StateStoreBackend().adelete(NAMED, "k"))
    assert caplog.text.count("left objects of deleted state in the store") == 2


@pytest.mark.parametrize("scope", [*SCOPES, AssetScope(asset_id=7)], ids=str)
def test_texts_without_rows(folder: Path, scope: Any) -> None:
    """Airflow's server side of the interface: what was set is what is got, and None is for a key that is not there."""
    backend = StateStoreBackend()
    assert backend.get(scope, "k") is None
    backend.set(scope, "k", "1")
    backend.set(scope, "k", '{"a": "é"}')
    assert backend.get(scope, "k") == '{"a": "é"}'
    assert asyncio.run(backend.aget(scope, "k")) == '{"a": "é"}'
    asyncio.run(backend.aset(scope, "other", "2"))
    backend.delete(scope, "k")
    assert (backend.get(scope, "k"), backend.get(scope, "other")) == (None, "2")
    backend.clear(scope)
    assert backend.get(scope, "other") is None


def test_it_is_a_backend_that_airflow_takes() -> None:
    """By the name that the setting takes."""
    assert xcargo.StateStoreBackend is StateStoreBackend
    assert isinstance(xcargo.StateStoreBackend(), BaseStoreBackend)
