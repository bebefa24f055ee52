"""Chunks: a large payload is split, and each chunk is compressed, encrypted and checksummed by itself.

So a large value is compressed while it is uploaded, read back in parallel or in part, and all that is read is verified.
A payload of one chunk is its own object. The table of the chunks of a larger one is kept in the envelope: the object
holds the chunks, one after another, and nothing else, so a file that is not compressed is in the bucket as it was.
"""

from __future__ import annotations

import base64
import binascii
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import accumulate, groupby
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from xcargo.errors import EnvelopeError, IntegrityError
from xcargo.transfer.compression import compress_if_smaller, decompress_into
from xcargo.types import Buffer

if TYPE_CHECKING:
    from xcargo.transfer.encryption import Cipher

__all__ = [
    "CHUNK_BYTES",
    "GROWTH_CHUNKS",
    "MAX_CHUNK_BYTES",
    "WORKERS",
    "ChunkDecoder",
    "ChunkEncoder",
    "ChunkTable",
    "NotReplayableError",
    "checksum_mismatch",
    "split_chunks",
]


CHUNK_BYTES = 1024 * 1024
"""Payload of a chunk: enough to compress well, little enough to hold many, and to stay in the processor's cache."""

MAX_CHUNK_BYTES = 32 * 1024 * 1024
GROWTH_CHUNKS = 512
"""Chunks after which those that follow are twice as large, so that the table of a huge payload stays small.

With half as many, a push of 4 GiB held a hundred megabytes more.
"""

_DIGEST_BYTES = 16
"""Of BLAKE3's 32 bytes a chunk's digest keeps these: finding other bytes to fit takes 2^128 attempts."""

WORKERS = min(4, os.cpu_count() or 1)
_THREAD_NAME = "xcargo-encode"

_AHEAD_BYTES = 32 * 1024 * 1024
"""Payload that is encoded ahead of the consumer; or a chunk for each worker, if these are more."""


