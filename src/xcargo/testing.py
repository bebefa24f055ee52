"""Test kit for stores and codecs, of this project and of other packages. Needs pytest.

Subclass `StoreTests` to test a store and `CodecTests` to test a codec. Wrap a real store in
`CountingStore` or `FaultyStore` to see what happens around it.
"""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from xcargo.codecs.base import Codec, contiguous
from xcargo.codecs.source import BytesSource, Source
from xcargo.errors import DecodeError, IntegrityError, ObjectExistsError, ObjectNotFoundError, XCargoError
from xcargo.lifecycle.plan import is_same
from xcargo.stores.base import Limits, ObjectInfo, PutMode, Store, copy_object, get_into
from xcargo.transfer.chunks import ChunkDecoder, ChunkEncoder
from xcargo.transfer.reader import ObjectSource
from xcargo.types import Buffer

__all__ = [
    "CodecTests",
    "CountingStore",
    "FaultyStore",
    "StoreTests",
    "StoredBytes",
    "chunked",
    "round_trip_in_fresh_process",
]


class _Wrapper:
    """A store that passes everything on."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def _before(self, verb: str, key: str) -> None:
        """Called before each verb reaches the store."""

    def put(
        self, key: str, parts: Iterable[Buffer], *, mode: PutMode = "overwrite", expected_bytes: int | None = None
    ) -> None:
        self._before("put", key)
        self.store.put(key, parts, mode=mode, expected_bytes=expected_bytes)

    def copy(self, source: str, target: str) -> None:
        self._before("copy", target)
        copy_object(self.store, source, target)

    def get(self, key: str, *, start: int = 0, end: int | None = None) -> Buffer:
        self._before("get", key)
        return self.store.get(key, start=start, end=end)

    def head(self, key: str) -> ObjectInfo:
        self._before("head", key)
        return self.store.head(key)

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._before("delete", key)
            self.store.delete([key])

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        self._before("list", prefix)
        return self.store.list(prefix)


class CountingStore(_Wrapper):
    """Counts the calls of each verb.

    Attributes:
        calls: Number of calls by verb: ``put``, ``get``, ``head``, ``delete`` (one per key), ``list``, ``copy``.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.calls: Counter[str] = Counter()

    def _before(self, verb: str, key: str) -> None:
        self.calls[verb] += 1


class FaultyStore(_Wrapper):
    """Raises the exception that ``fail(verb, key)``, which may wait, returns; None lets the call through."""

    def __init__(self, store: Store, fail: Callable[[str, str], Exception | None]) -> None:
        super().__init__(store)
        self.fail = fail

    def _before(self, verb: str, key: str) -> None:
        error = self.fail(verb, key)
        if error is not None:
            raise error


