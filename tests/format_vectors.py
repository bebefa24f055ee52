"""The conformance set for readers in other languages, docs/format/vectors: `python -m tests.format_vectors` writes it.

Each file is one case: a row, its object in base64 where it has one, the keys that it needs, and either its value in
the neutral JSON that docs/format.md describes, or why a reader must refuse it. The values are those that the reader in
`format_reader.py` finds, which knows nothing of the package. A file that is there is never written again.
"""

from __future__ import annotations

import base64
import copy
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tests import format_reader
from tests.unit.conftest import HERE, make_pipeline
from xcargo.model.keys import Key
from xcargo.stores.local import buckets
from xcargo.transfer import chunks

VECTORS = Path(__file__).parents[1] / "docs" / "format" / "vectors"
GOLDEN = Path(__file__).parent / "golden" / "0.1.0"
ROOT = "memory://test/xcom"
KEY = Key("2026", bytes(range(32)))
_MOST_BYTES = 20_000

Case = dict[str, Any]


def read(case: Mapping[str, Any]) -> Any:
    """The value of a case, in neutral JSON."""
    keys = {name: base64.b64decode(secret) for name, secret in case.get("keys", {}).items()}
    value = format_reader.read(case["row"], lambda _: base64.b64decode(case["object"]), keys, extension=_extension)
    return neutral(value)


def _extension(number: int, data: Any) -> Any:
    return {"$extension": number, "data": neutral(data)}


def neutral(value: Any) -> Any:
    """A value in JSON that every language can compare, as docs/format.md describes it."""
    if isinstance(value, bytes):
        return {"$binary": base64.b64encode(value).decode()}
    if isinstance(value, int) and not -(2**53) < value < 2**53:
        return {"$integer": str(value)}
    if isinstance(value, float) and (not math.isfinite(value) or str(value) == "-0.0"):
        return {"$float": str(value)}
    if isinstance(value, np.ndarray):
        memory = value.tobytes("A")
        return {"$array": {"shape": list(value.shape), "memory": base64.b64encode(memory).decode()}}
    if isinstance(value, pa.Table):
        return {"$table": {name: neutral(_plain(value[name]).to_pylist()) for name in value.column_names}}
    if isinstance(value, format_reader.Undecoded):
        return {"$codec": value.codec, "content": neutral(value.content)}
    if isinstance(value, dict):
        return {key: neutral(item) for key, item in value.items()}
    return [neutral(item) for item in value] if isinstance(value, list) else value


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Times as the integers that are stored."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.cast(pa.int64()) if pa.types.is_temporal(column.type) else column


def valid() -> Iterator[tuple[str, Case]]:
    """Every codec, compression and form of a row, by name."""
    for path in sorted(GOLDEN.glob("*.json")):
        if path.stat().st_size <= _MOST_BYTES and path.stem != "pickle":
            yield path.stem, {"row": json.loads(path.read_text())}
    text = {"lines": ["the same words again and again"] * 40, "n": [1, 2.5, None, True]}
    yield "object", stored(text)
    yield "object_zstd", stored(text, compression="zstd")
    yield "object_array", stored(np.arange(50, dtype="<i8"))
    yield "signed", stored(text, signing_keys=(KEY,)) | {"signing_keys": _SECRETS}
    yield "encrypted", stored(text, **_ENCRYPTED) | {"keys": _SECRETS}
    yield "encrypted_copy", copied(text)
    chunks.CHUNK_BYTES, usual = 256, chunks.CHUNK_BYTES
    try:
        yield "chunks", stored(text)
        yield "chunks_zstd", stored(text, compression="zstd")
        yield "chunks_encrypted", stored(text, compression="zstd", **_ENCRYPTED) | {"keys": _SECRETS}
        yield "parts", stored({"a": np.arange(300), "b": [np.arange(3.0), b"x" * 500]}, signing_keys=(KEY,))
    finally:
        chunks.CHUNK_BYTES = usual
    ordered = {"__id__": "xcargo-order:1,0"}
    yield (
        "key_order",
        {"row": {"a": {"y": 2, "z": 1, **ordered}, "b": 1, **ordered}, "value": {"b": 1, "a": {"z": 1, "y": 2}}},
    )


_SECRETS = {KEY.name: base64.b64encode(KEY.secret).decode()}
_ENCRYPTED: dict[str, Any] = {"encryption_keys": (KEY,), "encryption_key": KEY}


def stored(value: Any, **settings: Any) -> Case:
    """A row and its object."""
    buckets.clear()
    pipeline = make_pipeline(ROOT, **{"threshold_bytes": 0, "compression": "none", "preview_chars": 0, **settings})
    row = pipeline.push(value, HERE)
    ((data, _),) = buckets["test/xcom"].values()
    return {"row": row, "object": base64.b64encode(data).decode()}


