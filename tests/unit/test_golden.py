"""Golden rows: what a release wrote, every later one reads.

``tests/golden/<version>/<name>.json`` is the row of one value, payload included; ``names.txt`` lists them, and
``SHA256SUMS`` locks every file. ``python -m tests.unit.test_golden`` writes those of a new version once; a file that is
there is never written again, and one that is missing or was changed fails the tests.
"""

from __future__ import annotations

import array
import dataclasses
import datetime as dt
import functools
import hashlib
import io
import ipaddress
import json
import re
import sys
import tarfile
import time
import types
import uuid
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import dateutil.tz
import numpy as np
import ormsgpack
import pandas as pd
import pendulum
import PIL.Image
import polars as pl
import pyarrow as pa
import pydantic
import pytest
import scipy.sparse
import xarray as xr
from airflow.sdk import ObjectStoragePath

import xcargo
from tests.unit import golden_classes
from tests.unit.codecs.known_classes import KnownClasses
from tests.unit.codecs.test_libraries import same as same_of_library
from tests.unit.codecs.test_tree import same
from tests.unit.conftest import HERE, make_pipeline
from xcargo.airflow.serde_codec import SerdeCodec
from xcargo.codecs import Registry
from xcargo.codecs.builtin import Tag
from xcargo.codecs.files import Directory, File, FileCodec
from xcargo.codecs.objects import PickleCodec
from xcargo.codecs.source import BytesSource
from xcargo.codecs.stream import ByteStream
from xcargo.errors import IntegrityError, ObjectExpiredError, SignatureError
from xcargo.model.envelope import tombstone
from xcargo.model.key_order import restored
from xcargo.model.keys import Key
from xcargo.stores.local import MemoryStore, buckets
from xcargo.transfer.compression import SUFFIXES

GOLDEN = Path(__file__).parents[1] / "golden"
SUMS = "SHA256SUMS"
WRITE = "run: .venv/bin/python -m tests.unit.test_golden"
CHANGED = "a golden file was changed: restore it, and give the new format a codec id or an extension number of its own"


def labelled(columns: dict[str, Any]) -> pd.DataFrame:
    """A frame whose labels are objects: pandas 2 and 3 would choose different dtypes for text."""
    frame = pd.DataFrame(columns)
    frame.columns = pd.Index(list(columns), dtype=object)
    return frame


def _tar() -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.PAX_FORMAT) as archive:
        entry = tarfile.TarInfo("a.txt")
        entry.size = 4
        archive.addfile(entry, io.BytesIO(b"text"))
    return sink.getvalue()


def _nested(levels: int) -> Any:
    value: Any = (1,)
    for _ in range(levels):
        value = [value]
    return value


