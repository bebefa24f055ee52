"""docs/format.md suffices to read what is stored: a reader that was written from it reads it."""

from __future__ import annotations

import base64
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests import format_reader
from tests.unit.conftest import HERE, make_pipeline
from xcargo.model.envelope import is_envelope
from xcargo.model.keys import Key

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
