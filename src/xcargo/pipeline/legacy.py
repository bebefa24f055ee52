"""References that other backends left in the rows: which object such a string means, and how its bytes are packed.

Two kinds, both only when switched on and only below the roots named in ``[xcargo] legacy_references``:

* ``XComObjectStorageBackend`` of the Common IO provider: the object's URL as a string, ``<path>/<dag>/<run>/<task>/
  <uuid>[.suffix]`` (or the 3.4 layout), JSON, compressed as the suffix says.
* hand-written backends after Airflow's and Astronomer's tutorials: ``xcom_s3://`` (or ``xcom_gcs://``, ``xcom_wasb://``,
  ``xcom_minio://``) and the object's key, plain JSON.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from xcargo.errors import DecodeError, MissingDependencyError
from xcargo.model.root import Root
from xcargo.model.settings import LegacyRoot
from xcargo.transfer.compression import canonical

__all__ = ["LegacyReference", "expand", "resolve"]

_SUFFIXES = {"zip", "gz", "bz2", "lzma", "xz", "zst", "lz4", "snappy"}


@dataclass(frozen=True)
class LegacyReference:
    """The object that a string refers to."""

    root: Root
    key: str
    compression: str


def resolve(text: str, roots: Sequence[LegacyRoot]) -> LegacyReference | None:
    """The object that ``text`` refers to, or None when it is just a string. Pure: looks nothing up."""
    for legacy in roots:
        key = text[len(legacy.prefix) :]
        if text.startswith(legacy.prefix) and key and not {"", ".", ".."} & set(key.split("/")):
            suffix = key.rpartition("/")[2].rpartition(".")[2]
            return LegacyReference(legacy.root, key, canonical(suffix) if suffix in _SUFFIXES else "none")
    return None


def expand(compression: str, data: Any) -> bytes:
    """Decompress what another backend wrote; unlike our own objects its size is not known beforehand.

    Raises DecodeError when the bytes are damaged.
    """
    try:
        if compression == "zstd":
            import zstandard

            return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read()
        if compression == "lz4":
            import lz4.frame

            return lz4.frame.decompress(data)  # type: ignore[no-any-return]
        if compression == "snappy":
            import cramjam

            return bytes(cramjam.snappy.decompress(data))
        if compression == "none":
            return bytes(data)
        return bytes(_read_all(compression, data))
    except ImportError as error:
        raise MissingDependencyError(
            f"Reading old {compression} objects needs a package: {error}",
            hint=f"Run: pip install 'airflow-provider-xcargo[{compression}]'",
        ) from error
    except Exception as error:
        raise DecodeError(f"The old object is not valid {compression} data: {error}") from error


def _read_all(compression: str, data: Any) -> Any:
    import bz2
    import gzip
    import lzma
    import zipfile

    if compression == "gzip":
        return gzip.decompress(data)
    if compression == "bz2":
        return bz2.decompress(data)
    if compression == "xz":
        return lzma.decompress(data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return archive.read(archive.namelist()[0])