VALUES: dict[str, Any] = {
    "tuple": (1, ("a", [2.5, None])),
    "numbers": [2**100, -(2**70), float("inf"), -0.0, 1e300, 3 + 4j, Decimal("0.10"), Fraction(1, 3)],
    "text": ["\ud800", "nul\0", "ü"],
    "keys": {1: "a", (2, 3): "b", None: "c", "d": {False: 0}},
    "sets": [{1, 2}, frozenset({"x"})],
    "times": (
        dt.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
        dt.datetime(2026, 1, 2, tzinfo=dt.timezone.utc),
        dt.datetime(2026, 1, 2),
        dt.date(2026, 1, 2),
        dt.time(3, 4, 5, 6),
        dt.timedelta(days=-1, microseconds=7),
        dt.timezone(dt.timedelta(hours=2)),
    ),
    "containers": [deque([1], maxlen=2), OrderedDict(b=1, a=2), Counter("aab"), range(0, 9, 2), slice(1, 2)],
    "names": [uuid.UUID(int=7), PurePosixPath("/a/b"), ...],
    "bytes": b"\0\1\xff",
    "bytearray": bytearray(b"abc"),
    "nested_bytes": {"a": b"x", "b": bytearray(b"y")},
    "array": np.arange(6, dtype="<i4").reshape(2, 3),
    "array_fortran": np.asfortranarray(np.arange(6, dtype="<f8").reshape(2, 3)),
    "array_structured": np.array([(1, 2.5)], dtype=[("a", "<i4"), ("b", "<f8")]),
    "scalar": np.float32(1.5),
    "pandas": labelled(
        {
            "i": [1, 2],
            "s": pd.Series(["a", None], dtype=object),
            "t": pd.Series(["2026-01-01", None], dtype="datetime64[ns]"),
        }
    ),
    "series": pd.Series([1.5, 2.5], name="n"),
    "polars": pl.DataFrame({"a": [1, None], "b": [["x"], []]}),
    "arrow_table": pa.table({"a": [1, 2]}),
    "nested_frame": {"f": (labelled({"x": [1]}), np.arange(3))},
    "times_of_libraries": [
        pendulum.datetime(2026, 7, 1, tz="Europe/Paris"),
        pendulum.date(2026, 1, 1),
        pendulum.time(1, 2, 3),
        pendulum.duration(years=1, months=2, days=3),
        pendulum.datetime(2026, 1, 1) - pendulum.datetime(2025, 1, 1),
        dt.datetime(2026, 1, 1, tzinfo=dateutil.tz.tzutc()),
        dt.datetime(2026, 1, 1, tzinfo=dateutil.tz.tzoffset(None, 3600)),
    ],
    "more_containers": [
        array.array("d", [1.5]),
        types.SimpleNamespace(a=(1,)),
        defaultdict(frozenset, a=frozenset({1})),
    ],
    "array_aligned": np.zeros(1, np.dtype([("a", "i1"), ("b", "<i8")], align=True)),
    "array_masked": np.ma.array([1, 2], mask=[False, True], fill_value=-1, dtype="<i4"),
    "array_objects": np.array([1, "a", (2,)], dtype=object),
    "array_record": np.rec.array([(1, 2.5)], dtype=[("a", "<i4"), ("b", "<f8")]),
    "array_text": np.array(["a", None], np.dtypes.StringDType(na_object=None)),
    "pandas_array": pd.array([1, None], dtype="Int8"),
    "pandas_offset": pd.offsets.MonthEnd(2),
    "pandas_frequency": pd.date_range(
        "2026-01-01", periods=2, freq=pd.offsets.BusinessHour(start="08:00", end="12:00"), unit="us"
    ),
    "pandas_sparse": pd.Series(pd.arrays.SparseArray([0, 0, 1])),
    "arrow_array": pa.array([1, None]),
    "arrow_scalar": pa.scalar("x"),
    "arrow_schema": pa.schema([("a", pa.int8())]),
    "file": FileCodec().decode(b"a,b\n1,2\n", {"name": "data.csv", "media_type": "text/csv"}),
    "directory": FileCodec().decode(_tar(), {"directory": "model", "files": 1}),
    "stream": ByteStream(BytesSource(b"piece by piece")),
    "reader": lambda: pa.RecordBatchReader.from_batches(
        pa.schema([("a", pa.int64())]), [pa.record_batch({"a": [1, 2]}), pa.record_batch({"a": [3]})]
    ),
    "array_objects_in_fields": np.array([(1, [2]), (3, None)], [("a", "<i4"), ("o", "O")]),
    "array_masked_objects": np.ma.array([1, "a"], mask=[False, True], dtype=object, fill_value="n"),
    "array_dtype": np.dtype([("a", ">i4"), ("b", "M8[us]")]),
    "pandas_text": labelled(
        {"o": pd.Series(["a", None, "ü"], dtype=object), "s": pd.array(["b", None, ""], pd.StringDtype("pyarrow"))}
    ),
    "pandas_dtype": pd.CategoricalDtype([1, 2], ordered=True),
    "enum": [golden_classes.Colour.RED, golden_classes.Access(3)],
    "named_tuple": golden_classes.Point(1, (2, {3})),
    "rows": [golden_classes.Point(1, (2,)), golden_classes.Point(None, "y")],
    "rows_nested": lambda: {"a": golden_classes.sqlite_rows()},
    "structs": [time.struct_time((2026, 1, 2, 3, 4, 5, 6, 7, 0), {"tm_zone": "CET", "tm_gmtoff": 3600})],
    "dataclass": golden_classes.Order("A-1", golden_classes.Point(1, 2), [golden_classes.Colour.RED]),
    "attrs": golden_classes.Parcel(golden_classes.Order("A-1", golden_classes.Point(1, 2))),
    "model": golden_classes.page(),
    "pickle": functools.partial(int, "7", base=8),
    "airflow_serde": lambda: ObjectStoragePath("file:///data/x.csv"),
    "polynomial": np.polynomial.Chebyshev([1, 2.5], domain=[0, 5], symbol="t"),
    "sparse": scipy.sparse.csr_array(np.array([[0, 1.5], [2, 0]])),
    "dataset": xr.Dataset({"heat": (("t", "x"), np.arange(4.0).reshape(2, 2), {"units": "K"})}, {"t": [10, 20]}),
    "image": PIL.Image.new("RGB", (2, 1), "red"),
    "estimator": golden_classes.Scaler(2.5),
    "pydantic": pydantic.PostgresDsn("postgres://u:p@a,b/c"),
    "memory_file": lambda: memory_file(),
    "lazy_frame": pl.LazyFrame({"a": [1, None], "b": ["x", "y"]}),
    "names_of_places": [
        ipaddress.ip_address("::1"),
        ipaddress.ip_network("10.0.0.0/8"),
        re.compile("a+", re.ASCII),
    ],
    "view": memoryview(b"abcd").cast("H"),
    "deep": _nested(300),
    "parts": lambda: {"a": np.arange(20_000) % 3, "b": (FileCodec().decode(b"x", {"name": "x"}), 1)},
    **{f"compressed_{name}": {"k": ["the same words again and again"] * 50, "t": (1,)} for name in SUFFIXES},
}


