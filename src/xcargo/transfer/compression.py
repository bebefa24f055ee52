"""Compression: name -> compress / decompress of whole payloads.

A name says how bytes lie on an object for ever; names are append-only and an object is always read by the name in its
envelope, never by the current setting. Decompression is bounded: it yields exactly the size that the envelope gives or
raises, so a small hostile object cannot fill memory.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from xcargo.errors import ConfigurationError, IntegrityError, MissingDependencyError, XCargoError
from xcargo.types import Buffer

__all__ = [
    "ALGORITHMS",
    "SUFFIXES",
    "canonical",
    "compress",
    "compress_if_smaller",
    "decompress",
    "decompress_into",
    "is_compressible",
    "require",
]


_ALIASES = {
    "": "none",
    "gz": "gzip",
    "bzip2": "bz2",
    "lzma": "xz",
    "zst": "zstd",
    "zstandard": "zstd",
    "uncompressed": "none",
    "deflate": "zip",
}

_of_thread = threading.local()
"""Compressors are made once, but must not be shared by threads."""

_SAMPLE_BYTES = 64 * 1024
_MIN_BYTES = 128
_WORTH = 0.8
"""What a sample may be of its size after it was compressed. Beyond that, time is better spent on sending the bytes."""


@dataclass(frozen=True)
class _Algorithm:
    suffix: str
    compress: Callable[[Buffer], Buffer]
    decompress: Callable[[Buffer, int], Buffer]


def canonical(name: str) -> str:
    """The algorithm that a name or one of its other spellings means. Raises ConfigurationError for an unknown one."""
    cleaned = name.strip().lower().lstrip(".")
    cleaned = _ALIASES.get(cleaned, cleaned)
    if cleaned not in ALGORITHMS:
        raise ConfigurationError(
            f"Unknown compression {name!r}",
            hint=f"Known are: {', '.join(sorted(ALGORITHMS))} (also gz, bzip2, lzma, zst).",
        )
    return cleaned


def require(name: str) -> None:
    """Raise MissingDependencyError now, at first use, if the algorithm's library is not installed."""
    ALGORITHMS[name].compress(b"")


def compress(name: str, data: Buffer) -> Buffer:
    """Compress with a canonical algorithm. One copy of the compressed size."""
    return ALGORITHMS[name].compress(data)


def compress_if_smaller(name: str, data: Buffer) -> Buffer | None:
    """The data compressed, if a sample says that it pays and it does get shorter; else None."""
    if not is_compressible(name, data):
        return None
    shorter = compress(name, data)
    return shorter if len(shorter) < len(data) else None


def is_compressible(name: str, data: Buffer) -> bool:
    """Whether a sample (start, middle and end; 64 KiB at most) shrinks by a fifth or more."""
    if name == "none" or len(data) < _MIN_BYTES:
        return False
    if len(data) <= 4 * _SAMPLE_BYTES:
        return True  # compressing it is as cheap as finding out
    view, third = memoryview(data), _SAMPLE_BYTES // 3
    middle = len(view) // 2
    sample = b"".join((view[:third], view[middle : middle + third], view[-third:]))
    return len(ALGORITHMS["zstd"].compress(sample)) < _WORTH * len(sample)


def decompress(name: str, data: Buffer, size_bytes: int) -> Buffer:
    """Undo :func:`compress`. Allocates ``size_bytes`` and little more.

    Raises IntegrityError when the data is damaged or does not yield exactly ``size_bytes``.
    """
    algorithm = ALGORITHMS.get(name)
    if algorithm is None:
        raise MissingDependencyError(
            f"The object is compressed with {name!r}, which this version does not know",
            hint="Run: pip install --upgrade airflow-provider-xcargo",
        )
    try:
        payload = algorithm.decompress(data, size_bytes)
    except XCargoError:
        raise
    except Exception as error:  # each library has errors of its own
        raise IntegrityError(f"The object is not valid {name} data: {type(error).__name__}: {error}") from error
    if len(payload) != size_bytes:
        raise IntegrityError(f"The object should decompress to {size_bytes} bytes and does not")
    return payload


def decompress_into(name: str, data: Buffer, view: memoryview) -> None:
    """Undo :func:`compress` into ``view``, which the payload fills exactly, or raise IntegrityError."""
    if name != "zstd":
        view[:] = decompress(name, data, len(view))
        return
    import zstandard

    try:
        with zstandard.ZstdDecompressor().stream_reader(data) as stream:
            filled = 0
            while filled < len(view) and (read := stream.readinto(view[filled:])):
                filled += read
            whole = filled == len(view) and not stream.read(1)
    except zstandard.ZstdError as error:
        raise IntegrityError(f"The object is not valid zstd data: {error}") from error
    if not whole:
        raise IntegrityError(f"A part of the object should decompress to {len(view)} bytes and does not")


