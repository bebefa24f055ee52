"""A table of ten gigabytes: pages and spreads within counted bytes and bounded memory.

Its file is sparse: what is zero takes no place on the disk, yet is read as any other bytes are.
"""

from __future__ import annotations

import io
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.unit.explorer.kit import REGISTRY
from xcargo.explorer.limits import BlockCache, Budget
from xcargo.explorer.value import StoredValue
from xcargo.model.envelope import Envelope

BATCHES, ROWS, COLUMNS = 150, 1_000_000, 9
NUMBERED = (0, BATCHES // 2, BATCHES - 1)
"""Batches whose rows are numbered; of the others everything is zero."""

ALL = list(range(COLUMNS + 1))


class CountedFile(io.FileIO):
    """A file that knows how many bytes were read of it."""

    taken = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size) or b""
        self.taken += len(data)
        return data


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Envelope]]:
    """The payload of a record batch reader, as the codec writes it."""
    path = tmp_path_factory.mktemp("large") / "table.arrow"
    names = ["id", *(f"f{n}" for n in range(COLUMNS))]
    schema = pa.schema([("id", pa.int64()), *((name, pa.float64()) for name in names[1:])])
    zeros = pa.array(np.zeros(ROWS))
    nothing = pa.array(np.zeros(ROWS, "int64"))

    def batches() -> Iterator[Any]:
        for n in range(BATCHES):
            ids = pa.array(np.arange(n * ROWS, (n + 1) * ROWS)) if n in NUMBERED else nothing
            yield pa.record_batch([ids, *[zeros] * COLUMNS], schema=schema)

    encoded = REGISTRY.encode(pa.RecordBatchReader.from_batches(schema, batches()))
    with path.open("wb") as file:
        for part in encoded.parts:
            data = memoryview(part).cast("B")
            if len(data) > 65536 and not any(data[-64:]):
                file.seek(len(data), io.SEEK_CUR)
            else:
                file.write(data)
        file.truncate()
    size = path.stat().st_size
    assert size > 10 * 1024**3
    params = {**encoded.params, "shape": [BATCHES * ROWS, COLUMNS + 1]}
    yield path, Envelope("pyarrow.RecordBatchReader", encoded.codec, size, size, params=params, uri="file:///x/y")
    path.unlink()


@contextmanager
def opened(stored: tuple[Path, Envelope], cache: BlockCache) -> Iterator[tuple[StoredValue, CountedFile]]:
    """One preview of it."""
    path, envelope = stored
    with CountedFile(path) as file:
        opener: Any = lambda: file  # noqa: E731 - a CountedFile stands for the buffered reader
        budget = Budget(max_bytes=64 << 20, seconds=120)
        yield StoredValue.from_envelope(envelope, opener, cache=cache, budget=budget), file


@pytest.mark.parametrize("batch", NUMBERED, ids=["first", "middle", "last"])
def test_a_page_of_ten_gigabytes_reads_its_rows(stored: tuple[Path, Envelope], batch: int) -> None:
    """Of each column on the screen a block or two; the envelope says which batch holds the rows. A spread samples."""
    start = batch * ROWS + ROWS // 2
    with opened(stored, BlockCache(64 << 20)) as (value, file):
        for begin in (start, start + 100):
            before = file.taken
            page = value.table().page(begin, 100, ALL)
            assert page["cells"][0] == [str(n) for n in range(begin, begin + 100)]
            assert file.taken - before < 2_000_000
        assert value.table().distribution(0)["sampled"] == 10_000
        assert file.taken < 8_000_000


def test_pages_all_over_it_keep_memory_bounded(stored: tuple[Path, Envelope]) -> None:
    """Three hundred pages by one cache: the process grows by what it may keep, and a little."""
    cache = BlockCache(8 << 20)
    rng = np.random.default_rng(1)
    with opened(stored, cache) as (value, _):
        value.table().page(0, 100, ALL)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for start in rng.integers(0, BATCHES * ROWS, 300):
        with opened(stored, cache) as (value, _):
            value.table().page(int(start), 100, ALL)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024
