"""Pipeline: push, pull and purge over a real store, and what bad input gets."""

from __future__ import annotations

import json
import os
import re
import threading
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.codecs.test_tree import VALUES, same
from tests.unit.conftest import HERE, make_pipeline
from xcargo.codecs import Registry
from xcargo.errors import (
    AccessDeniedError,
    ConfigurationError,
    DecodeError,
    EnvelopeError,
    IntegrityError,
    MissingDependencyError,
    ObjectExpiredError,
    ObjectNotFoundError,
    StoreUnavailableError,
    UnsupportedTypeError,
)
from xcargo.model.coordinate import spellings
from xcargo.model.envelope import Envelope, is_envelope
from xcargo.model.settings import LegacyRoot
from xcargo.pipeline.pipeline import RowRules
from xcargo.stores.local import buckets
from xcargo.testing import FaultyStore

BIG = {f"key{i}": "x" * 100 for i in range(100)}


def objects(name: str = "test/xcom") -> dict[str, Any]:
    return buckets.get(name, {})


def through_json(row: Any) -> Any:
    return json.loads(json.dumps(row, allow_nan=False))


@given(VALUES, st.sampled_from([-1, 0, 10, 100, 1024]))
def test_any_value_comes_back_exactly_at_any_threshold(value: Any, threshold: int) -> None:
    """Size and threshold never change what is pulled; the row is strict JSON."""
    pipeline = make_pipeline(threshold_bytes=threshold)
    row = through_json(pipeline.push(value, HERE))
    assert same(pipeline.pull(row) if is_envelope(row) else row, value)


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ("s" * 98, 100),
        ({"a": "b" * 91}, 99),
        ([1.5] * 20, 81),
        ("é" * 49, 100),
        ({"k": [0.0] * 23}, 99),
        ("\n" * 49, 100),
    ],
)
def test_the_threshold_is_the_last_size_that_stays_in_the_row(value: Any, size: int) -> None:
    """At exactly the threshold a value stays, one byte above it goes: counted as compact JSON."""
    assert len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()) == size
    assert make_pipeline(threshold_bytes=size).push(value, HERE) == value
    assert is_envelope(make_pipeline(threshold_bytes=size - 1).push(value, HERE))


def test_the_threshold_of_other_values_is_their_payload() -> None:
    """Bytes count as they are."""
    row: Any = make_pipeline(threshold_bytes=100).push(b"x" * 100, HERE)
    assert "uri" not in row
    row = make_pipeline(threshold_bytes=99).push(b"x" * 100, HERE)
    assert "uri" in row


@pytest.mark.parametrize("value", [None, "", b"", [], {}, 0, BIG])
def test_zero_sends_everything_out_and_minus_one_nothing(value: Any) -> None:
    """The two special thresholds, for the smallest and for large values."""
    row: Any = make_pipeline(threshold_bytes=0).push(value, HERE)
    assert "uri" in row
    row = make_pipeline(threshold_bytes=-1).push(value, HERE)
    assert not is_envelope(row) or "uri" not in row
    assert len(objects()) == 1


def test_a_control_value_stays_in_the_row_whatever_its_size() -> None:
    """Airflow reads its row as it is: the key beats the threshold, and its order of keys is not noted."""
    rules = RowRules(control_keys=re.compile("return_.*"))
    value = {"skipped": ["x" * 5000], "a": 1}
    assert make_pipeline(threshold_bytes=0, keep_key_order=True, rules=rules).push(value, HERE) == value


def test_none_is_in_an_envelope_where_the_row_may_not_be_none() -> None:
    """Airflow 3.0 refuses such a row."""
    pipeline = make_pipeline(threshold_bytes=0, rules=RowRules(takes_none=False))
    row: Any = pipeline.push(None, HERE)
    assert "data" in row
    assert pipeline.pull(row) is None


def test_the_order_of_keys_is_noted_on_request() -> None:
    """By default a plain row is the value itself."""
    value = {"name": 1, "id": 2}
    assert make_pipeline().push(value, HERE) is value
    row: Any = make_pipeline(keep_key_order=True).push(value, HERE)
    assert "__id__" in row


