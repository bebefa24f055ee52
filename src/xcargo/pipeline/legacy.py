"""References that other backends left in the rows: which object such a string means, and how its bytes are packed.

Two kinds, both only when switched on and only below the roots named in ``[xcargo] legacy_references``:

* ``XComObjectStorageBackend`` of the Common IO provider: the object's URL as a string, ``<path>/<dag>/<run>/<task>/
  <uuid>[.suffix]`` (or the 3.4 layout), JSON, compressed as the suffix says.
* hand-written backends after Airflow's and Astronomer's tutorials: ``xcom_s3://`` (or ``xcom_gcs://``, ``xcom_wasb://``,
  ``xcom_minio://``) and the object's key, plain JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xcargo.errors import DecodeError
from xcargo.model.root import Root
from xcargo.model.settings import LegacyRoot
from xcargo.transfer.compression import canonical, decompress_all
from xcargo.types import Buffer

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


def expand(reference: LegacyReference, data: Buffer) -> bytes:
    """The JSON of what another backend stored. Unlike the size of our own objects, its size is not known.

    Raises:
        DecodeError: The bytes are damaged.
    """
    try:
        return decompress_all(reference.compression, data)
    except Exception as error:
        raise DecodeError(f"The old object is not valid {reference.compression} data: {error}") from error
