"""Encryption: values come back, in whole and in part, and no other bytes ever pass for them.

The attacker here may write objects and rows, checksums included, and lacks only the keys.
"""

from __future__ import annotations

import base64
import copy
import dataclasses
import json
import logging
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.conftest import HERE, make_pipeline
from xcargo.codecs.files import File
from xcargo.errors import (
    AccessDeniedError,
    ConfigurationError,
    EnvelopeError,
    IntegrityError,
    MissingDependencyError,
    XCargoError,
)
from xcargo.model.keys import Key
from xcargo.model.root import Root
from xcargo.stores.base import Store
from xcargo.stores.local import MemoryStore
from xcargo.testing import CountingStore, FaultyStore
from xcargo.transfer.chunks import ChunkTable
from xcargo.transfer.encryption import ChunkContext, Cipher

TAG_BYTES = Cipher.tag_bytes
KEY, OTHER = Key("k1", random.Random(1).randbytes(32)), Key("k2", random.Random(2).randbytes(32))
NOISE = random.Random(3).randbytes(10_000_000)
TEXT = b"".join(b"%08d plain text\n" % n for n in range(600_000))
VALUES: dict[str, Callable[[], Any]] = {
    "nothing": lambda: b"",
    "small": lambda: b"secret",
    "dict": lambda: {f"key{i}": "x" * 100 for i in range(100)},
    "noise": lambda: NOISE,
    "text": lambda: TEXT,
    "half and half": lambda: TEXT[:5_000_000] + NOISE[:5_000_000],
    "array": lambda: np.frombuffer(NOISE, dtype="u1").reshape(2, -1),
    "frame": lambda: pd.DataFrame({"a": range(300_000), "b": ["text"] * 300_000}),
}


def encrypted(*keys: Key, **settings: Any) -> Any:
    keys = keys or (KEY,)
    return make_pipeline(
        **{"encryption_keys": keys, "encryption_key": keys[0], "threshold_bytes": 0, "preview_chars": 0, **settings}
    )


ROOT = Root.parse("memory://test/xcom")


def stored(row: Any) -> bytes:
    return bytes(MemoryStore(ROOT).get(ROOT.object_key(row["uri"])))


def same(left: Any, right: Any) -> bool:
    if isinstance(right, pd.DataFrame):
        return bool(left.equals(right))
    return type(left) is type(right) and bool(
        np.array_equal(left, right) if isinstance(left, np.ndarray) else left == right
    )


@pytest.mark.parametrize(
    ("kind", "compression"),
    [*((kind, "zstd") for kind in VALUES), ("dict", "gzip"), ("half and half", "gzip"), ("text", "none")],
)
def test_a_value_comes_back_and_its_object_shows_nothing_of_it(kind: str, compression: str) -> None:
    """Objects of one chunk and of several, compressed or not, with one put and one get."""
    counted: list[CountingStore] = []

    def counting(store: Store) -> CountingStore:
        counted.append(CountingStore(store))
        return counted[-1]

    pipeline = encrypted(compression=compression, wrap=counting)
    value = VALUES[kind]()
    row = json.loads(json.dumps(pipeline.push(value, HERE)))
    assert row["encryption"]["key"] == "k1"
    assert row["uri"].endswith(".enc")
    assert row["stored_bytes"] == len(stored(row))
    assert same(pipeline.pull(row), value)
    assert sum((store.calls for store in counted), start=type(counted[0].calls)()) == {"put": 1, "get": 1}
    for piece in (b"secret", b"plain text", b"key0", NOISE[:16], NOISE[4_500_000:4_500_016]):
        assert piece not in stored(row)


def test_parts_are_read_and_verified_by_themselves() -> None:
    """A handle's file reads any range; a query fetches only its columns; a stream is read piece by piece."""
    pipeline = encrypted()
    row = pipeline.push(TEXT + NOISE, HERE)
    with pipeline.handle(row).open() as file:
        for start, length in ((0, 10), (len(TEXT) - 5, 10), (9_000_000, 5_000_000), (len(TEXT) + len(NOISE) - 3, 9)):
            file.seek(start)
            assert file.read(length) == (TEXT + NOISE)[start : start + length]
    frame = pl.DataFrame({"a": range(1_000_000), "b": np.frombuffer(NOISE[:8_000_000], dtype="i8")})
    table = pipeline.handle(pipeline.push(frame, HERE)).to_arrow(columns=["b"], rows=slice(5, 9))
    assert table["b"].to_pylist() == frame["b"][5:9].to_list()

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(NOISE), 999_999):
            yield NOISE[start : start + 999_999]

    stream = pipeline.pull(pipeline.push(pieces(), HERE))
    assert b"".join(stream) == NOISE


