"""Compression by name: whole payloads or chunks, there and back.

A name says how an object's bytes were compressed. Names are append-only, and an object is always read by the name in
its envelope, never by the current setting. Decompression is bounded: it yields exactly the size that the envelope gives
or raises, so a small hostile object cannot fill memory.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from xcargo.codecs.source import allocate
from xcargo.errors import UPGRADE_HINT, ConfigurationError, DecodeError, IntegrityError, MissingDependencyError
from xcargo.model.version import __version__
from xcargo.types import Buffer

__all__ = [
    "SUFFIXES",
    "canonical",
    "compress",
    "compress_if_smaller",
    "decompress",
    "decompress_by_suffix",
    "decompress_into",
    "is_compressible",
]

SUFFIXES = {
    "none": "",
    "zstd": ".zst",
    "lz4": ".lz4",
    "snappy": ".snappy",
    "gzip": ".gz",
    "bz2": ".bz2",
    "xz": ".xz",
    "zip": ".zip",
}
"""The canonical names, each with how the keys of its objects end."""

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

_FOREIGN_SUFFIXES = {"zip", "gz", "bz2", "lzma", "xz", "zst", "lz4", "snappy"}
"""Suffixes of compressed objects in the backend of the Common IO provider."""

_MODULES = {"zstd": "zstd", "lz4": "lz4", "snappy": "snappy", "bz2": "bzip2", "xz": "xz"}
"""The modules of cramjam in use. Not its gzip: up to 2.11 it decompresses all of a bomb before it looks at the size."""

_LEVELS = {"lz4": {"level": 0}, "bz2": {"level": 9}, "xz": {"preset": 1}}

_local = threading.local()
"""This thread's contexts of zstandard. cramjam makes a new one for each call: small objects take it two to twelve times
as long, chunks of records a seventh longer to compress; into given memory it decompresses as fast."""

_STEP_BYTES = 1024 * 1024
_SAMPLE_BYTES = 32 * 1024
_MIN_BYTES = 128
_WORTHWHILE = 0.8
"""What a sample may be of its size after compression. Beyond that, time is better spent on sending the bytes."""


def canonical(name: str) -> str:
    """The algorithm that a name or one of its other spellings means. Raises ConfigurationError for an unknown one."""
    cleaned = name.strip().lower().lstrip(".")
    cleaned = _ALIASES.get(cleaned, cleaned)
    if cleaned not in SUFFIXES:
        raise ConfigurationError(
            f"Unknown compression {name!r}",
            hint=f"xcargo {__version__} knows {', '.join(sorted(SUFFIXES))} (also gz, bzip2, lzma, zst).",
        )
    return cleaned


def compress(name: str, data: Buffer) -> Buffer:
    """Compress with a canonical algorithm. One copy of the compressed size."""
    if name == "none":
        return data
    if name == "zstd":
        return _zstd_compressor().compress(data)  # type: ignore[no-any-return]
    if name == "gzip":
        import gzip

        return gzip.compress(data, compresslevel=6, mtime=0)
    if name == "zip":
        return _zip(data)
    return memoryview(_cramjam(name).compress(data, **_LEVELS.get(name, {})))


def compress_if_smaller(name: str, data: Buffer) -> Buffer | None:
    """The data compressed, if a sample says that it is worthwhile and it does get shorter; else None."""
    if not is_compressible(name, data):
        return None
    shorter = compress(name, data)
    return shorter if len(shorter) < len(data) else None


def is_compressible(name: str, data: Buffer) -> bool:
    """Whether a sample (start, middle and end; 32 KiB at most) shrinks by a fifth or more."""
    if name == "none" or len(data) < _MIN_BYTES:
        return False
    if len(data) <= 8 * _SAMPLE_BYTES:
        return True  # compressing it is as cheap as finding out
    view, third = memoryview(data), _SAMPLE_BYTES // 3
    middle = len(view) // 2
    sample = b"".join((view[:third], view[middle : middle + third], view[-third:]))
    return len(compress("zstd", sample)) <= _WORTHWHILE * len(sample)


def decompress(name: str, data: Buffer, size_bytes: int) -> Buffer:
    """Undo `compress`. Writes to ``size_bytes`` of memory at most, whatever the data holds.

    Raises:
        IntegrityError: The data is damaged, or does not yield exactly ``size_bytes``.
        MissingDependencyError: The name is of a later version.
    """
    if name == "zstd":
        return _zstd_decompress(data, size_bytes)
    if name == "none":
        if len(data) != size_bytes:
            raise _wrong_size_or_damaged(name, size_bytes, f"it has {len(data)}")
        return data
    view = memoryview(allocate(size_bytes))
    decompress_into(name, data, view)
    return view


def decompress_into(name: str, data: Buffer, view: memoryview) -> None:
    """The same into ``view``, which the payload fills exactly."""
    if name not in SUFFIXES:
        raise MissingDependencyError(
            f"The object is compressed with {name!r}, which this version does not know",
            hint=UPGRADE_HINT,
        )
    module = _cramjam(name) if name in _MODULES else None
    try:
        length = _read_into(name, data, view) if module is None else module.decompress_into(data, view)
    except Exception as error:  # each library has errors of its own
        raise _wrong_size_or_damaged(name, len(view), f"{type(error).__name__}: {error}") from error
    if length != len(view):
        raise _wrong_size_or_damaged(name, len(view), f"it has {length}")


def decompress_by_suffix(key: str, data: Buffer) -> bytes:
    """What another backend stored under a key, whose suffix says how it is compressed. Nothing bounds the result.

    Raises:
        DecodeError: The data is damaged.
    """
    suffix = key.rpartition("/")[2].rpartition(".")[2]
    name = canonical(suffix) if suffix in _FOREIGN_SUFFIXES else "none"
    try:
        if name in _MODULES:
            return bytes(_cramjam(name).decompress(data))
        with _opened(name, data) as file:
            return bytes(file.read())
    except Exception as error:  # each library has errors of its own
        raise DecodeError(f"The old object is not valid {name} data: {error}") from error


def _cramjam(name: str) -> Any:
    import cramjam

    return getattr(cramjam, _MODULES[name])


def _zstd_compressor() -> Any:
    try:
        return _local.compressor
    except AttributeError:
        import zstandard

        # Level 1 compresses up to four times faster than level 3, to nearly the same size (design note on compression).
        _local.compressor = zstandard.ZstdCompressor(level=1)
        return _local.compressor


def _zstd_decompress(data: Buffer, size_bytes: int) -> Buffer:
    import zstandard

    try:
        declared = zstandard.frame_content_size(data)
        if declared != size_bytes:  # compress declares it; without it the envelope's claim would be allocated
            raise _wrong_size_or_damaged("zstd", size_bytes, f"it declares {declared}")
        try:
            decompressor = _local.decompressor
        except AttributeError:
            decompressor = _local.decompressor = zstandard.ZstdDecompressor()
        return decompressor.decompress(data, max_output_size=size_bytes)  # type: ignore[no-any-return]
    except MemoryError as error:
        raise DecodeError(f"There is no memory for the {size_bytes} bytes of the value") from error
    except zstandard.ZstdError as error:
        raise _wrong_size_or_damaged("zstd", size_bytes, error) from error


def _zip(data: Buffer) -> Buffer:
    import zipfile

    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("payload"), bytes(data), zipfile.ZIP_DEFLATED)
    return sink.getvalue()


def _read_into(name: str, data: Buffer, view: memoryview) -> int:
    """Fill ``view`` step by step, holding little else. Returns how many bytes there are, one too many at most."""
    filled = 0
    with _opened(name, data) as file:
        while filled < len(view) and (part := file.read(min(_STEP_BYTES, len(view) - filled))):
            view[filled : filled + len(part)] = part
            filled += len(part)
        return filled + len(file.read(1))


@contextmanager
def _opened(name: str, data: Buffer) -> Iterator[Any]:
    """The payload, as a file, of what the standard library decompresses."""
    source = io.BytesIO(data)
    if name == "none":
        yield source
    elif name == "gzip":
        import gzip

        with gzip.open(source) as file:
            yield file
    else:
        import zipfile

        with zipfile.ZipFile(source) as archive:
            (payload,) = archive.namelist()
            with archive.open(payload) as file:
                yield file


def _wrong_size_or_damaged(name: str, size_bytes: int, reason: object) -> IntegrityError:
    return IntegrityError(f"The object is not {size_bytes} bytes of payload, compressed with {name}: {reason}")
