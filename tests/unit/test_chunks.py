"""Chunks: split, encoded, listed in a table and read back, against what a plain bytes object would give."""

from __future__ import annotations

import base64
import os
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xcargo.codecs.source import Source, read_all
from xcargo.errors import EnvelopeError, IntegrityError, ObjectNotFoundError
from xcargo.stores.base import Limits
from xcargo.testing import StoredBytes
from xcargo.transfer import chunks, reader
from xcargo.transfer.chunks import ChunkDecoder, ChunkEncoder, ChunkTable, NotReplayableError, split_chunks
from xcargo.transfer.encryption import ChunkContext
from xcargo.transfer.reader import ObjectSource

SMALL = 64
"""Chunk size of these tests."""


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_BYTES", SMALL)
    monkeypatch.setattr(chunks, "MAX_CHUNK_BYTES", 4 * SMALL)
    monkeypatch.setattr(chunks, "GROWTH_CHUNKS", 4)
    monkeypatch.setattr(reader, "RANGE_BYTES", SMALL)


PARTS = st.lists(
    st.one_of(st.binary(max_size=200), st.binary(min_size=1, max_size=4).map(lambda b: b * 120)), max_size=30
)
READS: list[Callable[[Source], Any]] = [
    read_all,
    lambda source: b"".join(source.iter_chunks()),
    lambda source: source.read(0, source.size_bytes),
]


def encode(parts: list[bytes], compression: str = "zstd") -> tuple[ChunkTable, bytes]:
    encoder = ChunkEncoder(split_chunks(parts), compression)
    stored = b"".join(encoder)
    return encoder.table, stored


def source_of(
    stored: bytes | StoredBytes, table: ChunkTable, compression: str = "zstd", part_bytes: int = 100
) -> ObjectSource:
    reader = StoredBytes(stored) if isinstance(stored, bytes) else stored
    return ObjectSource(
        reader, ChunkDecoder(table, compression), limits=Limits(part_bytes=part_bytes, max_concurrency=3)
    )


