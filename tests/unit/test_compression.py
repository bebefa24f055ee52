"""Compression by name."""

from __future__ import annotations

import os
import zipfile
from io import BytesIO

import pytest

from xcargo.errors import ConfigurationError, IntegrityError
from xcargo.transfer import compression

NAMES = sorted(compression.ALGORITHMS)
TEXT = b"the same words again and again, " * 500


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("data", [b"", b"x", TEXT, os.urandom(10_000)], ids=["empty", "one", "text", "random"])
def test_what_is_compressed_comes_back(name: str, data: bytes) -> None:
    """Round trip of every algorithm, from bytes and from a memoryview."""
    for given in (data, memoryview(data)):
        stored = compression.compress(name, given)
        assert bytes(compression.decompress(name, stored, len(data))) == data


@pytest.mark.parametrize("name", [name for name in NAMES if name != "none"])
def test_compression_compresses(name: str) -> None:
    """Every algorithm shrinks text, zip too."""
    assert len(compression.compress(name, TEXT)) < len(TEXT) / 5


@pytest.mark.parametrize("name", [name for name in NAMES if name != "none"])
def test_a_bomb_stops_at_the_size_that_the_envelope_gives(name: str) -> None:
    """A payload larger than announced is refused, not expanded."""
    bomb = compression.compress(name, b"\0" * 5_000_000)
    with pytest.raises(IntegrityError):
        compression.decompress(name, bomb, 1000)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("damage", ["split_chunks", "flip", "garbage"])
def test_damaged_data_is_an_integrity_error_or_a_wrong_size(name: str, damage: str) -> None:
    """No library's own error escapes, and no silently short payload."""
    data = os.urandom(5000) + TEXT
    stored = bytearray(compression.compress(name, data))
    if damage == "split_chunks":
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
    ("given", "meant"), [("gz", "gzip"), ("bzip2", "bz2"), ("LZMA", "xz"), (".zst", "zstd"), ("", "none")]
)
def test_other_spellings_are_known(given: str, meant: str) -> None:
    """The Common IO provider's names mean the same here."""
    assert compression.canonical(given) == meant


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    """A typo tells what could be meant."""
    with pytest.raises(ConfigurationError, match="zstd"):
        compression.canonical("zstdd")


def test_zip_is_an_archive_that_deflates() -> None:
    """Other tools open it."""
    with zipfile.ZipFile(BytesIO(bytes(compression.compress("zip", TEXT)))) as archive:
        assert archive.infolist()[0].compress_type == zipfile.ZIP_DEFLATED


def test_what_does_not_shrink_is_not_compressed() -> None:
    """A sample of incompressible data says so; text and small data are tried."""
    assert not compression.is_compressible("zstd", os.urandom(1_000_000))
    assert compression.is_compressible("zstd", TEXT * 100)
    assert not compression.is_compressible("zstd", b"tiny")
    assert not compression.is_compressible("none", TEXT)