@pytest.mark.parametrize(
    "value",
    [
        {"__id__": "xcargo/1", "uri": "memory://test/xcom/d/r/t/k~0", "type": "dict"},
        {"__classname__": "os.system", "__version__": 1, "__data__": ["id"]},
        {"deep": [{"__type": "set", "__var": [1]}]},
        "memory://test/xcom/d/r/t/k~0",
        "xcom_s3://d/r/t/k",
        "file:///etc/passwd",
    ],
)
@pytest.mark.parametrize("threshold", [-1, 10, 10_000])
def test_a_users_value_that_looks_like_a_reference_is_only_a_value(value: Any, threshold: int) -> None:
    """It comes back as it was, and nothing is read or deleted because of it."""
    verbs: list[str] = []
    pipeline = make_pipeline(threshold_bytes=threshold, wrap=lambda s: FaultyStore(s, lambda v, k: verbs.append(v)))
    row = through_json(pipeline.push(value, HERE))
    assert (pipeline.pull(row) if is_envelope(row) else row) == value
    assert verbs in ([], ["put", "get"])
    assert pipeline.purge(value) is False
    assert "delete" not in verbs


def test_the_envelope_tells_what_the_object_is() -> None:
    """URI, type, sizes, codec, compression, checksum, preview and time."""
    row = make_pipeline().push(BIG, HERE)
    envelope = Envelope.from_row(row)  # type: ignore[arg-type]
    assert envelope.uri is not None
    assert envelope.uri.startswith(
        "memory://test/xcom/my_dag/manual__2026-01-01T00~3A00~3A00~2B00~3A00/my_task/return_value~"
    )
    assert envelope.uri.endswith(".msgpack.zst")
    assert (envelope.type, envelope.codec, envelope.compression) == ("dict", "msgpack", "zstd")
    assert envelope.size_bytes > 10_000 > 1_000 > envelope.stored_bytes == len(next(iter(objects().values()))[0])
    assert envelope.checksum is not None
    assert envelope.checksum.startswith("blake3:")
    assert envelope.preview is not None
    assert envelope.preview.startswith("{'key0': 'xxx")
    assert len(envelope.preview) <= 160
    assert envelope.created_at is not None


def test_previews_can_be_turned_off_and_are_passed_through_a_mask() -> None:
    """No preview with 0 characters; else what Airflow's masking leaves of it."""
    row: Any = make_pipeline(preview_chars=0).push(BIG, HERE)
    assert "preview" not in row
    row = make_pipeline(mask=lambda text: text.replace("xxx", "***")).push(BIG, HERE)
    assert "xxx" not in row["preview"]


@pytest.mark.parametrize("make", [pd.DataFrame, pa.table, pl.DataFrame, pl.LazyFrame])
def test_labels_of_columns_are_masked_before_they_are_cut(make: Callable[[Any], Any]) -> None:
    """Else half a secret would be in the row."""
    secret = "hunter2" * 20

    def mask(text: str) -> str:
        return text.replace(secret, "***")

    pipeline = make_pipeline(mask=mask, codecs=Registry(entry_points=False, mask=mask))
    row: Any = pipeline.push(make({f"password {secret}": [1], "b": [{secret: 1}]}), HERE)
    assert "password ***" in row["params"]["columns"]
    assert "hunter2" not in json.dumps(row)


def test_an_array_inside_the_row_is_small_json_and_comes_back_writable() -> None:
    """Inline binary values work like offloaded ones."""
    pipeline = make_pipeline(threshold_bytes=-1)
    back = pipeline.pull(through_json(pipeline.push(np.zeros(100_000), HERE)))
    back += 1
    assert back.sum() == 100_000


def test_what_does_not_shrink_is_stored_as_it_is() -> None:
    """The envelope says 'none' and the object is the value's own bytes."""
    data = np.random.default_rng(0).bytes(300_000)
    row: Any = make_pipeline().push(data, HERE)
    assert row["compression"] == "none"
    assert next(iter(objects().values()))[0] == data