@given(PARTS)
def test_splitting_changes_no_byte_and_makes_no_empty_chunk(parts: list[bytes]) -> None:
    """The chunks are the payload, of the sizes that follow from their number, but for the last."""
    split = [bytes(chunk) for chunk in split_chunks(parts)]
    assert b"".join(split) == b"".join(parts)
    sizes = [min(SMALL << n // 4, 4 * SMALL) for n in range(len(split))]
    assert [len(chunk) for chunk in split[:-1]] == sizes[:-1]
    assert all(0 < len(chunk) <= size for chunk, size in zip(split[-1:], sizes[-1:], strict=True))


@given(PARTS.filter(any), st.sampled_from(["none", "zstd", "gzip"]), st.data())
def test_a_stored_payload_reads_like_bytes_in_every_way(parts: list[bytes], compression: str, data: Any) -> None:
    """As a whole, in order, and in any part, also past its ends; the table survives JSON."""
    payload = b"".join(parts)
    table, stored = encode(parts, compression)
    again = ChunkTable.from_json(
        table.to_json(), checksum=table.checksum(), size_bytes=len(payload), stored_bytes=len(stored)
    )
    assert again == table
    source = source_of(stored, again, compression)
    assert source.size_bytes == len(payload)
    for read in READS:
        assert bytes(read(source)) == payload
    for _ in range(5):
        start, end = data.draw(st.integers(0, len(payload) + 9)), data.draw(st.integers(0, len(payload) + 9))
        assert bytes(source.read(start, end)) == payload[start:end]


@given(PARTS.filter(any), st.data())
def test_one_altered_byte_fails_every_read_that_covers_it_and_no_other(parts: list[bytes], data: Any) -> None:
    """Each chunk stands for itself: the others can still be read."""
    payload = b"".join(parts)
    table, stored = encode(parts)
    at = data.draw(st.integers(0, len(stored) - 1))
    source = source_of(stored[:at] + bytes([stored[at] ^ 1]) + stored[at + 1 :], table)
    start = next(table.starts[n] for n in range(len(table)) if table.offsets[n] <= at < table.offsets[n + 1])
    for read in (*READS, lambda source: source.read(start, 10**6)):
        with pytest.raises(IntegrityError, match="memory://x"):
            read(source)
    assert bytes(source.read(0, start)) == payload[:start]


@given(PARTS.filter(any), st.data())
def test_a_truncated_object_is_reported_with_both_lengths(parts: list[bytes], data: Any) -> None:
    """Whichever way it is read."""
    table, stored = encode(parts)
    source = source_of(stored[: data.draw(st.integers(0, len(stored) - 1))], table)
    for read in READS:
        with pytest.raises(IntegrityError, match=f"{len(stored)} were stored"):
            read(source)


def test_the_table_of_a_huge_payload_stays_small() -> None:
    """Chunks grow: equal ones cost one pair of numbers, and a digest each."""
    table, _ = encode([os.urandom(10_000)])
    rest = 10_000 - 4 * 64 - 4 * 128
    assert table.to_json()["payload"] == [[64, 4], [128, 4], [256, rest // 256], [rest % 256, 1]]
    assert "stored" not in table.to_json()


GOOD = ChunkTable((64, 64, 3), (64, 20, 3), b"d" * 48)


def reread(table: Any, size_bytes: int = 131, stored_bytes: int = 87) -> ChunkTable:
    return ChunkTable.from_json(table, checksum=GOOD.checksum(), size_bytes=size_bytes, stored_bytes=stored_bytes)


@pytest.mark.parametrize(
    "change",
    [
        {"payload": []},
        {"payload": None},
        {"payload": [[64]]},
        {"payload": [[64, -1], [64, 4]]},
        {"payload": [[64, 10**12], [64, 3 - 10**12]]},
        {"payload": [[64, 1.0], [64, 2]]},
        {"payload": [[64, True], [64, True], [3, True]]},
        {"payload": [[0, 3]]},
        {"payload": [[2**60, 3]]},
        {"payload": [["64", 3]]},
        {"payload": [[64, 10**12]]},
        {"payload": {"64": 3}},
        {"stored": [64, 20]},
        {"stored": [64, 200, 3]},
        {"stored": [64, -20, 3]},
        {"stored": "abc"},
        {"stored": [64, 21, 3]},
        {"digests": "!"},
        {"digests": None},
        {"digests": base64.b64encode(b"d" * 47).decode()},
        {"digests": base64.b64encode(b"e" * 48).decode()},
    ],
    ids=str,
)
def test_a_forged_table_is_refused_before_it_costs_anything(change: dict[str, Any]) -> None:
    """EnvelopeError, in little memory, for sizes, counts and digests that cannot be or do not fit the checksum."""
    assert reread(GOOD.to_json()) == GOOD
    tracemalloc.start()
    try:
        with pytest.raises(EnvelopeError):
            reread({**GOOD.to_json(), **change})
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@given(st.recursive(st.none() | st.integers() | st.floats() | st.text(max_size=5), lambda x: st.lists(x, max_size=4)))
def test_any_json_for_a_table_is_an_envelope_error(junk: Any) -> None:
    """No other error leaves from_json."""
    for table in ({"payload": junk, "digests": ""}, {**GOOD.to_json(), "stored": junk or [1]}, {"payload": [junk]}):
        with pytest.raises(EnvelopeError):
            reread(table)


@pytest.mark.parametrize("sizes", [(132, 87), (131, 88), (2**60, 87)])
def test_sizes_in_the_envelope_must_be_those_of_the_table(sizes: tuple[int, int]) -> None:
    """A size that an envelope only claims is not allocated."""
    with pytest.raises(EnvelopeError):
        reread(GOOD.to_json(), *sizes)


def test_chunks_that_are_produced_once_are_encoded_once() -> None:
    """A second attempt to store what a generator gave raises instead of storing less; a list may be stored again."""
    encoder = ChunkEncoder(iter([b"a", b"b"]), "none")
    assert next(iter(encoder)) == b"a"
    with pytest.raises(NotReplayableError):
        next(iter(encoder))
    again = ChunkEncoder([b"a", b"b"], "none")
    assert list(again) == list(again) == [b"a", b"b"]
    assert len(again.table) == 2


def test_encoding_runs_ahead_by_a_few_chunks_only() -> None:
    """What is held does not depend on how many chunks there are; leaving early ends the threads."""
    produced = 0

    def endless() -> Iterator[bytes]:
        nonlocal produced
        while True:
            produced += 1
            yield bytes(SMALL)

    encoded: Any = iter(ChunkEncoder(endless(), "zstd"))
    for n in range(1, 100):
        next(encoded)
        assert produced - n <= 2 * chunks.WORKERS + 1
    encoded.close()
    assert not threads("xcargo-encode")


def test_an_encoder_may_be_collected_in_one_of_its_own_threads() -> None:
    """As what is left of a failed put may be: that thread does not wait for itself."""
    encoded: Any = None
    left = threading.Event()

    class Leaving:
        """A cipher whose last call leaves the iteration."""

        context = ChunkContext

        def encrypt(self, chunk: bytes, context: ChunkContext) -> bytes:
            if context.last:
                left.wait(30)
                encoded.close()
                left.clear()
            return chunk

    parts = [bytes(SMALL)] * (chunks.WORKERS + 1)
    encoded = iter(ChunkEncoder(parts, "none", new_cipher=lambda: Leaving()))  # type: ignore[arg-type, return-value]
    next(encoded)
    left.set()
    deadline = time.monotonic() + 30
    while threads("xcargo-encode") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left.is_set()


def threads(prefix: str) -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(prefix)]


def test_neighbouring_small_reads_cost_one_request() -> None:
    """A chunk that was fetched is found again; a read over two chunks fetches only the one that is not there."""
    payload = os.urandom(20 * SMALL)
    table, stored = encode([payload], "none")
    reader = StoredBytes(stored)
    source = source_of(reader, table, "none")
    for start in range(SMALL):
        source.read(start, start + 1)
    assert reader.requests == [SMALL]
    assert source.read(SMALL - 1, SMALL + 1) == payload[SMALL - 1 : SMALL + 1]
    assert source.read(SMALL, SMALL + 2) == payload[SMALL : SMALL + 2]
    assert reader.requests == [SMALL, SMALL]


def test_iteration_over_what_compresses_well_is_bounded_by_payload() -> None:
    """A request may stand for any amount of payload: what is read ahead is bounded by that, not by what was stored."""
    table, stored = encode([bytes(50_000)])
    assert max(len(part) for part in source_of(stored, table, part_bytes=1000).iter_chunks()) <= 1000


def test_an_iteration_that_ends_early_fetches_no_more() -> None:
    """And leaves no thread behind."""
    table, stored = encode([os.urandom(50_000)], "none")
    reader = StoredBytes(stored)
    parts: Any = source_of(reader, table).iter_chunks()
    next(parts)
    parts.close()
    assert len(reader.requests) <= 8
    assert not threads("xcargo-read")


def test_many_threads_read_one_source() -> None:
    """Their reads do not mix."""
    payload = os.urandom(200 * SMALL)
    table, stored = encode([payload])
    source = source_of(stored, table)

    def work(n: int) -> bool:
        return all(bytes(source.read(a, a + 90)) == payload[a : a + 90] for a in range(n, len(payload), 997))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(40)))


@pytest.mark.parametrize("read", READS)
def test_an_error_of_the_store_keeps_its_kind_and_names_the_object(read: Callable[[Source], Any]) -> None:
    """One failed request of many ends the read."""

    class Gone(StoredBytes):
        def get(self, start: int, end: int) -> bytes:
            raise ObjectNotFoundError("gone")

    table, stored = encode([os.urandom(5000)], "none")
    with pytest.raises(ObjectNotFoundError, match="memory://x"):
        read(source_of(Gone(stored), table, "none"))
