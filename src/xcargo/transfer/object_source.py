"""The payload of a stored object: verified, read in whole, in part, or piece by piece."""

from __future__ import annotations

import math
import threading
from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from xcargo.codecs.source import allocate
from xcargo.errors import IntegrityError, XCargoError
from xcargo.stores.base import Limits
from xcargo.transfer.chunks import WORKERS, Chunks, decode_chunk_into
from xcargo.transfer.encryption import Cipher
from xcargo.transfer.progress import Progress
from xcargo.types import Buffer

__all__ = ["ObjectSource", "short"]

Fetch = Callable[[int, int], Buffer]
FetchInto = Callable[[int, memoryview], int]

_IN_FLIGHT_BYTES = 64 * 1024 * 1024
"""Bound of what compressed bytes under way hold in memory."""

_AHEAD_BYTES = 64 * 1024 * 1024
"""Bound of the payload that is read ahead of whoever takes it; or two pieces, if these are more."""

_RUN_BYTES = 4 * 1024 * 1024
"""Chunks of a small read's neighbourhood that come in one request: enough to be worth it."""

_KEPT_BYTES = 4 * _RUN_BYTES
"""Of such runs, the last of which small reads find again without another request; or one, if it is larger."""


class ObjectSource:
    """Source of an object of several chunks.

    ``fetch(start, end)`` gives stored bytes, ``fetch_into(start, view)`` puts them where they belong; each is one
    request. Reading all of an object up to four times ``part_bytes`` makes one request, of a larger one parallel
    requests of about ``part_bytes``. Bytes that are neither compressed nor encrypted go to their place at once and are
    verified there; of others no more than 64 MiB are held beside the payload. ``explain`` may know a better error for
    bytes that are not those that were stored.
    """

    def __init__(
        self,
        fetch: Fetch,
        fetch_into: FetchInto,
        chunks: Chunks,
        compression: str,
        limits: Limits,
        uri: str,
        explain: Callable[[XCargoError], XCargoError] = lambda error: error,
        cipher: Cipher | None = None,
    ) -> None:
        self._fetch = fetch
        self._fetch_into = fetch_into
        self._chunks = chunks
        self._compression = compression
        self._limits = limits
        self._uri = uri
        self._explain = explain
        self._cipher = cipher
        starts = chunks.starts
        self._runs = [n for n in range(len(chunks)) if not n or starts[n] // _RUN_BYTES != starts[n - 1] // _RUN_BYTES]
        self._runs.append(len(chunks))
        self._run_starts = [starts[n] for n in self._runs]
        self._kept: OrderedDict[int, Buffer] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def size_bytes(self) -> int:
        return self._chunks.starts[-1]

    def read(self, start: int, end: int) -> Buffer:
        start, end = max(start, 0), min(end, self.size_bytes)
        if start >= end:
            return b""
        starts = self._run_starts
        first, last = self._run_at(start), self._run_at(end - 1)
        begin = starts[first]
        if first == last:
            return memoryview(self._run(first))[start - begin : end - begin]
        view = memoryview(allocate(starts[last + 1] - begin))
        missing = [n for n in range(first, last + 1) if not self._copied(n, view[starts[n] - begin :])]
        if missing:  # one stretch, since those that are kept lie at its ends nearly always
            self._fill(view[starts[missing[0]] - begin :], self._runs[missing[0]], self._runs[missing[-1] + 1])
            for n in missing[-3:]:  # where the next read is likely to begin
                if starts[n + 1] - starts[n] < _KEPT_BYTES:
                    self._keep(n, bytes(view[starts[n] - begin : starts[n + 1] - begin]))
        return view[start - begin : end - begin]

    def read_into(self, view: memoryview) -> None:
        self._fill(view, 0, len(self._chunks))

    def iter_chunks(self) -> Iterator[Buffer]:
        progress = Progress(f"reads {self._uri}", self.size_bytes)
        starts, part_bytes = self._chunks.starts, self._limits.part_bytes
        workers = max(1, min(self._limits.max_concurrency, 4))
        ahead: deque[Future[memoryview]] = deque()
        pool = ThreadPoolExecutor(workers, thread_name_prefix="xcargo-read")
        try:
            for first, end in self._groups(0, len(self._chunks), most_payload_bytes=part_bytes):
                ahead.append(pool.submit(self._group, first, end))
                if len(ahead) > max(1, min(workers, _AHEAD_BYTES // (starts[end] - starts[first]))):
                    yield _next(ahead, progress)
            while ahead:
                yield _next(ahead, progress)
        finally:  # left early, or after an error: nothing more is fetched
            pool.shutdown(cancel_futures=True)

    def _run_at(self, position: int) -> int:
        return bisect_right(self._run_starts, position) - 1

    def _run(self, n: int) -> Buffer:
        """The payload of one run of chunks; the last few are kept, since small reads tend to follow one another."""
        with self._lock:
            found = self._kept.get(n)
        if found is None:
            found = self._group(self._runs[n], self._runs[n + 1]).toreadonly()
            self._keep(n, found)
        return found

    def _keep(self, n: int, payload: Buffer) -> None:
        with self._lock:
            self._kept[n] = payload
            while len(self._kept) > 1 and sum(map(len, self._kept.values())) > _KEPT_BYTES:
                self._kept.popitem(last=False)

    def _copied(self, n: int, place: memoryview) -> bool:
        """Whether a run was kept, and lies in its place now."""
        with self._lock:
            found = self._kept.get(n)
        if found is not None:
            place[: len(found)] = found
        return found is not None

    def _group(self, first: int, end: int) -> memoryview:
        starts = self._chunks.starts
        view = memoryview(allocate(starts[end] - starts[first]))
        self._unseal(view, first, end)
        return view

    def _fill(self, view: memoryview, first: int, end: int) -> None:
        """Payloads of the chunks ``first`` to ``end`` into the beginning of ``view``."""
        starts, offsets = self._chunks.starts, self._chunks.offsets
        if offsets[end] - offsets[first] <= 4 * self._limits.part_bytes:
            groups = [(first, end)]
        else:
            groups = list(self._groups(first, end))
        progress = Progress(f"reads {self._uri}", starts[end] - starts[first])

        def fill(group: tuple[int, int]) -> None:
            place = view[starts[group[0]] - starts[first] : starts[group[1]] - starts[first]]
            self._unseal(place, *group)
            progress.advance(len(place))

        if len(groups) == 1:
            with ThreadPoolExecutor(min(WORKERS, end - first), thread_name_prefix="xcargo-read") as pool:
                self._unseal(view[: starts[end] - starts[first]], first, end, pool.map)
            return
        workers = max(1, self._limits.max_concurrency)
        if self._chunks.compressed or self._cipher is not None:
            workers = min(workers, max(2, _IN_FLIGHT_BYTES // self._limits.part_bytes))
        with ThreadPoolExecutor(workers, thread_name_prefix="xcargo-read") as pool:
            done = [pool.submit(fill, group) for group in groups]
            try:
                for one in done:
                    one.result()
            except BaseException:
                for one in done:
                    one.cancel()
                raise

    def _groups(self, first: int, end: int, most_payload_bytes: float = math.inf) -> Iterator[tuple[int, int]]:
        """Neighbouring chunks whose stored bytes make a request of about ``part_bytes``."""
        starts, offsets = self._chunks.starts, self._chunks.offsets
        while first < end:
            last = first + 1
            while (
                last < end
                and offsets[last + 1] - offsets[first] <= self._limits.part_bytes
                and starts[last + 1] - starts[first] <= most_payload_bytes
            ):
                last += 1
            yield first, last
            first = last

    def _unseal(self, view: memoryview, first: int, end: int, each: Any = map) -> None:
        """Fetch the chunks, verify ``each`` of them, and put their payloads into ``view``. One request."""
        starts, offsets = self._chunks.starts, self._chunks.offsets
        expected = offsets[end] - offsets[first]
        try:
            if expected == len(view) and self._cipher is None:
                stored, found = view, self._fetch_into(offsets[first], view)
            else:
                stored = memoryview(self._fetch(offsets[first], offsets[end]))
                found = len(stored)
            if found != expected:
                raise short(offsets[first] + found, offsets[-1])

            def unseal(n: int) -> None:
                place = view[starts[n] - starts[first] : starts[n + 1] - starts[first]]
                chunk = stored[offsets[n] - offsets[first] : offsets[n + 1] - offsets[first]]
                stored_chunk = place if stored is view else chunk
                decode_chunk_into(place, stored_chunk, self._chunks, n, self._compression, self._cipher)

            for _ in each(unseal, range(first, end)):
                pass
        except IntegrityError as error:
            raise self._explain(error).at(self._uri) from None
        except XCargoError as error:
            error.at(self._uri)
            raise


def _next(ahead: deque[Future[memoryview]], progress: Progress) -> memoryview:
    piece = ahead.popleft().result()
    progress.advance(len(piece))
    return piece


def short(found: int, stored: int) -> IntegrityError:
    """The error for an object that is not as long as it was stored."""
    return IntegrityError(
        f"The object has {found} bytes, {stored} were stored",
        hint="It was cut short or replaced; run the task that pushed it again.",
    )
