"""Chunks: split_chunks, sealed, listed in a table and read back, against what a plain bytes object would give."""

from __future__ import annotations

import base64
import os
import threading
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xcargo.codecs.source import read_all
from xcargo.errors import EnvelopeError, IntegrityError, ObjectNotFoundError
from xcargo.stores.base import Limits
from xcargo.transfer import chunks
from xcargo.transfer import object_source as reader
from xcargo.transfer.chunks import ChunkEncoder, Chunks, NotReplayableError, split_chunks
from xcargo.transfer.object_source import ObjectSource

SMALL = 64
"""Chunk size of these tests."""


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_BYTES", SMALL)
    monkeypatch.setattr(chunks, "_MAX_CHUNK_BYTES", 4 * SMALL)
    monkeypatch.setattr(chunks, "_GROWS_AFTER", 4)
    monkeypatch.setattr(reader, "_RUN_BYTES", SMALL)


PIECES = st.lists(
    st.one_of(st.binary(max_size=200), st.binary(min_size=1, max_size=4).map(lambda b: b * 120)), max_size=30
)


def sealed(pieces: list[bytes], compression: str = "zstd") -> tuple[Chunks, bytes]:
    encoder = ChunkEncoder(split_chunks(pieces), compression)
    stored = b"".join(encoder)
    return encoder.table, stored


class Bytes:
    """Stored bytes that count what is asked of them."""

    def __init__(self, stored: bytes) -> None:
        self.stored = stored
        self.asked: list[int] = []

    def get(self, start: int, end: int) -> bytes:
        self.asked.append(end - start)
        return self.stored[start:end]

    def get_into(self, start: int, view: memoryview) -> int:
        data = self.get(start, start + len(view))
        view[: len(data)] = data
        return len(data)

    def source(self, table: Chunks, compression: str = "zstd", part_bytes: int = 100) -> ObjectSource:
        limits = Limits(part_bytes=part_bytes, max_concurrency=3)
        return ObjectSource(self.get, self.get_into, table, compression, limits, "memory://x")