class StoreTests:
    """What every store must do. A subclass defines two fixtures.

    - ``store``: the store under test, without objects.
    - ``behind``: access to the same objects without the store, by ``get(key)``, ``put(key, data)`` and ``keys()``, so
      that the store's ``put`` is never tested by its own ``get``.
    """

    KEY = "dag/run~3A1/task/key~0011.bin"

    @pytest.fixture
    def store(self) -> Store:
        pytest.fail("the suite of a store defines the fixture 'store'")

    @pytest.fixture
    def behind(self) -> Any:
        pytest.fail("the suite of a store defines the fixture 'behind'")

    @pytest.mark.parametrize("parts", [[b"one", bytearray(b"two"), memoryview(b"three")], [b""], []])
    def test_put_stores_exactly_the_parts_in_order(self, store: Store, behind: Any, parts: list[Buffer]) -> None:
        """The object's bytes are the parts, one after another, or none; and nothing of a longer former object."""
        for _ in range(2):
            store.put(self.KEY, parts)
            assert bytes(store.get(self.KEY)) == behind.get(self.KEY) == b"".join(parts)
            behind.put(self.KEY, b"a longer former object")

    def test_a_copy_is_an_object_of_its_own(self, store: Store, behind: Any) -> None:
        """A store that makes copies has the same bytes under another key, younger than the first and outliving it."""
        if not hasattr(store, "copy"):
            pytest.skip("This store makes no copies")
        behind.put(self.KEY, b"value")
        time.sleep(1.1)  # some stores count whole seconds; a sweep would take an old copy for an orphan
        copy_object(store, self.KEY, "dag/run/other/key~0022.bin")
        original, copied = (store.head(key).last_modified for key in (self.KEY, "dag/run/other/key~0022.bin"))
        assert original < copied  # type: ignore[operator]
        store.delete([self.KEY])
        assert behind.get("dag/run/other/key~0022.bin") == b"value"
        with pytest.raises(ObjectNotFoundError):
            copy_object(store, self.KEY, "dag/run/other/key~0033.bin")
        assert list(behind.keys()) == ["dag/run/other/key~0022.bin"]

    def test_get_returns_exactly_the_stored_bytes(self, store: Store, behind: Any) -> None:
        """A get gives the bytes that someone else put."""
        data = bytes(range(256)) * 33
        behind.put(self.KEY, data)
        assert bytes(store.get(self.KEY)) == bytes(store.get(self.KEY, start=0, end=len(data))) == data

    @pytest.mark.parametrize(("start", "end"), [(0, 1), (1, 4), (3, None), (9, 10), (4, 99)])
    def test_a_range_is_what_a_slice_is(self, store: Store, behind: Any, start: int, end: int | None) -> None:
        """get with start and end gives these bytes, fewer if the object ends before or is empty; so does get_into."""
        behind.put(self.KEY, b"0123456789")
        expected = b"0123456789"[start:end]
        assert bytes(store.get(self.KEY, start=start, end=end)) == expected
        memory = bytearray((end or 10) - start)
        assert get_into(store, self.KEY, memoryview(memory), start=start) == len(expected)
        assert memory == expected.ljust(len(memory), b"\0")
        behind.put(self.KEY, b"")
        assert bytes(store.get(self.KEY, end=1)) == b""

    def test_create_refuses_a_taken_key_and_keeps_its_object(self, store: Store, behind: Any) -> None:
        """mode='create' raises ObjectExistsError and changes nothing."""
        store.put(self.KEY, [b"first"], mode="create")
        with pytest.raises(ObjectExistsError):
            store.put(self.KEY, [b"second"], mode="create")
        assert behind.get(self.KEY) == b"first"

    def test_a_missing_object_raises_an_error_with_its_uri(self, store: Store) -> None:
        """get and head of a missing object raise ObjectNotFoundError naming it."""
        for call in (store.get, store.head):
            with pytest.raises(ObjectNotFoundError) as caught:
                call("dag/run/task/absent~00")
            assert "dag/run/task/absent~00" in str(caught.value)

    def test_delete_removes_the_keys_and_ignores_missing_ones(self, store: Store, behind: Any) -> None:
        """delete is idempotent and removes no other object."""
        behind.put(self.KEY, b"x")
        behind.put(self.KEY + "2", b"y")
        store.delete([self.KEY, "dag/run/task/absent~00"])
        store.delete([self.KEY])
        assert list(behind.keys()) == [self.KEY + "2"]

    def test_head_gives_size_and_a_recent_time_in_utc(self, store: Store) -> None:
        """head gives size and modification time."""
        store.put(self.KEY, [b"12345"])
        info = store.head(self.KEY)
        assert (info.key, info.size_bytes) == (self.KEY, 5)
        assert info.last_modified is not None
        assert abs(datetime.now(timezone.utc) - info.last_modified) < timedelta(minutes=5)

    def test_list_gives_every_object_below_a_folder_and_no_other(self, store: Store, behind: Any) -> None:
        """list walks whole segments: 'a' does not list 'ab/...'. It says what head says, as sweeps need."""
        keys = {"a/b/1~0", "a/b/2~0", "a/c~0", "ab/c~0"}
        for key in keys:
            behind.put(key, b"xyz")
        assert {info.key for info in store.list("a")} == {"a/b/1~0", "a/b/2~0", "a/c~0"}
        assert {info.key for info in store.list()} == keys
        assert all(is_same(store.head(info.key), info) for info in store.list())
        assert list(store.list("absent")) == []

    @pytest.mark.parametrize(
        "key", ["d/~2E~2E/t/k~0", "d/r~20~25/t/k~-a~0", "d/%2E%2E/t/k~0", "d/r%20%23%3F%25/t/k@a~0", "d/" + "x" * 200]
    )
    def test_escaped_keys_are_kept_to_the_letter(self, store: Store, behind: Any, key: str) -> None:
        """No key, of today or of a pre-release, is unquoted or quoted on its way."""
        store.put(key, [b"x"])
        assert list(behind.keys()) == [key]
        assert bytes(store.get(key)) == b"x"

    def test_a_large_object_survives_in_parallel_parts(self, store: Store, behind: Any) -> None:
        """More than four parts of the store's part size, from several buffers, arrive in order."""
        block = bytes(range(251)) * 1000
        parts: list[Buffer] = [block * 40, memoryview(block * 30), block * 70]
        store.put(self.KEY, parts)
        whole = b"".join(parts)
        assert behind.get(self.KEY) == whole
        assert bytes(store.get(self.KEY)) == whole

    @pytest.mark.parametrize("blocks", [1, 20, 40])
    def test_parts_of_an_iterator_arrive_in_order(self, store: Store, behind: Any, blocks: int) -> None:
        """put takes an iterator of any length, with or without ``expected_bytes``."""
        block = bytes(range(250)) * 4000
        for expected in (None, blocks * len(block)):
            store.put(self.KEY, (block for _ in range(blocks)), expected_bytes=expected)
            assert behind.get(self.KEY) == block * blocks

    @pytest.mark.parametrize("blocks", [0, 40])
    def test_parts_that_fail_leave_no_object_and_their_own_error(self, store: Store, behind: Any, blocks: int) -> None:
        """An error of the iterator is raised as it is, at the start or in the middle, and nothing is stored."""

        def parts() -> Iterator[Buffer]:
            for _ in range(blocks):
                yield bytes(1_000_000)
            raise KeyError("the parts' own")

        with pytest.raises(KeyError, match="the parts' own"):
            store.put(self.KEY, parts())
        assert list(behind.keys()) == []
        store.put(self.KEY, [b"the store is none the worse"])
        assert behind.get(self.KEY) == b"the store is none the worse"
        with pytest.raises(KeyError, match="the parts' own"):
            store.put(self.KEY, parts())
        assert behind.get(self.KEY) == b"the store is none the worse"

    def test_many_threads_share_a_store(self, store: Store, behind: Any) -> None:
        """Concurrent puts and gets of different keys do not mix."""

        def work(n: int) -> bool:
            data = str(n).encode() * 100
            store.put(f"t/{n}~0", [data])
            return bytes(store.get(f"t/{n}~0")) == data

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(work, range(40)))