@dataclass(frozen=True)
class ChunkTable:
    """Sizes and digests of an object's chunks. A chunk is compressed if, and only if, it is shorter than its payload.

    ``tag_bytes`` is what encryption adds to each stored chunk, which does not count there; 0 without encryption.
    """

    payload_bytes: tuple[int, ...]
    stored_bytes: tuple[int, ...]
    digests: bytes
    """The chunks' digests, one after another."""
    tag_bytes: int = 0
    starts: tuple[int, ...] = field(init=False, repr=False)
    """Where in the payload each chunk begins, and the payload's end."""
    offsets: tuple[int, ...] = field(init=False, repr=False)
    """Where in the object each chunk begins, and the object's end."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "starts", tuple(accumulate(self.payload_bytes, initial=0)))
        object.__setattr__(self, "offsets", tuple(accumulate(self.stored_bytes, initial=0)))

    def __len__(self) -> int:
        return len(self.payload_bytes)

    @property
    def compressed(self) -> bool:
        """Whether any chunk is."""
        return self.stored_bytes != self._uncompressed

    @property
    def _uncompressed(self) -> tuple[int, ...]:
        return tuple(size + self.tag_bytes for size in self.payload_bytes) if self.tag_bytes else self.payload_bytes

    def is_compressed(self, n: int) -> bool:
        """Whether chunk ``n`` is."""
        return self.stored_bytes[n] != self.payload_bytes[n] + self.tag_bytes

    def digest(self, n: int) -> bytes:
        """The digest of chunk ``n``."""
        return self.digests[n * _DIGEST_BYTES : (n + 1) * _DIGEST_BYTES]

    def checksum(self) -> str:
        """``blake3-chunks:hex`` over all sizes and digests: two objects of one checksum hold the same bytes."""
        sizes = b"".join(size.to_bytes(8, "little") for size in (*self.payload_bytes, *self.stored_bytes))
        return f"blake3-chunks:{blake3(sizes + self.digests).hexdigest()}"

    def to_json(self) -> dict[str, Any]:
        """The table as the envelope holds it: payload sizes with their counts, stored sizes only where they differ."""
        counted = [[size, len(list(same))] for size, same in groupby(self.payload_bytes)]
        stored = {"stored": list(self.stored_bytes)} if self.compressed else {}
        return {"payload": counted, **stored, "digests": base64.b64encode(self.digests).decode()}

    @classmethod
    def from_json(
        cls, table: Mapping[str, Any], *, checksum: str, size_bytes: int, stored_bytes: int, tag_bytes: int = 0
    ) -> ChunkTable:
        """Read a table.

        Raises:
            EnvelopeError: It is not well-formed, or does not fit checksum and sizes of its envelope.
        """
        try:
            counted, digests = table["payload"], base64.b64decode(table["digests"], validate=True)
            counts = [count for _, count in counted]
            if not counts or not all(type(count) is int and count > 0 for count in counts):
                raise ValueError("a count of chunks is impossible")
            if sum(counts) * _DIGEST_BYTES != len(digests):  # before so many chunks are allocated
                raise ValueError("as many digests as chunks are needed")
            payload = tuple(size for size, count in counted for _ in range(count))
            longest = cls(payload, payload, digests, tag_bytes)._uncompressed
            chunks = cls(payload, tuple(table.get("stored") or longest), digests, tag_bytes)
            sizes = (*chunks.payload_bytes, *(size - tag_bytes for size in chunks.stored_bytes))
            if not all(type(size) is int and 0 < size <= MAX_CHUNK_BYTES for size in sizes):
                raise ValueError("a chunk has an impossible size")
            if len(chunks.stored_bytes) != len(payload) or any(map(int.__gt__, chunks.stored_bytes, longest)):
                raise ValueError("a chunk is longer than its payload")
        except (AttributeError, KeyError, TypeError, ValueError, binascii.Error) as error:
            raise EnvelopeError(f"The envelope's table of chunks is malformed: {error}") from error
        if (chunks.starts[-1], chunks.offsets[-1], chunks.checksum()) != (size_bytes, stored_bytes, checksum):
            raise EnvelopeError("The envelope's table of chunks does not fit its checksum and sizes")
        return chunks


def split_chunks(parts: Iterable[Buffer], times: int = 1) -> Iterator[Buffer]:
    """The parts of a payload as chunks of so many times ``CHUNK_BYTES``, later ones of more.

    A chunk that is inside one part is a view of it, without a copy.
    """
    first_bytes = times * CHUNK_BYTES
    number, chunk_bytes, pending_bytes = 0, first_bytes, 0
    pending: list[memoryview] = []
    for part in parts:
        view = memoryview(part)
        while pending_bytes + len(view) >= chunk_bytes:
            taken = chunk_bytes - pending_bytes
            pending.append(view[:taken])
            yield pending[0] if len(pending) == 1 else b"".join(pending)
            view, pending, pending_bytes, number = view[taken:], [], 0, number + 1
            chunk_bytes = min(first_bytes << number // GROWTH_CHUNKS, MAX_CHUNK_BYTES)
        if view:
            pending.append(view)
            pending_bytes += len(view)
    if pending:
        yield pending[0] if len(pending) == 1 else b"".join(pending)


class NotReplayableError(Exception):
    """Chunks that are produced once were iterated a second time."""


class ChunkEncoder:
    """Iterates over the chunks as they are to be stored; their ``table`` is complete at the end.

    Chunks are compressed, encrypted and hashed by a few threads, some chunks ahead of the consumer: what is held in
    memory does not depend on how many there are. A second iteration encodes them again, with another cipher, and raises
    NotReplayableError if ``chunks`` can be iterated only once.

    Args:
        chunks: Of the payload, none of them empty.
        compression: A canonical name.
        on_progress: Called with the payload bytes of each chunk that the consumer took.
        new_cipher: Called once for each iteration; no cipher may encrypt two different payloads.
    """

    def __init__(
        self,
        chunks: Iterable[Buffer],
        compression: str,
        *,
        on_progress: Callable[[int], object] = lambda _: None,
        new_cipher: Callable[[], Cipher | None] = lambda: None,
    ) -> None:
        self._chunks = chunks
        self._compression = compression
        self._on_progress = on_progress
        self._new_cipher = new_cipher
        self.cipher: Cipher | None = None
        """That of the last iteration."""
        self._begun = False
        self._sizes: list[tuple[int, int]] = []
        self._digests: list[bytes] = []

    @property
    def table(self) -> ChunkTable:
        """The table of the chunks taken so far."""
        payload_bytes, stored_bytes = zip(*self._sizes, strict=True)
        tag_bytes = self.cipher.tag_bytes if self.cipher else 0
        return ChunkTable(payload_bytes, stored_bytes, b"".join(self._digests), tag_bytes)

    def __iter__(self) -> Iterator[Buffer]:
        if self._begun and isinstance(self._chunks, Iterator):
            raise NotReplayableError
        self._begun, self._sizes, self._digests = True, [], []
        self.cipher = self._new_cipher()
        ahead: deque[Future[tuple[int, Buffer, bytes]]] = deque()
        pool = ThreadPoolExecutor(WORKERS, thread_name_prefix=_THREAD_NAME)
        try:
            for number, (chunk, last) in enumerate(_with_last(self._chunks)):
                ahead.append(pool.submit(self._encode, chunk, number, last))
                if len(ahead) > max(WORKERS, min(2 * WORKERS, _AHEAD_BYTES // len(chunk))):
                    yield self._record(ahead.popleft())
            while ahead:
                yield self._record(ahead.popleft())
        finally:
            # What is left of a failed put is collected in any thread, and one of the pool cannot wait for itself.
            is_ours = threading.current_thread().name.startswith(_THREAD_NAME)
            pool.shutdown(wait=not is_ours, cancel_futures=True)

    def _encode(self, chunk: Buffer, number: int, last: bool) -> tuple[int, Buffer, bytes]:
        shorter = compress_if_smaller(self._compression, chunk)
        stored = chunk if shorter is None else shorter
        if self.cipher is not None:
            compression = "none" if shorter is None else self._compression
            stored = self.cipher.encrypt(stored, self.cipher.context(number, last, len(chunk), compression))
        return len(chunk), stored, blake3(stored).digest(_DIGEST_BYTES)

    def _record(self, encoded: Future[tuple[int, Buffer, bytes]]) -> Buffer:
        payload_bytes, stored, digest = encoded.result()
        self._sizes.append((payload_bytes, len(stored)))
        self._digests.append(digest)
        self._on_progress(payload_bytes)
        return stored


def _with_last(chunks: Iterable[Buffer]) -> Iterator[tuple[Buffer, bool]]:
    """The chunks, each with whether it is the last; one is held back to know."""
    held: list[Buffer] = []
    for chunk in chunks:
        if held:
            yield held.pop(), False
        held.append(chunk)
    if held:
        yield held.pop(), True


@dataclass(frozen=True)
class ChunkDecoder:
    """Turns an object's stored chunks into their payload. May be used from many threads."""

    table: ChunkTable
    compression: str
    cipher: Cipher | None = None

    def decode_into(self, view: memoryview, stored: Buffer, n: int) -> None:
        """Fill ``view`` with the payload of chunk ``n``.

        ``stored`` may be ``view`` itself, if chunks are neither compressed nor encrypted.

        Raises:
            IntegrityError: The bytes are not those that were stored.
        """
        if blake3(stored).digest(_DIGEST_BYTES) != self.table.digest(n):
            raise checksum_mismatch()
        compressed = self.table.is_compressed(n)
        if self.cipher is not None:
            last, compression = n == len(self.table) - 1, self.compression if compressed else "none"
            context = self.cipher.context(n, last, self.table.payload_bytes[n], compression)
            if not compressed:
                self.cipher.decrypt_into(view, stored, context)
                return
            stored = self.cipher.decrypt(stored, context)
        if compressed:
            decompress_into(self.compression, stored, view)
        elif stored is not view:
            view[:] = stored


def checksum_mismatch() -> IntegrityError:
    """The error for stored bytes that do not have their checksum."""
    return IntegrityError(
        "The object's bytes are not those that were stored (checksum mismatch)",
        hint="It was altered or damaged; run the task that pushed it again.",
    )