def test_large_objects_travel_in_parallel_parts(tmp_path: Path) -> None:
    """Above four parts a file is stored and read in several requests, and is the same."""
    path = tmp_path / "big.bin"
    path.write_bytes(NOISE * 5)
    pipeline = encrypted(url=(tmp_path / "store").as_uri())
    back = pipeline.pull(pipeline.push(File(path), HERE))
    assert Path(back).read_bytes() == NOISE * 5


@given(st.binary(max_size=300), st.integers(0, 2**31), st.binary(min_size=1, max_size=40))
def test_whatever_the_bytes(payload: bytes, number: int, codec: bytes) -> None:
    """Any chunk decrypts in its own context, and is 16 bytes longer."""
    about = {"object_key": "dag/run/task/key~0", "codec": codec.hex()}
    cipher = Cipher.new(KEY, **about)
    context = ChunkContext(number, False, len(payload), "none")
    chunk = cipher.encrypt(payload, context)
    assert len(chunk) == len(payload) + TAG_BYTES
    again = Cipher.from_json(json.loads(json.dumps(cipher.to_json())), (OTHER, KEY), **about)
    assert again.decrypt(chunk, context) == payload
    view = memoryview(bytearray(len(payload)))
    again.decrypt_into(view, chunk, context)
    assert view == payload


@pytest.mark.parametrize("change", [{"number": 1}, {"last": True}, {"size_bytes": 4}, {"compression": "zstd"}], ids=str)
def test_a_chunk_decrypts_in_its_own_context_only(change: dict[str, Any]) -> None:
    """Number, end, size and compression are each authenticated."""
    cipher, context = Cipher.new(KEY, object_key="k", codec="bytes"), ChunkContext(0, False, 3, "none")
    with pytest.raises(IntegrityError):
        cipher.decrypt(cipher.encrypt(b"abc", context), dataclasses.replace(context, **change))


def test_no_two_chunks_share_a_nonce() -> None:
    """Equal chunks of one object become different bytes."""
    row = encrypted(compression="none").push(bytes(12_000_000), HERE)
    first, second, *_ = (data for _, data in chunks_of(row))
    assert first[:64] != second[:64]


def test_older_versions_of_the_library_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    """cryptography before 47 cannot decrypt into memory that it is given; a copy does it then."""
    from cryptography.hazmat.primitives.ciphers import aead

    class Old:
        def __init__(self, key: bytes) -> None:
            cipher = AESGCM(key)
            self.encrypt, self.decrypt = cipher.encrypt, cipher.decrypt

    AESGCM = aead.AESGCM
    monkeypatch.setattr(aead, "AESGCM", Old)
    cipher, context = Cipher.new(KEY, object_key="k", codec="bytes"), ChunkContext(0, True, 3, "none")
    view = memoryview(bytearray(3))
    cipher.decrypt_into(view, cipher.encrypt(b"abc", context), context)
    assert view == b"abc"


# --- an attacker without keys ---------------------------------------------------------------------------------------


def put(row: Any, data: bytes) -> Any:
    """The row and object of somebody who may write both: every checksum fits the new bytes."""
    row = copy.deepcopy(row)
    MemoryStore(ROOT).put(ROOT.object_key(row["uri"]), [data])
    row["stored_bytes"] = len(data)
    row["checksum"] = f"blake3:{blake3(data).hexdigest()}"
    return row


def put_chunks(row: Any, chunks: list[tuple[int, bytes]]) -> Any:
    """The same of an object of several chunks, given as payload sizes and stored bytes."""
    table = ChunkTable(
        tuple(size for size, _ in chunks),
        tuple(len(data) for _, data in chunks),
        b"".join(blake3(data).digest(16) for _, data in chunks),
        TAG_BYTES,
    )
    row = put(row, b"".join(data for _, data in chunks))
    row["checksum"], row["chunks"] = table.checksum(), table.to_json()
    return {**row, "size_bytes": table.starts[-1]}


def chunks_of(row: Any) -> list[tuple[int, bytes]]:
    table = ChunkTable.from_json(
        row["chunks"],
        checksum=row["checksum"],
        size_bytes=row["size_bytes"],
        stored_bytes=row["stored_bytes"],
        tag_bytes=TAG_BYTES,
    )
    data = stored(row)
    return [(table.payload_bytes[n], data[table.offsets[n] : table.offsets[n + 1]]) for n in range(len(table))]


def refused(row: Any) -> None:
    """No pull and no ranged read gives a single byte of it."""
    pipeline = encrypted()
    for read in (lambda: pipeline.pull(row), lambda: pipeline.handle(row).open().read()):
        with pytest.raises(IntegrityError) as caught:
            read()
        assert KEY.secret.hex() not in str(caught.value)
        assert base64.b64encode(KEY.secret).decode() not in str(caught.value)