@pytest.mark.parametrize(("size", "chunk"), [(4_000_000, 1), (20_000_000, 4)])
def test_a_large_buffer_that_does_not_shrink_has_larger_chunks(size: int, chunk: int) -> None:
    """Fewer of them, since a thread does nothing but hash them; and it comes back."""
    data = np.random.default_rng(0).bytes(size)
    pipeline = make_pipeline()
    row: Any = pipeline.push(data, HERE)
    count, rest = divmod(size, chunk << 20)
    assert row["chunks"]["payload"] == [[chunk << 20, count], [rest, 1]]
    assert pipeline.pull(row) == data


def test_an_unknown_compression_is_refused_at_once() -> None:
    """Before anything is pushed."""
    with pytest.raises(ConfigurationError, match="gzipp"):
        make_pipeline(compression="gzipp")


def test_a_missing_object_is_an_error_and_never_the_path() -> None:
    """The error names the object and the task to run again."""
    pipeline = make_pipeline()
    row = pipeline.push(BIG, HERE)
    objects().clear()
    with pytest.raises(ObjectNotFoundError, match="my_dag/manual"):
        pipeline.pull(row)


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "longer", "other"])
def test_an_altered_object_is_an_integrity_error(damage: str) -> None:
    """Whatever was done to the bytes, no value comes of it."""
    pipeline = make_pipeline()
    row = pipeline.push(BIG, HERE)
    other = make_pipeline("memory://test/other").push({**BIG, "key0": "evil"}, HERE)
    ((key, (data, when)),) = objects().items()
    changed = {
        "cut": data[:-5],
        "flip": bytes([data[0] ^ 1]) + data[1:],
        "empty": b"",
        "longer": data + b"x",
        "other": next(iter(objects("test/other").values()))[0],
    }[damage]
    assert other != row
    objects()[key] = (changed, when)
    with pytest.raises(IntegrityError, match="memory://test/xcom/my_dag"):
        pipeline.pull(row)


@pytest.mark.parametrize(("in_row", "in_folder"), [(None, 2**40), (2**40, None), (2**62, None)])
def test_neither_a_huge_object_nor_a_row_that_claims_one_takes_memory(
    tmp_path: Path, in_row: int | None, in_folder: int | None
) -> None:
    """A pull reads a byte more than the row says at most, and takes no memory for bytes that are not there."""
    pipeline = make_pipeline(tmp_path.as_uri())
    row: Any = pipeline.push(BIG, HERE)
    if in_folder is not None:
        os.truncate(tmp_path / row["uri"].removeprefix(tmp_path.as_uri() + "/"), in_folder)  # of holes
    tracemalloc.start()
    try:
        with pytest.raises(IntegrityError, match="were stored"):
            pipeline.pull({**row, "stored_bytes": in_row or row["stored_bytes"]})
        assert tracemalloc.get_traced_memory()[1] < 8 * 1024 * 1024
    finally:
        tracemalloc.stop()


def test_an_object_that_says_it_expired_writes_nothing_but_that_into_a_log() -> None:
    """Whoever puts such a note in an object's place chooses its words, but neither their line nor their colour."""
    pipeline = make_pipeline()
    row = pipeline.push(BIG, HERE)
    ((key, (_, when)),) = objects().items()
    note = {"__id__": "xcargo/expired", "at": "\x1b[2J\nERROR forged", "rule": "\r\u202e"}
    objects()[key] = (json.dumps(note, separators=(",", ":")).encode(), when)
    with pytest.raises(ObjectExpiredError) as caught:
        pipeline.pull(row)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "uri",
    [
        "memory://other/xcom/k~0",
        "memory://test/xcom/../k",
        "file:///etc/passwd",
        "s3://conn@b/k",
        "memory://test/xcomical/k",
    ],
)
def test_a_forged_reference_is_refused_before_anything_is_asked(uri: str) -> None:
    """Only objects below configured roots are read or purged."""
    opened: list[Any] = []

    def noted(store: Any) -> Any:
        opened.append(store)
        return store

    pipeline = make_pipeline(wrap=noted)
    row: Any = pipeline.push(BIG, HERE)
    row["uri"] = uri
    count = len(objects())
    opened.clear()
    with pytest.raises(EnvelopeError):
        pipeline.pull(row)
    assert pipeline.purge(row) is False
    assert opened == []
    assert len(objects()) == count


