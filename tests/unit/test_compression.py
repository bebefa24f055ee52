"""Compression by name."""

from __future__ import annotations

import os
import random
import zipfile
from contextlib import suppress
from io import BytesIO

import pytest

from benchmarks.memory import Peak
from xcargo.errors import ConfigurationError, DecodeError, IntegrityError, MissingDependencyError
from xcargo.transfer import compression

NAMES = sorted(compression.SUFFIXES)
ALGORITHMS = [name for name in NAMES if name != "none"]
TEXT = b"the same words again and again, " * 500


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("data", [b"", b"x", TEXT, os.urandom(10_000)], ids=["empty", "one", "text", "random"])
def test_what_is_compressed_comes_back(name: str, data: bytes) -> None:
    """Round trip of every algorithm, from bytes and from a memoryview, into new memory and into some that is there."""
    for source in (data, memoryview(data)):
        stored = compression.compress(name, source)
        assert bytes(compression.decompress(name, stored, len(data))) == data
        memory = bytearray(len(data) + 2)
        compression.decompress_into(name, stored, memoryview(memory)[1:-1])
        assert memory == b"\0" + data + b"\0"
        assert compression.decompress_by_suffix(f"a/b{compression.SUFFIXES[name]}", stored) == data


@pytest.mark.parametrize("name", ALGORITHMS)
def test_compression_compresses(name: str) -> None:
    """Every algorithm shrinks text, zip too."""
    assert len(compression.compress(name, TEXT)) < len(TEXT) / 5


def test_a_bomb_stops_at_the_size_that_the_envelope_gives() -> None:
    """A payload larger than announced is refused, not expanded: by a byte, or by 60 MB, which are never in memory."""
    bombs = {name: [compression.compress(name, bytes(size)) for size in (1001, 60_000_000)] for name in ALGORITHMS}
    peak = Peak()
    for name, stored in bombs.items():
        for bomb in stored:
            with pytest.raises(IntegrityError):
                compression.decompress(name, bomb, 1000)
            with pytest.raises(IntegrityError):
                compression.decompress_into(name, bomb, memoryview(bytearray(1000)))
        assert peak.extra_bytes() < 20_000_000, name


def test_a_bomb_takes_no_more_memory_than_its_envelope_claims() -> None:
    """Nor does an honest payload: it is decompressed into the memory where it belongs."""
    size = 30_000_000
    stored = {name: compression.compress(name, bytes(size)) for name in ALGORITHMS}
    peak = Peak()
    for name, bomb in stored.items():
        for claimed in (size, size - 1):
            with suppress(IntegrityError):
                compression.decompress(name, bomb, claimed)
            assert peak.extra_bytes() < 1.5 * size, name


def test_a_size_that_the_data_does_not_have_is_refused_at_no_cost() -> None:
    """An envelope that claims a terabyte, or one byte more than there is."""
    peak = Peak()
    for name in NAMES:
        stored = compression.compress(name, TEXT)
        for claimed in (len(TEXT) + 1, 2**40, 2**60):
            with pytest.raises((IntegrityError, DecodeError)):
                compression.decompress(name, stored, claimed)
        assert peak.extra_bytes() < 20_000_000, name


def test_bytes_that_are_not_compressed_have_their_size() -> None:
    """It is seen before any memory is taken for what an envelope claims."""
    for claimed in (4, 6, 2**60):
        with pytest.raises(IntegrityError, match="it has 5"):
            compression.decompress("none", b"bytes", claimed)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("damage", ["cut", "flip", "garbage"])
def test_damaged_data_is_an_integrity_error_or_a_wrong_size(name: str, damage: str) -> None:
    """No library's own error escapes, and no silently short payload."""
    data = os.urandom(5000) + TEXT
    stored = bytearray(compression.compress(name, data))
    if damage == "cut":
        stored = stored[: len(stored) // 2]
    elif damage == "flip":
        stored[len(stored) // 2] ^= 0xFF
    else:
        stored = bytearray(b"garbage!" * 10)
    try:
        back = compression.decompress(name, bytes(stored), len(data))
    except IntegrityError:
        return
    assert damage == "flip"  # a flip that keeps the format whole is the checksum's business
    assert len(back) == len(data)


@pytest.mark.parametrize(
    ("alias", "name"), [("gz", "gzip"), ("bzip2", "bz2"), ("LZMA", "xz"), (".zst", "zstd"), ("", "none")]
)
def test_other_spellings_are_known(alias: str, name: str) -> None:
    """The Common IO provider's names mean the same here."""
    assert compression.canonical(alias) == name


def test_an_unknown_name_is_refused() -> None:
    """A typo in a setting with the names that could be meant; a name in an envelope with the advice to upgrade."""
    with pytest.raises(ConfigurationError, match="zstd"):
        compression.canonical("zstdd")
    with pytest.raises(MissingDependencyError, match="upgrade"):
        compression.decompress("brotli", b"", 0)


def test_zip_is_an_archive_that_deflates() -> None:
    """Other tools open it."""
    with zipfile.ZipFile(BytesIO(bytes(compression.compress("zip", TEXT)))) as archive:
        assert archive.infolist()[0].compress_type == zipfile.ZIP_DEFLATED


@pytest.mark.parametrize(("noise_share", "worthwhile"), [(0, True), (0.77, True), (0.83, False), (1, False)])
def test_a_payload_is_compressed_if_a_sample_shrinks_by_a_fifth(noise_share: float, worthwhile: bool) -> None:
    """Three quarters of noise are compressed, five sixths of it are stored as they are."""
    noise = random.Random(1).randbytes(round(1000 * noise_share))
    blocks = [random.Random(n).randbytes(len(noise)) + bytes(1000 - len(noise)) for n in range(300)]
    assert compression.is_compressible("zstd", b"".join(blocks)) is worthwhile


def test_small_data_is_tried_and_tiny_data_is_not() -> None:
    """Compressing 256 KiB is as cheap as a sample of it; below 128 bytes nothing is gained."""
    assert compression.is_compressible("zstd", os.urandom(256 * 1024))
    assert compression.compress_if_smaller("zstd", os.urandom(256 * 1024)) is None
    assert not compression.is_compressible("zstd", b"x" * 127)
    assert not compression.is_compressible("none", TEXT)


def test_a_frame_that_claims_more_than_there_is_memory_for_is_a_decode_error() -> None:
    """Frame and envelope agree, and nothing but the allocation can find out."""
    frame = b"\x28\xb5\x2f\xfd\xe0" + (2**50).to_bytes(8, "little") + b"\x01\0\0"
    with pytest.raises(DecodeError, match="There is no memory for"):
        compression.decompress("zstd", frame, 2**50)