def memory_file() -> io.StringIO:
    file = io.StringIO("a\nb", newline="\n")
    file.seek(2)
    return file


GOLDEN_KEY = Key("golden", bytes(range(32)))
SIGNED = ("signed", b"inline")


def codecs() -> Registry:
    """All of them, pickle too."""
    return Registry(
        classes=KnownClasses(golden_classes.__name__),
        fallbacks=[SerdeCodec],
        last_resort=partial(PickleCodec, allowed=True),
        entry_points=False,
    )


UNCOMPRESSED = bytes(range(256)) * 4200
"""More than a chunk; its object is what it is."""

OBJECTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "one_chunk": ([("word", n) for n in range(400)], {}),
    "one_chunk_guarded": (
        [("word", n) for n in range(400)],
        {"signing_keys": (GOLDEN_KEY,), "encryption_keys": (GOLDEN_KEY,), "encryption_key": GOLDEN_KEY},
    ),
    "one_chunk_uncompressed": (UNCOMPRESSED[:4000], {"compression": "none"}),
    "chunks_uncompressed": (UNCOMPRESSED, {"compression": "none"}),
}
"""Values in a store, beside those of which there is a test each: name -> value and settings."""

PLAIN = {"name": 1, "id": [{"b": 1, "a": None}]}
"""A value that is its own row, with the order of its keys."""

CHUNKED = [f"line {n} of a text that is longer than a chunk" for n in range(250_000)]


def value_of(name: str) -> Any:
    """The value; one that can be used once is made anew."""
    value = VALUES[name]
    return value() if isinstance(value, types.FunctionType) else value


