"""A reader of what xcargo stores, written from docs/format.md alone: nothing of the package is imported here.

It gives plain Python for nested values, ``(number, data)`` for extensions that it does not know, a numpy array, or a
pyarrow table.
"""

from __future__ import annotations

import base64
import bz2
import gzip
import hmac
import io
import json
import lzma
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import cramjam
import msgpack
import numpy as np
import pyarrow as pa
from blake3 import blake3

DECOMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "none": bytes,
    "zstd": lambda data: bytes(cramjam.zstd.decompress(data)),
    "gzip": gzip.decompress,
    "bz2": bz2.decompress,
    "xz": lzma.decompress,
    "zip": lambda data: (archive := zipfile.ZipFile(io.BytesIO(data))).read(archive.namelist()[0]),
    "lz4": lambda data: bytes(cramjam.lz4.decompress(data)),
    "snappy": lambda data: bytes(cramjam.snappy.decompress(data)),
}


Extension = Callable[[int, Any], Any]
"""Makes a value of the number and data of an extension."""


@dataclass(frozen=True)
class Undecoded:
    """A value that only the class or library that it is of could rebuild."""

    codec: str
    content: Any


def natural(number: int, data: Any) -> Any:
    """Python's own types; ``(number, data)`` for an extension that this reader does not know."""
    return EXTENSIONS[number](data) if number in EXTENSIONS else (number, data)


def read(
    row: Mapping[str, Any],
    fetch: Callable[[str], bytes],
    keys: Mapping[str, bytes] | None = None,
    extension: Extension = natural,
) -> Any:
    """The value of an envelope. ``fetch`` gives the object of a URL, ``keys`` are those of encryption, by name."""
    assert row["__id__"] == "xcargo/1"
    stored = fetch(row["uri"]) if "uri" in row else base64.b64decode(row["data"])
    assert len(stored) == row["stored_bytes"]
    payload = _payload(row, stored, keys or {})
    assert len(payload) == row["size_bytes"]
    return _decoded(row["codec"], row.get("params", {}), payload, extension)


def is_signed_by(row: Mapping[str, Any], name: str, key: bytes) -> bool:
    """Whether a row has the signature of this key."""
    text = json.dumps({field: value for field, value in row.items() if field != "signature"}, sort_keys=True)
    digest = hmac.digest(key, b"xcargo envelope\0" + text.encode(), "sha256").hex()
    return bool(row["signature"] == f"hmac-sha256:{name}:{digest}")


def _payload(row: Mapping[str, Any], stored: bytes, keys: Mapping[str, bytes]) -> bytes:
    table = row.get("chunks")
    tag = 16 if "encryption" in row else 0
    if table is None:
        sizes = [row["size_bytes"]]
        lengths = [len(stored)]
        if "uri" in row:
            assert row["checksum"] == f"blake3:{blake3(stored).hexdigest()}"
    else:
        sizes = [size for size, count in table["payload"] for _ in range(count)]
        lengths = table.get("stored") or [size + tag for size in sizes]
        digests = base64.b64decode(table["digests"])
        numbers = b"".join(number.to_bytes(8, "little") for number in (*sizes, *lengths))
        assert row["checksum"] == f"blake3-chunks:{blake3(numbers + digests).hexdigest()}"
    chunks, at = [], 0
    for number, (size, length) in enumerate(zip(sizes, lengths, strict=True)):
        chunk = stored[at : at + length]
        at += length
        if table is not None:
            assert blake3(chunk).digest(16) == digests[16 * number : 16 * number + 16]
        compression = row["compression"] if table is None or length - tag < size else "none"
        if tag:
            chunk = _decrypted(row, chunk, keys, [number, int(number == len(sizes) - 1), size, compression])
        chunks.append(DECOMPRESS[compression](chunk))
    return b"".join(chunks)


def _decrypted(row: Mapping[str, Any], chunk: bytes, keys: Mapping[str, bytes], context: list[Any]) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    encryption = row["encryption"]
    secret = keys[encryption["key"]]
    key = HKDF(SHA256(), 32, base64.b64decode(encryption["salt"]), b"xcargo/1 object key").derive(secret)
    own_key = row["uri"].split("/xcom/", 1)[1]  # below the root that the tests use
    object_key = encryption.get("object_key", own_key)
    assert object_key.split("/")[0] == own_key.split("/")[0]
    associated = bytes(1).join(str(part).encode() for part in ("xcargo/1", object_key, row["codec"], *context))
    return AESGCM(key).decrypt(context[0].to_bytes(12, "big"), chunk, associated)


def _decoded(codec: str, params: Mapping[str, Any], payload: bytes, extension: Extension) -> Any:
    if codec == "msgpack":
        return _nested(payload, params, extension)
    is_scalar = codec == "pandas" and not payload.startswith(b"ARROW1")
    if (
        is_scalar
        or codec in ("object", "library", "rows", "pydantic")
        or params.get("dtype") in ("|O", "T")
        or "packed" in params
    ):
        return Undecoded(codec, _nested(payload, {}, extension))
    if codec == "numpy" and "class" not in params and isinstance(params["dtype"], str):
        return np.frombuffer(payload, np.dtype(params["dtype"])).reshape(
            params["shape"], order=params.get("order", "C")
        )
    if codec in ("arrow", "arrow-stream", "pandas"):
        return pa.ipc.open_file(payload).read_all()
    if codec in ("bytes", "file", "stream"):
        return payload
    return Undecoded(codec, payload)


def _nested(payload: bytes, params: Mapping[str, Any], extension: Extension) -> Any:
    table_bytes = params.get("table_bytes", 0)
    end = len(payload) - table_bytes
    start = end - params.get("tree_bytes", end)
    parts = json.loads(payload[end:]) if table_bytes else []

    def extended(number: int, data: bytes) -> Any:
        body = unpack(data)
        if number == 0:
            inner, inner_params, data = body
            return _decoded(inner, inner_params, data, extension)
        if number == 48:
            inner, inner_params, first, last = parts[body]
            return _decoded(inner, inner_params, payload[first:last], extension)
        return extension(number, body)

    def unpack(data: bytes) -> Any:
        return msgpack.unpackb(data, ext_hook=extended, strict_map_key=False)

    return unpack(payload[start:end])


EXTENSIONS: dict[int, Callable[[Any], Any]] = {
    1: tuple,
    2: set,
    3: frozenset,
    4: lambda data: int.from_bytes(data, "little", signed=True),
    5: lambda data: complex(*data),
    8: Decimal,
    11: lambda days: date(1, 1, 1) + timedelta(days - 1),
    13: lambda data: timedelta(*data),
    15: lambda data: dict(zip(*data, strict=True)),
}
