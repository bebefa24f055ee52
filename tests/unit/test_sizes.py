"""Size policy: what is refused, what is warned of, and what the message says of the value."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from tests.unit.conftest import HERE, make_pipeline
from xcargo.errors import SizeLimitError
from xcargo.model.envelope import is_envelope
from xcargo.stores.local import buckets
from xcargo.transfer.description import biggest_parts


@pytest.mark.parametrize("threshold", [-1, 0, 10_000])
@pytest.mark.parametrize("value", [b"x" * 100, "x" * 98, {"a": "b" * 91 + "c"}])
def test_the_limit_is_the_last_size_that_is_admitted(value: Any, threshold: int) -> None:
    """At exactly max_size_bytes a value passes, one byte above it does not, in the row or not; nothing is stored."""
    row: Any = make_pipeline(threshold_bytes=threshold).push(value, HERE)
    size = row["size_bytes"] if is_envelope(row) else 100
    buckets.clear()
    assert make_pipeline(threshold_bytes=threshold, max_size_bytes=size).push(value, HERE) is not None
    buckets.clear()
    with pytest.raises(SizeLimitError, match=f"max_size_bytes admits .{size - 1}."):
        make_pipeline(threshold_bytes=threshold, max_size_bytes=size - 1).push(value, HERE)
    assert not any(buckets.values())


def test_a_stream_is_cut_off_where_it_becomes_too_large() -> None:
    """What has no size yet is refused as soon as it passes the limit, and leaves no object."""
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b"x" * 1_000_000

    with pytest.raises(SizeLimitError):
        make_pipeline(max_size_bytes=20_000_000).push(endless(), HERE)
    assert taken < 100
    assert not any(buckets.values())


def test_a_short_stream_is_not_too_short_to_be_refused() -> None:
    """Nor is one that is a single chunk, whose size is not known before its end either."""
    stream = (b"x" * 1000 for _ in range(101))
    with pytest.raises(SizeLimitError):
        make_pipeline(max_size_bytes=100_000).push(stream, HERE)
    assert not any(buckets.values())


@pytest.mark.parametrize("size", [10_000, 3_000_000], ids=["one_chunk", "chunks"])
def test_what_was_stored_is_moved_whatever_its_size(size: int) -> None:
    """The limit is for what tasks return: a migration does not meet it."""
    row = make_pipeline().push(b"x" * size, HERE)
    moved = make_pipeline(max_size_bytes=1000).rewrite(row, HERE)
    assert make_pipeline().pull(moved) == b"x" * size


def test_a_large_value_is_warned_of_with_its_parts(caplog: pytest.LogCaptureFixture) -> None:
    """Above warn_size_bytes, not at it; the push goes on."""
    caplog.set_level(logging.WARNING, logger="xcargo")
    assert is_envelope(make_pipeline(warn_size_bytes=2000).push(b"x" * 2000, HERE))
    assert caplog.text == ""
    assert is_envelope(make_pipeline(warn_size_bytes=2000).push({"a": b"x" * 2000, "b": 1}, HERE))
    assert "value['a'] (bytes, about 1.95 KiB)" in caplog.text
    assert "dag 'my_dag'" in caplog.text


@dataclass
class Job:
    frame: Any
    note: str


FRAME = pd.DataFrame({"wide": ["secret" * 100] * 1000, "narrow": range(1000)})


@pytest.mark.parametrize(
    ("value", "first"),
    [
        ({"model": {"weights": np.zeros(100_000), "name": "n"}, "b": "x" * 10}, "value['model']['weights'] (numpy"),
        ([b"a", b"b" * 5000, b"c" * 100], "value[1] (bytes, about 4.88 KiB), value[2] (bytes, about 100 B)"),
        ({"frame": FRAME, "x": 1}, "value['frame']['wide'] (pandas.Series"),
        (pl.DataFrame({"a": [1] * 10, "b": ["text" * 100] * 10}), "value['b'] (polars.Series"),
        (pa.table({"a": [1] * 10, "b": ["text" * 100] * 10}), "value['b'] (pyarrow.ChunkedArray"),
        (Job(FRAME, "note"), "value.frame['wide']"),
        (b"x" * 1_500_000, "value (bytes, about 1.43 MiB)"),
        ({("a", 1): "x" * 1000, 7: "y" * 500}, "value[<tuple>] (str, about 1000 B), value[7] (str, about 500 B)"),
        ([{"id": n, "text": "t" * 50} for n in range(50_000)], "value[0] (dict"),
        ([], "value (list, about 0 B)"),
        (None, "value (NoneType"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_the_biggest_parts_come_first_by_name_type_and_size(value: Any, first: str) -> None:
    """It descends where one part makes nearly all of it, and names at most three; never what they hold."""
    told = biggest_parts(value)
    assert told.startswith(first), told
    assert told.count("about") <= 3
    assert "secret" not in told


@dataclass
class Record:
    fields: dict[str, Any]

    def __getattr__(self, name: str) -> Any:
        return self.fields[name]


def test_a_class_whose_own_code_fails_is_named_all_the_same() -> None:
    """What is told of a value's size never takes the place of the push's own error, or of its success."""
    assert biggest_parts({"a": Record({}), "b": "x" * 1000}) == "value (dict)"


def test_telling_looks_at_a_bounded_part_of_a_nested_value() -> None:
    """A million lists of lists do not make the error late: items are sampled."""
    row = [["x" * 10] * 100] * 1000
    assert biggest_parts([row] * 50_000).startswith("value[0] (list, about 977 KiB)")


def test_parts_pass_through_the_mask() -> None:
    """A key of a dictionary may be a secret that Airflow knows."""
    with pytest.raises(SizeLimitError) as caught:
        make_pipeline(max_size_bytes=1000, mask=lambda text: text.replace("hunter2", "***")).push(
            {"hunter2": "x" * 5000}, HERE
        )
    assert "value['***']" in str(caught.value)
    assert "hunter2" not in str(caught.value)