def equal(left: Any, right: Any) -> bool:
    if isinstance(right, pa.RecordBatchReader):
        return type(left) is type(right) and bool(left.read_all() == right.read_all())
    if isinstance(right, pl.LazyFrame):
        return type(left) is type(right) and bool(left.collect().equals(right.collect()))
    if isinstance(right, memoryview):
        return bool(left == right) and (left.format, left.readonly) == (right.format, right.readonly)
    if isinstance(right, io.StringIO):
        return type(left) is type(right) and (left.getvalue(), left.tell()) == (right.getvalue(), right.tell())
    if isinstance(right, (File, Directory, ByteStream)):
        return type(left) is type(right) and bool(left == right)
    if isinstance(right, dict) and isinstance(right.get("a"), np.ndarray):
        return left.keys() == right.keys() and np.array_equal(left["a"], right["a"]) and left["b"] == right["b"]
    if isinstance(right, pd.DataFrame):
        pd.testing.assert_frame_equal(left, right)
        return True
    if isinstance(right, pd.Series):
        pd.testing.assert_series_equal(left, right)
        return True
    if isinstance(right, pd.api.extensions.ExtensionArray):
        pd.testing.assert_extension_array_equal(left, right)
        return True
    if isinstance(right, functools.partial):
        return type(left) is type(right) and (left.func, left.args, left.keywords) == (
            right.func,
            right.args,
            right.keywords,
        )
    if isinstance(right, pd.DatetimeIndex):
        return bool(left.equals(right)) and left.freq == right.freq
    if isinstance(right, golden_classes.Scaler):
        return type(left) is type(right) and bool(left.get_params() == right.get_params())
    if isinstance(right, PIL.Image.Image):
        return bool(left == right)
    if isinstance(right, (scipy.sparse.csr_array, xr.Dataset, np.polynomial.Chebyshev)):
        return same_of_library(left, right)
    if isinstance(right, np.ndarray):
        assert type(left) is type(right)
        if isinstance(right, np.ma.MaskedArray):
            assert isinstance(left, np.ma.MaskedArray)
            assert left.fill_value == right.fill_value
        np.testing.assert_array_equal(left, right)
        return bool(left.dtype == right.dtype)
    if isinstance(right, (pl.DataFrame, pa.Table, pa.Array, pa.Scalar, pa.Schema)):
        return bool(left.equals(right))
    if isinstance(right, tuple) and len(right) and isinstance(right[0], pd.DataFrame):
        return len(left) == len(right) and all(map(equal, left, right))
    if isinstance(right, dict) and "f" in right:
        return left.keys() == right.keys() and all(equal(left[k], right[k]) for k in right)
    return same(left, right)


@pytest.mark.parametrize("version", sorted(p.name for p in GOLDEN.iterdir()))
def test_rows_of_every_release_still_give_their_values(version: str) -> None:
    """Every file reads as the value that it was made of; none is missing and none is unknown."""
    pipeline = make_pipeline(codecs=codecs())
    files = {path.stem: json.loads(path.read_text()) for path in (GOLDEN / version).glob("*.json")}
    assert set(files) == set((GOLDEN / version / "names.txt").read_text().split())
    for name, row in files.items():
        assert equal(pipeline.pull(row), value_of(name)), name


@pytest.mark.parametrize("version", sorted(p.name for p in GOLDEN.iterdir()))
def test_a_chunked_object_of_every_release_still_gives_its_value(version: str) -> None:
    """The row with its table of chunks, and the object as it was stored."""
    row = json.loads((GOLDEN / version / "chunked_row.txt").read_text())
    assert len(row["chunks"]["payload"]) == 2
    key = row["uri"].removeprefix("memory://test/xcom/")
    pipeline = make_pipeline()
    MemoryStore(pipeline.settings.root).put(key, [(GOLDEN / version / "chunked_object").read_bytes()])  # type: ignore[arg-type]
    assert pipeline.pull(row) == CHUNKED