@pytest.mark.parametrize("where", [0, 7, -1, -TAG_BYTES, -TAG_BYTES - 1])
def test_no_bit_of_an_object_can_be_changed(where: int) -> None:
    """Neither of its bytes nor of the tag, although the checksum was made to fit."""
    row = encrypted().push(b"secret" * 10, HERE)
    data = bytearray(stored(row))
    data[where] ^= 1
    refused(put(row, bytes(data)))
    for length in (0, 1, TAG_BYTES - 1, TAG_BYTES, len(data) - 1):
        refused(put(row, bytes(data[:length])))


def test_chunks_cannot_be_moved_left_out_doubled_or_cut_off() -> None:
    """Each knows its number, and the last one that it is the last."""
    row = encrypted().push(NOISE, HERE)
    chunks = chunks_of(row)
    assert len(chunks) == 10
    assert same(encrypted().pull(put_chunks(row, chunks)), NOISE)
    first, second, *others = chunks
    left_out = ([first, *others], [second, *others], chunks[:-1])
    for order in ([second, first, *others], *left_out, [first, first, *others], [*chunks, chunks[-1]]):
        refused(put_chunks(row, order))


@pytest.mark.parametrize("value", [b"mine", NOISE])
def test_no_bytes_of_another_object_serve(value: bytes) -> None:
    """Not under the other's own salt, not under this one's, not with the other's whole row but for the place."""
    pipeline = encrypted()
    row, other = pipeline.push(value, HERE), pipeline.push(bytes(reversed(value)), HERE)
    moved = stored(other)
    for forged in ({**row}, {**row, "encryption": other["encryption"]}, {**other, "uri": row["uri"]}):
        if "chunks" in row:
            mixed = put_chunks({**forged, "chunks": row["chunks"]}, chunks_of(other))
        else:
            mixed = put(forged, moved)
        refused(mixed)


@pytest.mark.parametrize(
    "change",
    [
        {"codec": "msgpack"},
        {"codec": "pickle"},
        {"compression": "zstd"},
        {"compression": "\ud800"},
        {"codec": "\ud800"},
        {"size_bytes": 5},
        {"size_bytes": 7},
        {"encryption": {}},
        {"encryption": {"algorithm": "none"}},
        {"encryption": {"algorithm": "aes-256-gcm"}},
        {"encryption": {"algorithm": "aes-256-gcm", "key": 1, "salt": "x"}},
        {"encryption": {"algorithm": "aes-256-gcm", "key": "k1", "salt": "AAAA"}},
        {"encryption": {"algorithm": "aes-256-gcm", "key": "k1", "salt": base64.b64encode(bytes(32)).decode()}},
        {"encryption": {"algorithm": "aes-256-gcm", "key": "k2", "salt": base64.b64encode(bytes(32)).decode()}},
        {"encryption": {"algorithm": "aes-256-gcm", "key": "unknown", "salt": base64.b64encode(bytes(32)).decode()}},
    ],
    ids=str,
)
def test_ciphertext_is_not_read_as_anything_else(change: dict[str, Any]) -> None:
    """Codec, compression, size and encryption of the row are those of the push, or it does not open."""
    row = encrypted().push(b"secret", HERE)
    with pytest.raises((IntegrityError, EnvelopeError, ConfigurationError, MissingDependencyError)) as caught:
        encrypted(KEY, OTHER).pull({**row, **change})
    assert "secret" not in str(caught.value).replace("encryption", "")


def test_a_compressed_chunk_does_not_pass_for_a_plain_one() -> None:
    """Even when the table says so."""
    row = encrypted().push(TEXT, HERE)
    refused(put_chunks(row, [(len(data) - TAG_BYTES, data) for _, data in chunks_of(row)]))


# --- keys -----------------------------------------------------------------------------------------------------------


def test_keys_can_be_changed() -> None:
    """The first encrypts, all decrypt; when the former one is gone or is another, the error names it."""
    row = encrypted(KEY).push(b"secret", HERE)
    both = encrypted(OTHER, KEY)
    assert both.pull(row) == b"secret"
    assert encrypted(OTHER).pull(both.push(b"new", HERE)) == b"new"
    with pytest.raises(ConfigurationError, match=r"'k1', which is not in .* Known here: 'k2'"):
        encrypted(OTHER).pull(row)
    with pytest.raises(ConfigurationError, match="Known here: none"):
        make_pipeline().pull(row)
    with pytest.raises(IntegrityError, match="the key 'k1' differs from the one"):
        encrypted(Key("k1", OTHER.secret)).pull(row)


def test_without_a_key_that_encrypts_objects_are_plain_and_encrypted_ones_readable() -> None:
    """Encryption can be turned off again."""
    row = encrypted().push(b"secret", HERE)
    off = make_pipeline(encryption_keys=(KEY,), threshold_bytes=0)
    assert off.pull(row) == b"secret"
    assert stored(off.push(b"secret", HERE)) == b"secret"