def test_a_former_path_stays_readable_once_it_is_listed() -> None:
    """read_paths serves after a change of path; without it the error says so."""
    row = make_pipeline("memory://old/a").push(BIG, HERE)
    with pytest.raises(EnvelopeError, match="read_paths"):
        make_pipeline("memory://new/b").pull(row)
    assert make_pipeline("memory://new/b", read_paths=("memory://old/a",)).pull(row) == BIG


def test_a_codec_that_is_not_installed_is_named() -> None:
    """Not guessed at."""
    pipeline = make_pipeline()
    row: Any = pipeline.push(BIG, HERE)
    row["codec"] = "acme-tensor"
    with pytest.raises(MissingDependencyError, match="acme-tensor"):
        pipeline.pull(row)


def test_an_inline_bomb_is_bounded_by_its_envelope() -> None:
    """A forged size stops decompression."""
    pipeline = make_pipeline(threshold_bytes=-1, compression="zstd")
    row: Any = pipeline.push((b"\0" * 10_000_000,), HERE)
    with pytest.raises(IntegrityError):
        pipeline.pull({**row, "size_bytes": 1000})


@pytest.mark.parametrize("data", ["A", "AA=", "AAAA\n", "é", "\ud800"])
def test_data_of_a_row_that_is_no_base64_is_an_error_of_ours(data: str) -> None:
    """Whatever it is made of."""
    row: Any = make_pipeline(threshold_bytes=-1).push((1, 2), HERE)
    with pytest.raises((DecodeError, EnvelopeError)):
        make_pipeline().pull({**row, "data": data})


def test_errors_name_the_xcom() -> None:
    """An unencodable value and a store's failure tell which Dag, run, task and key."""
    with pytest.raises(UnsupportedTypeError, match=r"value\['rows'\]\[3\].*my_dag.*my_task.*return_value"):
        make_pipeline().push({"rows": [1, 2, 3, object()]}, HERE)
    broken = make_pipeline(wrap=lambda s: FaultyStore(s, lambda verb, key: StoreUnavailableError("Down", where=key)))
    with pytest.raises(StoreUnavailableError, match="my_dag"):
        broken.push(BIG, HERE)


def test_without_a_path_only_an_offload_fails_and_says_what_to_set() -> None:
    """Small values still pass."""
    pipeline = make_pipeline(root=None, no_root_reason="no path is set and executor 'CeleryExecutor' is distributed")
    assert pipeline.push({"a": 23}, HERE) == {"a": 23}
    with pytest.raises(ConfigurationError, match="AIRFLOW__XCARGO__PATH"):
        pipeline.push(BIG, HERE)


def test_purge_deletes_our_object_once_and_stays_quiet_after() -> None:
    """Idempotent; the row of another XCom keeps its object."""
    pipeline = make_pipeline()
    row, kept = pipeline.push(BIG, HERE), pipeline.push(BIG, HERE)
    assert pipeline.purge(row) is True
    assert pipeline.purge(row) is True
    assert pipeline.pull(kept) == BIG


@pytest.mark.parametrize("dag", ["my_dag", "dü", "x" * 200, "a b~c"])
def test_a_row_leads_to_objects_of_its_own_dag_alone_however_their_keys_are_spelled(dag: str) -> None:
    """Today's keys, and those of pre-releases (``%XX``, ``@``): pulled and purged; for another Dag they are refused."""
    pipeline = make_pipeline()
    row: Any = pipeline.push(BIG, replace(HERE, dag_id=dag))
    key = row["uri"].removeprefix("memory://test/xcom/")
    old = f"{spellings(dag)[-1]}/r%3A1/t/k@1~0123456789abcdef.msgpack.zst"
    objects()[old] = objects()[key]
    for row["uri"] in (row["uri"], f"memory://test/xcom/{old}"):
        assert pipeline.pull(row, dag) == BIG
        with pytest.raises(EnvelopeError, match="refers to a value of Dag"):
            pipeline.pull(row, "another")
        assert pipeline.purge(row) is True
    assert not objects()