def _zstd_compress(data: Buffer) -> Buffer:
    try:
        compressor = _of_thread.zstd
    except AttributeError:
        import zstandard

        # Level 1 compresses up to four times faster than level 3, to nearly the same size (design note on compression).
        compressor = _of_thread.zstd = zstandard.ZstdCompressor(level=1)
    return compressor.compress(data)  # type: ignore[no-any-return]


def _zstd_decompress(data: Buffer, size_bytes: int) -> Buffer:
    import zstandard

    declared = zstandard.frame_content_size(data)
    if declared != size_bytes:  # it is always declared; without it the envelope's claim would be allocated
        raise IntegrityError(f"The object holds {declared} bytes of payload, its envelope says {size_bytes}")
    return _zstd_decompressor().decompress(data, max_output_size=size_bytes)  # type: ignore[no-any-return]


def _zstd_decompressor() -> Any:
    """This thread's: a new one takes memory of its own, which costs more than a small object."""
    try:
        return _of_thread.unzstd
    except AttributeError:
        import zstandard

        _of_thread.unzstd = zstandard.ZstdDecompressor()
        return _of_thread.unzstd


def _lz4_compress(data: Buffer) -> Buffer:
    return _library("lz4.frame", "lz4").compress(data)  # type: ignore[no-any-return]


def _lz4_decompress(data: Buffer, size_bytes: int) -> Buffer:
    frame = _library("lz4.frame", "lz4")
    return frame.LZ4FrameDecompressor().decompress(data, max_length=size_bytes + 1)  # type: ignore[no-any-return]


def _snappy_compress(data: Buffer) -> Buffer:
    return memoryview(_library("cramjam", "snappy").snappy.compress(data)).cast("B")


def _snappy_decompress(data: Buffer, _: int) -> Buffer:
    # Not bounded by the envelope, but by the format: it packs no more than about twenty times its length.
    return memoryview(_library("cramjam", "snappy").snappy.decompress(data)).cast("B")


def _gzip_compress(data: Buffer) -> Buffer:
    import gzip

    return gzip.compress(data, compresslevel=6, mtime=0)


def _gzip_decompress(data: Buffer, size_bytes: int) -> Buffer:
    import gzip

    with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
        return stream.read(size_bytes + 1)


def _bz2_compress(data: Buffer) -> Buffer:
    import bz2

    return bz2.compress(data)


def _bz2_decompress(data: Buffer, size_bytes: int) -> Buffer:
    import bz2

    with bz2.BZ2File(io.BytesIO(data)) as stream:
        return stream.read(size_bytes + 1)


def _xz_compress(data: Buffer) -> Buffer:
    import lzma

    return lzma.compress(data, preset=1)


def _xz_decompress(data: Buffer, size_bytes: int) -> Buffer:
    import lzma

    with lzma.LZMAFile(io.BytesIO(data)) as stream:
        return stream.read(size_bytes + 1)


def _zip_compress(data: Buffer) -> Buffer:
    import zipfile

    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("payload"), bytes(data), zipfile.ZIP_DEFLATED)
    return sink.getvalue()


def _zip_decompress(data: Buffer, size_bytes: int) -> Buffer:
    import zipfile

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        (name,) = archive.namelist()
        with archive.open(name) as stream:
            return stream.read(size_bytes + 1)


def _library(module: str, package: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError(
            f"Compression {package!r} needs a package that is not installed here",
            hint=f"Run: pip install 'airflow-provider-xcargo[{package}]'",
        ) from error


ALGORITHMS: dict[str, _Algorithm] = {
    "none": _Algorithm("", lambda data: data, lambda data, _: data),
    "zstd": _Algorithm(".zst", _zstd_compress, _zstd_decompress),
    "lz4": _Algorithm(".lz4", _lz4_compress, _lz4_decompress),
    "snappy": _Algorithm(".snappy", _snappy_compress, _snappy_decompress),
    "gzip": _Algorithm(".gz", _gzip_compress, _gzip_decompress),
    "bz2": _Algorithm(".bz2", _bz2_compress, _bz2_decompress),
    "xz": _Algorithm(".xz", _xz_compress, _xz_decompress),
    "zip": _Algorithm(".zip", _zip_compress, _zip_decompress),
}

SUFFIXES = {name: algorithm.suffix for name, algorithm in ALGORITHMS.items()}
