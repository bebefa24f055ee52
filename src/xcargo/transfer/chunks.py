"""Chunks: a large payload is split_chunks, and each piece compressed and checksummed by itself.

So a large value is compressed while it travels, read back in parallel or in part, and every part that is read is
verified. A payload of one chunk is its own object. The table of the chunks of a larger one stands in the envelope: the
object holds the chunks, one after another, and nothing else, so a file that is not compressed lies in the bucket as it
was.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import accumulate, groupby
from typing import Any

from blake3 import blake3

from xcargo.errors import EnvelopeError, IntegrityError
from xcargo.transfer.compression import compress_if_smaller, decompress_into
from xcargo.transfer.encryption import TAG_BYTES, ChunkContext, Cipher
from xcargo.types import Buffer

__all__ = [
    "CHUNK_BYTES",
    "WORKERS",
    "ChunkEncoder",
    "Chunks",
    "NotReplayableError",
    "checksum_mismatch",
    "decode_chunk_into",
    "split_chunks",
]


CHUNK_BYTES = 1024 * 1024
"""Payload of a chunk: enough to compress well, little enough to hold many, and to stay in the processor's cache."""

_MAX_CHUNK_BYTES = 32 * 1024 * 1024
_GROWS_AFTER = 512
"""Chunks after which those that follow are twice as large, so that the table of a huge payload stays small.

With half as many, a push of 4 GiB held a hundred megabytes more.
"""

_DIGEST_BYTES = 16
"""Of BLAKE3's 32 bytes a chunk's digest keeps these: finding other bytes to fit takes 2^128 attempts."""

WORKERS = min(4, os.cpu_count() or 1)

_AHEAD_BYTES = 32 * 1024 * 1024
"""Payload that is sealed ahead of whoever takes it; or a chunk for each worker, if these are more."""