@given(PIECES)
def test_cutting_changes_no_byte_and_makes_no_empty_chunk(pieces: list[bytes]) -> None:
    """The chunks are the pieces, of the sizes that follow from their number, but for the last."""
    made = [bytes(chunk) for chunk in split_chunks(pieces)]
    assert b"".join(made) == b"".join(pieces)
    sizes = [min(SMALL << n // 4, 4 * SMALL) for n in range(len(made))]
    assert [len(chunk) for chunk in made[:-1]] == sizes[:-1]
    assert all(0 < len(chunk) <= size for chunk, size in zip(made[-1:], sizes[-1:], strict=True))


@given(PIECES.filter(any), st.sampled_from(["none", "zstd", "gzip"]), st.data())
def test_a_sealed_payload_reads_like_bytes_in_every_way(pieces: list[bytes], compression: str, data: Any) -> None:
    """As a whole, in pieces, and in any part, also past its ends; the table survives JSON."""
    payload = b"".join(pieces)
    table, stored = sealed(pieces, compression)
    again = Chunks.from_json(table.to_json(), table.checksum(), len(payload), len(stored))
    assert again == table
    source = Bytes(stored).source(again, compression)
    assert source.size_bytes == len(payload)
    assert bytes(read_all(source)) == payload
    assert b"".join(map(bytes, source.iter_chunks())) == payload
    for _ in range(5):
        start, end = data.draw(st.integers(0, len(payload) + 9)), data.draw(st.integers(0, len(payload) + 9))
        assert bytes(source.read(start, end)) == payload[start:end]


@given(PIECES.filter(any), st.data())
def test_one_altered_byte_fails_every_read_that_covers_it_and_no_other(pieces: list[bytes], data: Any) -> None:
    """Each chunk stands for itself: what lies in others can still be read."""
    payload = b"".join(pieces)
    table, stored = sealed(pieces)
    at = data.draw(st.integers(0, len(stored) - 1))
    broken = stored[:at] + bytes([stored[at] ^ 1]) + stored[at + 1 :]
    hit = next(n for n in range(len(table)) if table.offsets[n] <= at < table.offsets[n + 1])
    source = Bytes(broken).source(table)
    for read in (
        lambda: read_all(source),
        lambda: list(source.iter_chunks()),
        lambda: source.read(table.starts[hit], 10**6),
    ):
        with pytest.raises(IntegrityError, match="memory://x"):
            read()
    assert bytes(source.read(0, table.starts[hit])) == payload[: table.starts[hit]]


@given(PIECES.filter(any), st.data())
def test_an_object_cut_short_is_told_with_both_lengths(pieces: list[bytes], data: Any) -> None:
    """Whichever way it is read."""
    table, stored = sealed(pieces)
    source = Bytes(stored[: data.draw(st.integers(0, len(stored) - 1))]).source(table)
    for read in (
        lambda: read_all(source),
        lambda: list(source.iter_chunks()),
        lambda: source.read(0, source.size_bytes),
    ):
        with pytest.raises(IntegrityError, match=f"{len(stored)} were stored"):
            read()


def test_chunks_moved_about_are_found() -> None:
    """Two chunks of one size, exchanged in the object, are not taken for one another."""
    table, stored = sealed([os.urandom(2 * SMALL)])
    with pytest.raises(IntegrityError):
        read_all(Bytes(stored[SMALL:] + stored[:SMALL]).source(table))


def test_the_table_of_a_huge_payload_stays_small() -> None:
    """Chunks grow: equal ones cost a run and a digest each."""
    table, _ = sealed([os.urandom(10_000)])
    left = 10_000 - 4 * 64 - 4 * 128
    assert table.to_json()["payload"] == [[64, 4], [128, 4], [256, left // 256], [left % 256, 1]]
    assert "stored" not in table.to_json()


GOOD = Chunks((64, 64, 3), (64, 20, 3), b"d" * 48)


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
)
def test_a_table_that_nobody_wrote_is_refused_before_it_costs_anything(change: dict[str, Any]) -> None:
    """EnvelopeError, in little memory, for sizes, counts and digests that cannot be or do not fit the checksum."""
    good = GOOD.to_json()
    assert Chunks.from_json(good, GOOD.checksum(), 131, 87) == GOOD
    tracemalloc.start()
    try:
        with pytest.raises(EnvelopeError):
            Chunks.from_json({**good, **change}, GOOD.checksum(), 131, 87)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@given(st.recursive(st.none() | st.integers() | st.floats() | st.text(max_size=5), lambda x: st.lists(x, max_size=4)))
def test_any_json_for_a_table_is_an_envelope_error(junk: Any) -> None:
    """No other error leaves from_json."""
    for table in ({"payload": junk, "digests": ""}, {**GOOD.to_json(), "stored": junk or [1]}, {"payload": [junk]}):
        with pytest.raises(EnvelopeError):
            Chunks.from_json(table, "x", 1, 1)


def test_sizes_in_the_envelope_must_be_those_of_the_table() -> None:
    """A size that an envelope only claims is not allocated."""
    for sizes in ((132, 87), (131, 88), (2**60, 87)):
        with pytest.raises(EnvelopeError):
            Chunks.from_json(GOOD.to_json(), GOOD.checksum(), *sizes)


def test_chunks_made_as_they_go_are_sealed_once() -> None:
    """A second attempt to store what a generator gave raises instead of storing less; a list may be stored again."""
    encoder = ChunkEncoder(iter([b"a", b"b"]), "none")
    assert next(iter(encoder)) == b"a"
    with pytest.raises(NotReplayableError):
        next(iter(encoder))
    again = ChunkEncoder([b"a", b"b"], "none")
    assert list(again) == list(again) == [b"a", b"b"]
    assert len(again.table) == 2


def test_sealing_runs_ahead_by_a_few_chunks_only() -> None:
    """What is held does not depend on how many chunks there are."""
    made = 0

    def endless() -> Iterator[bytes]:
        nonlocal made
        while True:
            made += 1
            yield bytes(SMALL)

    taking = iter(ChunkEncoder(endless(), "zstd"))
    for n in range(1, 100):
        next(taking)
        assert made - n <= 2 * chunks.WORKERS + 1
    taking.close()  # type: ignore[attr-defined]
    assert not [t for t in threading.enumerate() if t.name.startswith("xcargo-seal")]


def test_small_reads_of_one_place_cost_one_request() -> None:
    """A chunk that was fetched is found again; a read over two chunks fetches only the one that is not there."""
    payload = os.urandom(20 * SMALL)
    table, stored = sealed([payload], "none")
    behind = Bytes(stored)
    source = behind.source(table)
    for start in range(SMALL):
        source.read(start, start + 1)
    assert behind.asked == [SMALL]
    assert source.read(SMALL - 1, SMALL + 1) == payload[SMALL - 1 : SMALL + 1]
    assert source.read(SMALL, SMALL + 2) == payload[SMALL : SMALL + 2]
    assert behind.asked == [SMALL, SMALL]


def test_pieces_of_what_compresses_well_stay_small() -> None:
    """A request may stand for any amount of payload: pieces are bounded by that, not by what was stored."""
    table, stored = sealed([bytes(50_000)])
    source = Bytes(stored).source(table, part_bytes=1000)
    assert max(len(piece) for piece in source.iter_chunks()) <= 1000


def test_pieces_that_nobody_takes_are_not_fetched() -> None:
    """Leaving the iteration early ends it, its threads included."""
    table, stored = sealed([os.urandom(50_000)], "none")
    behind = Bytes(stored)
    pieces: Any = behind.source(table).iter_chunks()
    next(pieces)
    pieces.close()
    assert len(behind.asked) <= 8
    assert not [t for t in threading.enumerate() if t.name.startswith("xcargo-read")]


def test_many_threads_read_one_source() -> None:
    """Reads of one handle do not mix."""
    payload = os.urandom(200 * SMALL)
    table, stored = sealed([payload])
    source = Bytes(stored).source(table)

    def work(n: int) -> bool:
        return all(bytes(source.read(a, a + 90)) == payload[a : a + 90] for a in range(n, len(payload), 997))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(40)))


def test_an_error_of_the_store_keeps_its_kind_and_names_the_object() -> None:
    """One failed request of many ends the read."""
    table, _ = sealed([os.urandom(5000)], "none")

    def gone(*_: Any) -> Any:
        raise ObjectNotFoundError("gone")

    source = ObjectSource(gone, gone, table, "none", Limits(part_bytes=100, max_concurrency=3), "s3://b/k")
    for read in (lambda: read_all(source), lambda: list(source.iter_chunks()), lambda: source.read(3, 4)):
        with pytest.raises(ObjectNotFoundError, match="s3://b/k"):
            read()