@pytest.mark.parametrize("version", sorted(p.name for p in GOLDEN.iterdir()))
def test_signed_and_encrypted_rows_of_every_release_still_give_their_values(version: str) -> None:
    """Signature and encryption are computed as they were; another key does not fit."""
    signed = json.loads((GOLDEN / version / "signed_row.txt").read_text())
    row = json.loads((GOLDEN / version / "encrypted_row.txt").read_text())
    assert set(row["chunks"]) == {"payload", "stored", "digests"}
    pipeline = guarded()
    key = row["uri"].removeprefix("memory://test/xcom/")
    MemoryStore(pipeline.settings.root).put(key, [(GOLDEN / version / "encrypted_object").read_bytes()])
    assert pipeline.pull(signed) == SIGNED
    assert pipeline.pull(row) == CHUNKED
    stranger = dataclasses.replace(GOLDEN_KEY, secret=bytes(32))
    with pytest.raises(SignatureError):
        make_pipeline(signing_keys=(stranger,)).pull(signed)
    with pytest.raises(IntegrityError):
        make_pipeline(encryption_keys=(stranger,)).pull(row)


@pytest.mark.parametrize("version", sorted(p.name for p in GOLDEN.iterdir()))
@pytest.mark.parametrize("name", OBJECTS)
def test_objects_of_every_release_still_give_their_values(version: str, name: str) -> None:
    """Of one chunk and of several, each as it was stored: compressed, not compressed, encrypted and signed."""
    value, settings = OBJECTS[name]
    row = json.loads((GOLDEN / version / f"{name}_row.txt").read_text())
    stored = UNCOMPRESSED if name == "chunks_uncompressed" else (GOLDEN / version / f"{name}_object").read_bytes()
    assert ("chunks" in row, "encryption" in row) == (name.startswith("chunks"), name.endswith("guarded"))
    pipeline = make_pipeline(**settings)
    MemoryStore(pipeline.settings.root).put(row["uri"].removeprefix("memory://test/xcom/"), [stored])  # type: ignore[arg-type]
    assert pipeline.pull(row) == value


@pytest.mark.parametrize("version", sorted(p.name for p in GOLDEN.iterdir()))
def test_an_expired_object_and_the_order_of_keys_of_every_release_are_read(version: str) -> None:
    """The note in place of an object whose value expired, and a row of plain JSON that PostgreSQL has sorted."""
    row = json.loads((GOLDEN / version / "one_chunk_row.txt").read_text())
    pipeline = make_pipeline()
    note = (GOLDEN / version / "expired_object").read_bytes()
    MemoryStore(pipeline.settings.root).put(row["uri"].removeprefix("memory://test/xcom/"), [note])  # type: ignore[arg-type]
    with pytest.raises(ObjectExpiredError, match=r"2026-01-01T00:00:00.*keep 7d"):
        pipeline.pull(row)
    plain = json.loads((GOLDEN / version / "plain_row.txt").read_text())
    assert list(restored(dict(sorted(plain.items())))) == list(PLAIN)


def guarded() -> Any:
    return make_pipeline(signing_keys=(GOLDEN_KEY,), encryption_keys=(GOLDEN_KEY,), encryption_key=GOLDEN_KEY)


def test_every_codec_has_a_golden_row() -> None:
    """None could change its format unseen."""
    rows = [json.loads(path.read_text()) for path in (GOLDEN / xcargo.__version__).glob("*.json")]
    written = {row["codec"] for row in rows}
    assert written == {codec.id for codec in codecs().codecs}, f"add a value of each to VALUES, and {WRITE}"