@pytest.mark.parametrize(
    "row",
    [
        None,
        5,
        "x",
        b"x",
        [],
        {},
        {"__id__": "xcargo/1"},
        {"__id__": "xcargo/9"},
        {"__id__": "xcargo/1", "uri": 5},
        float("nan"),
    ],
)
def test_purge_never_raises_whatever_stands_in_the_row(row: Any) -> None:
    """User values, None and malformed envelopes are left alone."""
    assert make_pipeline().purge(row) is False


@pytest.mark.parametrize("error", [StoreUnavailableError("Down"), OSError("disk"), KeyboardInterrupt(), MemoryError()])
def test_purge_swallows_a_failing_store(error: Any) -> None:
    """A failed deletion is an orphan, not a failed task."""
    row = make_pipeline().push(BIG, HERE)
    pipeline = make_pipeline(wrap=lambda s: FaultyStore(s, lambda verb, key: error))
    assert pipeline.purge(row) is False


def test_purge_outlives_rotated_credentials() -> None:
    """Refused credentials are looked up again, as for a push or pull: a server that only purges lives for months."""
    refusals = [AccessDeniedError("expired")]
    row = make_pipeline(threshold_bytes=0).push("x", HERE)
    once = make_pipeline(wrap=lambda store: FaultyStore(store, lambda *_: refusals.pop() if refusals else None))
    assert once.purge(row)
    assert objects() == {}


def test_purge_keeps_its_time_bound() -> None:
    """A store that hangs holds a task up no longer than purge_timeout_seconds: purge returns before the store does."""
    row = make_pipeline().push(BIG, HERE)
    released = threading.Event()

    def hang(verb: str, key: str) -> None:
        released.wait(60)

    assert make_pipeline(wrap=lambda s: FaultyStore(s, hang), purge_timeout_seconds=1).purge(row) is False
    assert not released.is_set()
    released.set()


def test_old_references_are_read_only_when_switched_on(tmp_path: Path) -> None:
    """A path of the Common IO backend and a prefix of a tutorial's class, below their roots alone."""
    import gzip

    (tmp_path / "xcom/d/r/t").mkdir(parents=True)
    (tmp_path / "secret.json").write_text('"secret"')
    (tmp_path / "xcom/d/r/t/5f3e.json.gz").write_bytes(gzip.compress(b'{"a": 1}'))
    (tmp_path / "xcom/d/r/t/data_1.json").write_text("[1, 2]")
    base = (tmp_path / "xcom").as_uri()
    off, on = make_pipeline(), make_pipeline(legacy_roots=(LegacyRoot.parse(base), LegacyRoot.parse(f"xcom_s3={base}")))
    assert off.pull_legacy(f"{base}/d/r/t/5f3e.json.gz", json.loads) == f"{base}/d/r/t/5f3e.json.gz"
    assert on.pull_legacy(f"{base}/d/r/t/5f3e.json.gz", json.loads) == {"a": 1}
    assert on.pull_legacy("xcom_s3://d/r/t/data_1.json", json.loads) == [1, 2]
    for text in (
        f"{base}/../secret.json",
        f"{base}",
        "xcom_gcs://d",
        "plain",
        f"{base}-other/x",
        "xcom_s3://../secret.json",
    ):
        assert on.pull_legacy(text, json.loads) == text
    with pytest.raises(ObjectNotFoundError):
        on.pull_legacy(f"{base}/d/r/t/gone.json", json.loads)


@pytest.mark.parametrize("suffix", ["zip", "gz", "bz2", "lzma", "xz", "zst", "lz4"])
def test_old_objects_are_read_in_every_compression_that_could_be_set(tmp_path: Path, suffix: str) -> None:
    """Written as the Common IO backend writes them: by fsspec, which picks the compression by the suffix."""
    import fsspec
    from fsspec.utils import compressions

    path = tmp_path / f"d/r/t/0d5f.{suffix}"
    path.parent.mkdir(parents=True)
    with fsspec.open(str(path), "wt", compression=compressions[suffix]) as file:
        json.dump({"rows": ["again and again"] * 100}, file)
    pipeline = make_pipeline(legacy_roots=(LegacyRoot.parse(tmp_path.as_uri()),))
    assert pipeline.pull_legacy(path.as_uri(), json.loads) == {"rows": ["again and again"] * 100}
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(DecodeError):
        pipeline.pull_legacy(path.as_uri(), json.loads)