class CodecTests:
    """What every codec must do. A subclass defines the fixture ``codec`` and ``VALUES``.

    The codec is pickled and sent to a fresh process, which decodes every value as the task that pulls it does. So
    define its class at the top level of a module that this process can import too; ``sys.path`` is passed on.

    Attributes:
        VALUES: Values that the codec accepts, at least one of each kind.
        HOSTILE: Payloads that the codec did not write.
    """

    VALUES: Sequence[Any] = ()
    HOSTILE: Sequence[bytes] = (b"", b"\x00", b"\xff" * 64, b"{}", b"PK\x03\x04")

    @pytest.fixture
    def codec(self) -> Codec:
        pytest.fail("the suite of a codec defines the fixture 'codec'")

    def equal(self, left: Any, right: Any) -> bool:
        """Whether two values are equal and of the same type. Override it where ``==`` does not say so."""
        return type(left) is type(right) and bool(left == right)

    def test_every_value_comes_back_equal_and_of_the_same_type(self, codec: Codec) -> None:
        """decode undoes encode, with params that were JSON in between."""
        assert self.VALUES
        for value in self.VALUES:
            assert codec.accepts(value)
            encoded = codec.encode(value)
            assert encoded.codec == codec.id
            payload = bytes(contiguous(encoded))
            assert encoded.size_bytes in (len(payload), None)
            self._check(codec.decode(payload, _through_json(encoded.params)), value)

    def test_every_value_comes_back_in_another_process(self, codec: Codec) -> None:
        """A process that has imported nothing yet decodes every value, and encodes it again without a difference."""
        for back, value in zip(round_trip_in_fresh_process(codec, self.VALUES), self.VALUES, strict=True):
            self._check(back, value)

    def test_open_gives_what_decode_gives(self, codec: Codec) -> None:
        """A codec with ``open`` reads the same value from an object of many chunks."""
        if not hasattr(codec, "open"):
            pytest.skip("This codec reads whole payloads")
        for value in self.VALUES:
            encoded = codec.encode(value)
            payload = bytes(contiguous(encoded))
            source = chunked(payload) if payload else BytesSource(payload)
            self._check(codec.open(source, _through_json(encoded.params)), value)

    def test_encoding_leaves_the_value_alone(self, codec: Codec) -> None:
        """encode does not change its argument."""
        for value in self.VALUES:
            before = copy.deepcopy(value)
            codec.encode(value)
            assert self.equal(value, before)

    def test_foreign_bytes_raise_only_decode_errors(self, codec: Codec) -> None:
        """Garbage, or a part of a payload, decodes to some value or raises DecodeError; no other error, no crash."""
        encoded = codec.encode(self.VALUES[0])
        payload = bytes(contiguous(encoded))
        for hostile in (*self.HOSTILE, *(payload[: len(payload) * n // 8] for n in range(1, 8))):
            for params in ({}, {"type": "nonsense"}, dict(encoded.params)):
                try:
                    codec.decode(hostile, params)
                    if hasattr(codec, "open"):
                        codec.open(chunked(hostile or b"\0"), params)
                except DecodeError:
                    continue

    def _check(self, back: Any, value: Any) -> None:
        assert self.equal(back, value), f"{type(value).__name__} came back as {type(back).__name__}"


def round_trip_in_fresh_process(codec: Codec, values: Sequence[Any]) -> list[Any]:
    """The values after a way to another process and back, encoded and decoded by the codec on each side.

    Args:
        codec: Is pickled. Only its module and what that imports is loaded there before the first value is decoded.
        values: All go to one process, in order. It takes as long as an interpreter takes to start.

    Raises:
        AssertionError: With the other process's error, if it could not decode a value.
    """
    encoded = [codec.encode(value) for value in values]
    task = pickle.dumps((codec, [(bytes(contiguous(one)), json.dumps(dict(one.params))) for one in encoded]))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", _DECODE]
    done = subprocess.run(command, input=task, env=env, capture_output=True, check=False)  # noqa: S603
    if done.returncode:
        raise AssertionError(f"Another process cannot decode it:\n{done.stderr.decode(errors='replace')}")
    return [codec.decode(payload, json.loads(params)) for payload, params in pickle.loads(done.stdout)]  # noqa: S301


_DECODE = """
import json, os, pickle, sys
results, sys.stdout = os.fdopen(os.dup(1), "wb"), sys.stderr
codec, encoded = pickle.load(sys.stdin.buffer)
again = []
for payload, params in encoded:
    one = codec.encode(codec.decode(payload, json.loads(params)))
    again.append((b"".join(map(bytes, one.parts)), json.dumps(dict(one.params))))
pickle.dump(again, results)
"""


def _through_json(params: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(dict(params)))  # type: ignore[no-any-return]


class StoredBytes:
    """The bytes of one stored object in memory, a `RangeReader`; ``requests`` has the length of each range read."""

    uri = "memory://x"

    def __init__(self, stored: bytes) -> None:
        self.stored = stored
        self.requests: list[int] = []

    def get(self, start: int, end: int) -> bytes:
        self.requests.append(end - start)
        return self.stored[start:end]

    def get_into(self, start: int, view: memoryview) -> int:
        data = self.get(start, start + len(view))
        view[: len(data)] = data
        return len(data)

    def explain(self, error: IntegrityError) -> XCargoError:
        return error


def chunked(payload: bytes, chunk_bytes: int = 1000) -> Source:
    """A source of the payload, which is not empty, as of a stored object of many small chunks."""
    chunks = [payload[start : start + chunk_bytes] for start in range(0, len(payload), chunk_bytes)]
    encoder = ChunkEncoder(chunks, "zstd")
    stored = StoredBytes(b"".join(encoder))
    return ObjectSource(stored, ChunkDecoder(encoder.table, "zstd"), limits=Limits(part_bytes=4096))