def test_every_tag_has_a_golden_row() -> None:
    """Nor the form of a type inside nested values."""
    seen: set[int] = set()

    def collect(data: bytes) -> None:
        ormsgpack.unpackb(data, ext_hook=restore, option=ormsgpack.OPT_NON_STR_KEYS)

    def restore(tag: int, data: bytes) -> None:
        seen.add(tag)
        collect(data)

    for path in (GOLDEN / xcargo.__version__).glob("*.json"):
        row = json.loads(path.read_text())
        if row["codec"] == "msgpack":
            payload = make_pipeline().handle(row).open().read()
            if "params" in row:
                start = len(payload) - row["params"]["tree_bytes"] - row["params"]["table_bytes"]
                payload = payload[start:][: row["params"]["tree_bytes"]]
            collect(payload)
    assert seen == {tag for name, tag in vars(Tag).items() if name.isupper()}, f"add a value to VALUES, and {WRITE}"


def test_every_compression_has_a_golden_row() -> None:
    """And each is compressed by it."""
    for name in SUFFIXES:
        row = json.loads((GOLDEN / xcargo.__version__ / f"compressed_{name}.json").read_text())
        assert row["compression"] == name


def test_this_release_has_golden_rows() -> None:
    """A release without them could change the format unseen."""
    assert set((GOLDEN / xcargo.__version__ / "names.txt").read_text().split()) == set(VALUES), WRITE


@pytest.mark.parametrize("version", sorted(p.name for p in GOLDEN.iterdir()))
def test_no_golden_file_was_changed(version: str) -> None:
    """What a release wrote is written; a test that fails on it is right."""
    assert (GOLDEN / version / SUMS).read_text() == sums_of(GOLDEN / version), CHANGED


def sums_of(folder: Path) -> str:
    """The hash of each file, as ``sha256sum`` prints it."""
    files = sorted(path for path in folder.iterdir() if path.name != SUMS)
    return "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files)


def _write() -> None:
    folder = GOLDEN / xcargo.__version__
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / SUMS).exists() and (folder / SUMS).read_text() != sums_of(folder):
        sys.exit(f"{folder}: {CHANGED}")
    for name in VALUES:
        path = folder / f"{name}.json"
        if not path.exists():
            compression = name.removeprefix("compressed_") if name.startswith("compressed_") else "none"
            row = make_pipeline(threshold_bytes=-1, compression=compression, codecs=codecs()).push(value_of(name), HERE)
            path.write_text(json.dumps(row, indent=1) + "\n")
    for name, (value, settings) in OBJECTS.items():
        if not (folder / f"{name}_row.txt").exists():
            buckets.clear()
            row = make_pipeline(threshold_bytes=100, **settings).push(value, HERE)
            ((stored, _),) = buckets["test/xcom"].values()
            if name != "chunks_uncompressed":
                (folder / f"{name}_object").write_bytes(stored)
            (folder / f"{name}_row.txt").write_text(json.dumps(row, indent=1) + "\n")
    if not (folder / "expired_object").exists():
        noon = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)
        (folder / "expired_object").write_bytes(tombstone("keep 7d", noon, 0))
        row = make_pipeline(keep_key_order=True).push(PLAIN, HERE)
        (folder / "plain_row.txt").write_text(json.dumps(row, indent=1) + "\n")
    if not (folder / "chunked_object").exists():
        buckets.clear()
        row = make_pipeline(compression="zstd").push(CHUNKED, HERE)
        ((stored, _),) = buckets["test/xcom"].values()
        (folder / "chunked_object").write_bytes(stored)
        (folder / "chunked_row.txt").write_text(json.dumps(row, indent=1) + "\n")
    if not (folder / "encrypted_object").exists():
        buckets.clear()
        row = guarded().push(CHUNKED, HERE)
        ((stored, _),) = buckets["test/xcom"].values()
        (folder / "encrypted_object").write_bytes(stored)
        (folder / "encrypted_row.txt").write_text(json.dumps(row, indent=1) + "\n")
        (folder / "signed_row.txt").write_text(json.dumps(guarded().push(SIGNED, HERE), indent=1) + "\n")
    (folder / "names.txt").write_text("\n".join(sorted(VALUES)) + "\n")
    (folder / SUMS).write_text(sums_of(folder))


if __name__ == "__main__":
    _write()