def copied(value: Any) -> Case:
    """The row and the object of a copy of an encrypted one."""
    buckets.clear()
    pipeline = make_pipeline(ROOT, threshold_bytes=0, preview_chars=0, **_ENCRYPTED)
    row = pipeline.push(pipeline.handle(pipeline.push(value, HERE)), replace(HERE, task_id="next_task"))
    (data, *_) = buckets["test/xcom"].values()
    return {"row": row, "object": base64.b64encode(data[0]).decode(), "keys": _SECRETS}


def damaged(cases: Mapping[str, Case]) -> Iterator[tuple[str, Case]]:
    """What a reader must refuse, and why."""
    for name in ("object", "object_zstd", "encrypted", "chunks", "chunks_zstd", "chunks_encrypted", "parts"):
        yield f"{name}_truncated", _with(cases[name], "the object was truncated", data=lambda data: data[:-1])
        if name in ("object", "object_zstd", "encrypted"):  # what follows the last chunk is never looked at
            yield f"{name}_longer", _with(cases[name], "the object has a byte more", data=lambda data: data + bytes(1))
        yield f"{name}_altered", _with(cases[name], "a bit of the object was changed", data=_flip)
    whole = cases["object_zstd"]
    for name, more in (("more_than_size", -1), ("less_than_size", 1)):
        changed = _changed(whole, size_bytes=whole["row"]["size_bytes"] + more)
        yield name, changed | {"refused": f"it decompresses to {name.replace('_', ' ')}_bytes"}
    for name, field, value, why in (
        ("later_format", "__id__", "xcargo/2", "the row is in a later format"),
        ("unknown_codec", "codec", "unheard-of", "the codec is unknown"),
        ("unknown_compression", "compression", "unheard-of", "the compression is unknown"),
        ("outside_root", "uri", "memory://test/other/dag/run/task/key~0123456789abcdef", "not below the root"),
        ("leaves_root", "uri", f"{ROOT}/dag/../../other/key~0123456789abcdef", "the path leaves the root"),
    ):
        yield name, _changed(cases["object"], **{field: value}) | {"refused": why}
    yield "signed_changed", _changed(cases["signed"], type="str") | {"refused": "the signature does not fit"}
    unsigned = copy.deepcopy(cases["signed"])
    del unsigned["row"]["signature"]
    yield "signed_not", unsigned | {"refused": "the row is not signed"}
    other = {KEY.name: base64.b64encode(bytes(32)).decode()}
    yield "encrypted_other_key", cases["encrypted"] | {"keys": other, "refused": "another key"}
    moved = _changed(cases["encrypted"], uri=cases["encrypted"]["row"]["uri"].replace("~", "~-2~", 1))
    yield "encrypted_moved", moved | {"refused": "it was encrypted for another object key"}
    copy_of = cases["encrypted_copy"]
    elsewhere = copy_of["row"]["uri"].replace("/my_dag/", "/other_dag/")
    yield "encrypted_copy_elsewhere", _changed(copy_of, uri=elsewhere) | {"refused": "the original is another Dag's"}
    table = cases["chunks"]["row"]["chunks"]
    shorter = _changed(cases["chunks"], chunks={**table, "payload": table["payload"][:-1]})
    yield "chunks_table", shorter | {"refused": "a chunk is missing in the table"}
    yield "pickle", {"row": json.loads((GOLDEN / "pickle.json").read_text()), "refused": "a pickle is never loaded"}
    for name, data, why in (
        ("nested_truncated", b"\x92\x01", "an array of two items with one"),
        ("nested_deep", b"\x91" * 200_000 + b"\x01", "nested deeper than any reader's stack"),
        ("nested_huge_array", b"\xdd\x7f\xff\xff\xff", "an array of two thousand million items, and no item"),
        ("nested_part_missing", b"\xd4\x30\x05", "a part that is not in the table"),
    ):
        row = cases["tuple"]["row"] | {"size_bytes": len(data), "stored_bytes": len(data)}
        yield name, {"row": row | {"data": base64.b64encode(data).decode()}, "refused": why}


def _with(case: Case, why: str, *, data: Callable[[bytes], bytes]) -> Case:
    return case | {"object": base64.b64encode(data(base64.b64decode(case["object"]))).decode(), "refused": why}


def _flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def _changed(case: Case, **fields: Any) -> Case:
    """The case with other fields in its row, whose signature stays as it was."""
    return copy.deepcopy(case) | {"row": {**case["row"], **fields}}


def _write() -> None:
    VECTORS.mkdir(parents=True, exist_ok=True)
    cases = dict(valid())
    for name, case in cases.items():
        _write_once(name, case if "value" in case else case | {"value": read(case)})
    for name, case in damaged(cases):
        _write_once(f"refused_{name}", case)


def _write_once(name: str, case: Case) -> None:
    path = VECTORS / f"{name}.json"
    if not path.exists():
        path.write_text(json.dumps(case, indent=1) + "\n")


if __name__ == "__main__":
    _write()