def test_no_two_objects_and_no_two_attempts_share_a_key() -> None:
    """Equal values become different bytes, also when a put is repeated with new credentials."""
    pipeline = encrypted()
    assert len({stored(pipeline.push(b"same", HERE)) for _ in range(5)}) == 5
    attempts: list[bytes] = []

    class Expiring(CountingStore):
        def put(self, key: str, parts: Any, **options: Any) -> None:
            parts = [bytes(part) for part in parts]
            attempts.append(parts[0])
            if len(attempts) == 1:
                raise AccessDeniedError("Expired")
            super().put(key, parts, **options)

    row = encrypted(wrap=Expiring).push(NOISE, HERE)
    assert len(attempts) == len(set(attempts)) == 2
    assert encrypted().pull(row) == NOISE


def test_the_library_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without cryptography: the extra that brings it, for who encrypts and for who pulls."""
    row = encrypted().push(b"secret", HERE)
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    for use in (lambda: encrypted(), lambda: make_pipeline(encryption_keys=(KEY,)).pull(row)):
        with pytest.raises(MissingDependencyError, match=r"airflow-provider-xcargo\[encryption\]"):
            use()


# --- around it ------------------------------------------------------------------------------------------------------


def test_the_nodes_cache_holds_nothing_of_an_encrypted_object(tmp_path: Path) -> None:
    """What is encrypted in the bucket is not left in plain on a worker's disk."""
    cache = tmp_path / "cache"
    pipeline = encrypted(cache_path=str(cache), url=(tmp_path / "store").as_uri())
    assert pipeline.pull(pipeline.push(NOISE, HERE)) == NOISE
    assert not cache.exists() or not list(cache.iterdir())
    plain = make_pipeline((tmp_path / "store").as_uri(), cache_path=str(cache))
    plain.pull(plain.push(NOISE, HERE))
    assert len(list(cache.iterdir())) == 1


def test_a_route_encrypts_and_another_does_not() -> None:
    """Each by the key that it names; with encryption neither row nor preview shows the value, unless asked."""
    from xcargo.model.settings import parse_routes

    routes = parse_routes(
        json.dumps(
            [
                {"name": "hr", "dag": "my_*", "key": "salary", "encryption_key": "k2"},
                {"name": "shown", "key": "shown", "encryption_key": "k2", "preview_chars": 50, "threshold_bytes": 2},
                {"name": "open", "key": "open", "encryption_key": "none"},
            ]
        )
    )
    pipeline = encrypted(KEY, OTHER, routes=routes, threshold_bytes=10)

    def pushed(key: str) -> Any:
        return pipeline.push("abc", HERE.__class__(HERE.dag_id, HERE.run_id, HERE.task_id, key))

    salary, shown = pushed("salary"), pushed("shown")
    assert (salary["encryption"]["key"], "preview" in salary) == ("k2", False)
    assert (shown["encryption"]["key"], shown["preview"]) == ("k2", "'abc'")
    assert pushed("other") == "abc"
    assert pipeline.pull(salary) == pipeline.pull(shown) == "abc"
    big = HERE.__class__(HERE.dag_id, HERE.run_id, HERE.task_id, "open")
    assert "encryption" not in pipeline.push("abc" * 10, big)


def test_neither_log_nor_error_nor_repr_shows_key_or_value(caplog: pytest.LogCaptureFixture) -> None:
    """On the way there, back, and where it fails."""
    caplog.set_level(logging.DEBUG)
    pipeline = encrypted(signing_keys=(OTHER,), max_size_bytes=100)
    texts = [repr(pipeline.settings), repr(KEY)]
    row = pipeline.push({"password": "hunter2"}, HERE)
    texts.append(json.dumps(row))
    texts.append(repr(pipeline.handle(row)))
    down = encrypted(wrap=lambda s: FaultyStore(s, lambda *_: AccessDeniedError("no")))
    for work in (
        lambda: encrypted(OTHER).pull(row),
        lambda: encrypted(Key("k1", OTHER.secret)).pull(row),
        lambda: pipeline.pull({**row, "signature": None}),
        lambda: pipeline.push({"password": "hunter2" * 50}, HERE),
        lambda: down.push({"password": "hunter2"}, HERE),
    ):
        with pytest.raises(XCargoError) as caught:
            work()
        texts += [str(caught.value), repr(caught.value)]
    pipeline.purge({**row, "codec": "x"})
    for text in (*texts, caplog.text):
        assert "hunter2" not in text
        for key in (KEY, OTHER):
            assert all(
                form not in text for form in (key.secret.hex(), base64.b64encode(key.secret).decode(), repr(key.secret))
            )
