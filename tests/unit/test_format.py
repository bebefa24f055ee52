"""docs/format.md suffices to read what is stored: a reader that was written from it reads it."""

from __future__ import annotations

import base64
import json
from datetime import date, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests import format_reader
from tests.format_vectors import ROOT, VECTORS
from tests.format_vectors import read as read_case
from tests.unit.conftest import HERE, make_pipeline
from xcargo.airflow.serde_codec import SerdeCodec
from xcargo.codecs import Registry
from xcargo.codecs.objects import PickleCodec
from xcargo.errors import XCargoError
from xcargo.model.envelope import is_envelope
from xcargo.model.keys import Key
from xcargo.stores.local import MemoryStore
from xcargo.transfer.compression import SUFFIXES

NESTED = [
    (1, {2}, frozenset("a")),
    *(10**30, -(2**70), 1j, Decimal("0.10"), date(2026, 1, 2), timedelta(1, 2, 3)),
    {1: "a", (2, 3): b"\x00", None: float("inf")},
]
LARGE = {"name": "numbers", "array": np.arange(400_000).reshape(2, -1), "text": "x" * 3_000_000}


def same(value: Any, back: Any) -> bool:
    """Equal, arrays too."""
    if isinstance(value, dict):
        return value.keys() == back.keys() and all(same(part, back[key]) for key, part in value.items())
    return np.array_equal(value, back) if isinstance(value, np.ndarray) else bool(value == back)


def fetch(uri: str) -> bytes:
    """The object of a file URL."""
    return Path(uri.removeprefix("file://")).read_bytes()


@pytest.mark.parametrize("compression", format_reader.DECOMPRESS)
@pytest.mark.parametrize("threshold", [0, -1], ids=["object", "row"])
def test_nested_values_are_read_from_the_page_alone(tmp_path: Path, compression: str, threshold: int) -> None:
    pipeline = make_pipeline(f"{tmp_path.as_uri()}/xcom", compression=compression, threshold_bytes=threshold)
    value = [NESTED, "x" * 10_000]
    row: Any = pipeline.push(value, HERE)
    assert is_envelope(row)
    assert ("uri" in row) == (threshold == 0)
    assert row["compression"] == compression
    assert format_reader.read(row, fetch) == value


@pytest.mark.parametrize("encrypted", [False, True])
def test_chunks_parts_encryption_and_signatures_are_read_from_the_page_alone(tmp_path: Path, encrypted: bool) -> None:
    key = Key("2026", bytes(range(32)))
    settings: dict[str, Any] = {"encryption_keys": (key,), "encryption_key": key} if encrypted else {}
    pipeline = make_pipeline(f"{tmp_path.as_uri()}/xcom", signing_keys=(key,), **settings)
    row: Any = pipeline.push(LARGE, HERE)
    assert {"chunks", "params", "signature"} <= row.keys()
    assert ("encryption" in row) == encrypted
    assert same(LARGE, format_reader.read(row, fetch, {key.name: key.secret}))
    assert format_reader.is_signed_by(row, key.name, key.secret)
    assert not format_reader.is_signed_by(row | {"type": "str"}, key.name, key.secret)


def test_arrays_tables_and_bytes_are_read_from_the_page_alone(tmp_path: Path) -> None:
    pipeline = make_pipeline(f"{tmp_path.as_uri()}/xcom", threshold_bytes=0)
    fortran = np.asfortranarray(np.arange(6, dtype=">i4").reshape(2, 3))
    assert same(fortran, format_reader.read(pipeline.push(fortran, HERE), fetch))  # type: ignore[arg-type]
    frame = pd.DataFrame({"n": [1, 2], "text": ["a", "b"]})
    table = format_reader.read(pipeline.push(frame, HERE), fetch)  # type: ignore[arg-type]
    assert table.to_pylist() == frame.to_dict("records")
    assert format_reader.read(pipeline.push(base64.b64decode("AAEC"), HERE), fetch) == b"\0\1\2"  # type: ignore[arg-type]


CASES = {path.stem: json.loads(path.read_text()) for path in sorted(VECTORS.glob("*.json"))}
PLAIN_ROWS = ("key_order",)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if "value" in case and name not in PLAIN_ROWS])
def test_every_vector_has_its_value(name: str) -> None:
    """The reader that was written from the page finds the value that the file gives."""
    assert read_case(CASES[name]) == CASES[name]["value"]


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if "refused" in case])
def test_every_damaged_vector_is_refused(name: str) -> None:
    """By the package too, with an error of its own."""
    case = CASES[name]
    keys = {field: tuple(Key(*key) for key in secrets_of(case, field)) for field in ("keys", "signing_keys")}
    pipeline = make_pipeline(ROOT, encryption_keys=keys["keys"], signing_keys=keys["signing_keys"])
    if "object" in case:
        key = case["row"]["uri"].rpartition("/xcom/")[2]
        MemoryStore(pipeline.settings.root).put(key, [base64.b64decode(case["object"])])  # type: ignore[arg-type]
    with pytest.raises(XCargoError):
        pipeline.pull(case["row"])


def secrets_of(case: dict[str, Any], field: str) -> list[tuple[str, bytes]]:
    """Names and bytes of the keys that a case brings."""
    return [(name, base64.b64decode(secret)) for name, secret in case.get(field, {}).items()]


def test_the_vectors_hold_every_codec_and_compression() -> None:
    """What a new codec or compression needs: `python -m tests.format_vectors`."""
    rows = [case["row"] for case in CASES.values()]
    assert {row.get("compression") for row in rows} >= set(SUFFIXES)
    ids = {
        codec.id for codec in Registry(fallbacks=[SerdeCodec], last_resort=partial(PickleCodec, allowed=True)).codecs
    }
    assert {row.get("codec") for row in rows} >= ids