@dataclass(frozen=True)
class Chunks:
    """The table of an object's chunks. A chunk is compressed if, and only if, it is shorter than its payload.

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

    def place(self, n: int, compression: str) -> ChunkContext:
        """What the encryption of chunk ``n`` binds it to."""
        shorter = self.stored_bytes[n] < self.payload_bytes[n] + self.tag_bytes
        return ChunkContext(n, n == len(self) - 1, self.payload_bytes[n], compression if shorter else "none")

    def digest(self, n: int) -> bytes:
        """The digest of chunk ``n``."""
        return self.digests[n * _DIGEST_BYTES : (n + 1) * _DIGEST_BYTES]

    def checksum(self) -> str:
        """``blake3-chunks:hex`` over all sizes and digests: two objects of one checksum hold the same bytes."""
        sizes = b"".join(size.to_bytes(8, "little") for size in (*self.payload_bytes, *self.stored_bytes))
        return f"blake3-chunks:{blake3(sizes + self.digests).hexdigest()}"

    def to_json(self) -> dict[str, Any]:
        """The table as the envelope holds it: payload sizes as runs, stored sizes only where they differ."""
        runs = [[size, len(list(same))] for size, same in groupby(self.payload_bytes)]
        stored = {"stored": list(self.stored_bytes)} if self.compressed else {}
        return {"payload": runs, **stored, "digests": base64.b64encode(self.digests).decode()}

    @classmethod
    def from_json(
        cls, table: Mapping[str, Any], checksum: str, size_bytes: int, stored_bytes: int, tag_bytes: int = 0
    ) -> Chunks:
        """Read a table. Raises EnvelopeError unless it is well-formed and fits checksum and sizes of its envelope."""
        try:
            runs, digests = table["payload"], base64.b64decode(table["digests"], validate=True)
            counts = [count for _, count in runs]
            if not counts or not all(type(count) is int and count > 0 for count in counts):
                raise ValueError("a run has an impossible length")
            if sum(counts) * _DIGEST_BYTES != len(digests):  # before a count is believed
                raise ValueError("as many digests as chunks are needed")
            payload = tuple(size for size, count in runs for _ in range(count))
            longest = cls(payload, payload, digests, tag_bytes)._uncompressed
            chunks = cls(payload, tuple(table.get("stored") or longest), digests, tag_bytes)
            sizes = (*chunks.payload_bytes, *(size - tag_bytes for size in chunks.stored_bytes))
            if not all(type(size) is int and 0 < size <= _MAX_CHUNK_BYTES for size in sizes):
                raise ValueError("a chunk has an impossible size")
            if len(chunks.stored_bytes) != len(payload) or any(map(int.__gt__, chunks.stored_bytes, longest)):
                raise ValueError("a chunk is longer than its payload")
        except (AttributeError, KeyError, TypeError, ValueError, binascii.Error) as error:
            raise EnvelopeError(f"The envelope's table of chunks is malformed: {error}") from error
        if (chunks.starts[-1], chunks.offsets[-1], chunks.checksum()) != (size_bytes, stored_bytes, checksum):
            raise EnvelopeError("The envelope's table of chunks does not fit its checksum and sizes")
        return chunks


def split_chunks(pieces: Iterable[Buffer]) -> Iterator[Buffer]:
    """The pieces of a payload as chunks. A chunk that lies in one piece is a view of it, without a copy."""
    number, wanted, have = 0, CHUNK_BYTES, 0
    held: list[memoryview] = []
    for piece in pieces:
        view = memoryview(piece)
        while have + len(view) >= wanted:
            held.append(view[: wanted - have])
            yield held[0] if len(held) == 1 else b"".join(held)
            view, held, have, number = view[wanted - have :], [], 0, number + 1
            wanted = min(CHUNK_BYTES << number // _GROWS_AFTER, _MAX_CHUNK_BYTES)
        if view:
            held.append(view)
            have += len(view)
    if held:
        yield held[0] if len(held) == 1 else b"".join(held)


def _with_last(chunks: Iterable[Buffer]) -> Iterator[tuple[Buffer, bool]]:
    """The chunks, each with whether it is the last; one is held back to know."""
    held: list[Buffer] = []
    for chunk in chunks:
        if held:
            yield held.pop(), False
        held.append(chunk)
    if held:
        yield held.pop(), True


class NotReplayableError(Exception):
    """Chunks that are made as they go were asked for a second time."""


class ChunkEncoder:
    """Iterates over the chunks as they are to be stored; their ``table`` is known at the end.

    Chunks are compressed and hashed by a few threads, some chunks ahead of whoever takes them: what is held in memory
    does not depend on how many there are. Iterating again raises NotReplayableError if the chunks themselves can't be.
    ``taken`` is told the payload bytes of each chunk that was taken. Chunks are encrypted by what ``fresh_cipher``
    gives, anew for each iteration, whose payload may be another one; ``cipher`` is the last one.
    """

    def __init__(
        self,
        chunks: Iterable[Buffer],
        compression: str,
        taken: Callable[[int], object] = lambda _: None,
        fresh_cipher: Callable[[], Cipher | None] = lambda: None,
    ) -> None:
        self._chunks = chunks
        self._compression = compression
        self._tell = taken
        self._fresh_cipher = fresh_cipher
        self.cipher: Cipher | None = None
        self._begun = False
        self._sizes: list[tuple[int, int]] = []
        self._digests: list[bytes] = []

    @property
    def table(self) -> Chunks:
        """The table of the chunks taken so far."""
        payload_bytes, stored_bytes = zip(*self._sizes, strict=True)
        return Chunks(payload_bytes, stored_bytes, b"".join(self._digests), TAG_BYTES if self.cipher else 0)

    def __iter__(self) -> Iterator[Buffer]:
        if self._begun and isinstance(self._chunks, Iterator):
            raise NotReplayableError
        self._begun, self._sizes, self._digests = True, [], []
        self.cipher = self._fresh_cipher()
        ahead: deque[Future[tuple[int, Buffer, bytes]]] = deque()
        with ThreadPoolExecutor(WORKERS, thread_name_prefix="xcargo-seal") as pool:
            for number, (chunk, last) in enumerate(_with_last(self._chunks)):
                ahead.append(pool.submit(self._seal, chunk, number, last))
                if len(ahead) > max(WORKERS, min(2 * WORKERS, _AHEAD_BYTES // len(chunk))):
                    yield self._taken(ahead.popleft())
            while ahead:
                yield self._taken(ahead.popleft())

    def _seal(self, chunk: Buffer, number: int, last: bool) -> tuple[int, Buffer, bytes]:
        shorter = compress_if_smaller(self._compression, chunk)
        stored = chunk if shorter is None else shorter
        if self.cipher is not None:
            compression = "none" if shorter is None else self._compression
            stored = self.cipher.seal(stored, ChunkContext(number, last, len(chunk), compression))
        return len(chunk), stored, blake3(stored).digest(_DIGEST_BYTES)

    def _taken(self, sealed: Future[tuple[int, Buffer, bytes]]) -> Buffer:
        payload_bytes, stored, digest = sealed.result()
        self._sizes.append((payload_bytes, len(stored)))
        self._digests.append(digest)
        self._tell(payload_bytes)
        return stored


def decode_chunk_into(
    view: memoryview, stored: Buffer, chunks: Chunks, n: int, compression: str, cipher: Cipher | None = None
) -> None:
    """Fill ``view`` with the payload of chunk ``n``. Raises IntegrityError if its bytes are not those that were stored.

    ``stored`` may be ``view`` itself, if it is neither compressed nor encrypted.
    """
    if blake3(stored).digest(_DIGEST_BYTES) != chunks.digest(n):
        raise checksum_mismatch()
    compressed = len(stored) != len(view) + chunks.tag_bytes
    if cipher is not None:
        place = chunks.place(n, compression)
        if not compressed:
            cipher.open_into(view, stored, place)
            return
        stored = cipher.open(stored, place)
    if compressed:
        decompress_into(compression, stored, view)
    elif stored is not view:
        view[:] = stored


def checksum_mismatch() -> IntegrityError:
    """The error for stored bytes that do not have their checksum."""
    return IntegrityError(
        "The object's bytes are not those that were stored (checksum mismatch)",
        hint="It was altered or damaged; run the task that pushed it again.",
    )
