"""Rows of an Arrow file, read from where they lie: of each buffer the bytes of these rows and no others.

So a page of a table costs the same whether the table has a thousand rows or a billion, in one batch or in many.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from xcargo.codecs import ipc
from xcargo.codecs.base import arrow
from xcargo.codecs.table_file import TableFile
from xcargo.errors import DecodeError, UnsupportedTypeError
from xcargo.explorer.payload import Payload

__all__ = ["Rows"]

_SHOWN_BYTES = 1024
"""Of a text or binary in a page whose texts are long."""

_KEPT_BATCHES = 64

_PLENTY_BYTES = 1024 * 1024
"""Text of one column of one page, above which each text is cut."""


class _Place(NamedTuple):
    """Where in a batch a column lies: its first node, buffer and view, and how many nodes and buffers it has."""

    node: int
    nodes: int
    buffer: int
    buffers: int
    view: int


class Rows:
    """The table of an Arrow file. Raises DecodeError for what is no table that we wrote.

    How many rows a batch has stands at its beginning. So what lies in the middle of a table of many batches is found by
    reading the beginnings of those before it, or of those after it if ``total`` is known; ``counts`` keeps them for the
    next look. None is read where the envelope tells the ``batches``, as runs of a number of rows and how often it is.
    """

    def __init__(
        self, payload: Payload, *, total: int | None = None, counts: dict[int, int] | None = None, batches: Any = None
    ) -> None:
        self._pa = arrow()
        self._payload = payload
        self._file = TableFile(payload)
        self.schema = self._file.schema
        _, self._blocks = ipc.blocks(payload.read, payload.size_bytes)
        self._read: dict[int, tuple[ipc.Batch, list[_Place]]] = {}
        self._counts = {} if counts is None else counts
        self._counts.update(_counted(batches, len(self._blocks)))
        self._total = total

    @cached_property
    def count(self) -> int:
        """How many rows there are."""
        if self._total is not None and len(self._blocks) > 1:
            return self._total
        return sum(self._rows_of(n) for n in range(len(self._blocks)))

    def column_bytes(self, number: int) -> int:
        """What a column takes in memory."""
        total = 0
        for n in range(len(self._blocks)):
            batch, places = self._batch(n)
            place = places[number]
            total += sum(end - start for start, end in batch.buffers[place.buffer : place.buffer + place.buffers])
        return total

    def column(self, number: int, start: int, stop: int, *, cut: bool = False) -> Any:
        """The rows of one column as a ``pyarrow.ChunkedArray``. ``cut`` shortens texts where they are long."""
        field = self.schema.field(number)
        start, stop = max(start, 0), min(stop, self.count)
        chunks = []
        for n, first, last in self._spans(start, stop):
            chunks.append(self._slice(n, number, first, last, cut))
        kind = chunks[0].type if chunks else field.type
        return self._pa.chunked_array(chunks, kind)

    def at(self, number: int, rows: Sequence[int]) -> list[Any]:
        """Cells of one column at some rows, in their order; neighbouring rows are read together."""
        found: dict[int, Any] = {}
        for first, last in _runs(sorted(set(rows))):
            cells = self.column(number, first, last, cut=True).to_pylist()
            if len(cells) != last - first:
                raise DecodeError("The table has fewer rows than its envelope tells")
            found.update(zip(range(first, last), cells, strict=True))
        return [found[row] for row in rows]

    def _spans(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Batches that hold some of the rows, with the first and last of these in each; from whichever end is near."""
        found = []
        if self._total is not None and start > self.count // 2:
            end = self.count
            for n in reversed(range(len(self._blocks))):
                begin = end - self._rows_of(n)
                if begin < stop and start < end:
                    found.append((n, max(start - begin, 0), min(stop, end) - begin))
                if begin <= start:
                    break
                end = begin
            yield from reversed(found)
            return
        begin = 0
        for n in range(len(self._blocks)):
            if begin >= stop:
                return
            end = begin + self._rows_of(n)
            if start < end:
                yield n, max(start - begin, 0), min(stop, end) - begin
            begin = end

    def _rows_of(self, n: int) -> int:
        if n not in self._counts:
            self._counts[n] = ipc.rows(self._payload.read, self._payload.size_bytes, self._blocks[n])
        return self._counts[n]

    def _batch(self, n: int) -> tuple[ipc.Batch, list[_Place]]:
        """Where the columns of a batch lie."""
        if n not in self._read:
            if len(self._read) >= _KEPT_BATCHES:
                self._read.clear()
            batch = ipc.batch(self._payload.read, self._payload.size_bytes, self._blocks[n])
            self._read[n] = batch, _places(self._pa, self.schema, batch.variadic)
        return self._read[n]

    def _slice(self, n: int, number: int, first: int, last: int, cut: bool) -> Any:
        batch, places = self._batch(n)
        place = places[number]
        kind = self.schema.field(number).type
        if not _sliceable(self._pa, kind):
            return self._whole(n, number).slice(first, last - first)
        reading = _Reading(self._pa, self._payload, batch, place, cut)
        try:
            array = reading.array(kind, first, last)
            array.validate(full=True)
        except (self._pa.ArrowException, IndexError, struct.error) as error:
            raise DecodeError("The object is not valid Arrow data") from error
        return array

    def _whole(self, n: int, number: int) -> Any:
        """A column of a type that is not read in part."""
        name = self.schema.field(number).name
        self._payload.budget.fits(self.column_bytes(number), f"Column {name[:80]!r}")
        return self._file.column(number).chunk(n)


class _Reading:
    """Takes the buffers of one column, one after another, as its type asks for them."""

    def __init__(self, pa: Any, payload: Payload, batch: ipc.Batch, place: _Place, cut: bool) -> None:
        self._pa = pa
        self._payload = payload
        self._nodes = iter(batch.nodes[place.node : place.node + place.nodes])
        self._buffers = iter(batch.buffers[place.buffer : place.buffer + place.buffers])
        self._variadic = iter(batch.variadic[place.view :])
        self._cut = cut

    def array(self, kind: Any, first: int, last: int) -> Any:
        """Rows ``first`` to ``last`` of the column that comes next."""
        pa = self._pa
        if isinstance(kind, pa.BaseExtensionType):
            kind = kind.storage_type
        rows, _ = next(self._nodes)
        if not 0 <= first <= last <= rows:
            raise DecodeError("The Arrow data claims rows that it does not have")
        if pa.types.is_null(kind):
            return pa.nulls(last - first)
        begin = first & ~7  # a validity bitmap is read from a whole byte on
        validity = self._bits(begin, last, optional=True)
        made = self._made(kind, begin, last, validity)
        return made.slice(first - begin, last - first)

    def _made(self, kind: Any, begin: int, last: int, validity: Any) -> Any:
        pa, types, length = self._pa, self._pa.types, last - begin
        if types.is_boolean(kind):
            return pa.Array.from_buffers(kind, length, [validity, self._bits(begin, last)])
        if types.is_struct(kind):
            children = [self.array(kind.field(n).type, begin, last) for n in range(kind.num_fields)]
            return pa.Array.from_buffers(kind, length, [validity], children=children)
        if types.is_fixed_size_list(kind):
            child = self.array(kind.value_type, begin * kind.list_size, last * kind.list_size)
            return pa.Array.from_buffers(kind, length, [validity], children=[child])
        if _is_view(kind):
            return self._views(kind, begin, last, validity)
        if _is_text(types, kind):
            return self._text(kind, begin, last, validity)
        if types.is_list(kind) or types.is_large_list(kind) or types.is_map(kind):
            offsets, low, high = self._offsets(types.is_large_list(kind), begin, last)
            inner = pa.struct([kind.key_field, kind.item_field]) if types.is_map(kind) else kind.value_type
            child = self.array(inner, low, high)
            return pa.Array.from_buffers(kind, length, [validity, offsets], children=[child])
        width = kind.bit_width // 8
        return pa.Array.from_buffers(kind, length, [validity, self._bytes(begin * width, last * width)])

    def _text(self, kind: Any, begin: int, last: int, validity: Any) -> Any:
        pa, types = self._pa, self._pa.types
        large = types.is_large_string(kind) or types.is_large_binary(kind)
        offsets, low, high = self._offsets(large, begin, last)
        place = next(self._buffers)
        if not self._cut or high - low <= _PLENTY_BYTES:
            data = self._payload.read(place[0] + low, place[0] + self._inside(place, high))
            return pa.Array.from_buffers(kind, last - begin, [validity, offsets, pa.py_buffer(data)])
        form = f"<{last - begin + 1}{'q' if large else 'i'}"
        ends = [low + offset for offset in struct.unpack(form, offsets)]
        pieces, shorter = [], [0]
        for start, end in itertools.pairwise(ends):
            end = min(end, start + _SHOWN_BYTES)
            piece = bytes(self._payload.read(place[0] + start, place[0] + self._inside(place, end)))
            if types.is_string(kind) or types.is_large_string(kind):
                piece = piece.decode("utf-8", "ignore").encode()
            pieces.append(piece)
            shorter.append(shorter[-1] + len(piece))
        buffers = [validity, pa.py_buffer(struct.pack(form, *shorter)), pa.py_buffer(b"".join(pieces))]
        return pa.Array.from_buffers(kind, last - begin, buffers)

    def _views(self, kind: Any, begin: int, last: int, validity: Any) -> Any:
        """Views as plain texts: 16 bytes each, which hold the text or say where in which buffer it lies."""
        views = bytes(self._bytes(begin * 16, last * 16))
        places = [next(self._buffers) for _ in range(next(self._variadic))]
        known = None if validity is None else memoryview(validity)
        texts: list[bytes | None] = []
        far: dict[int, list[tuple[int, int, int]]] = {}
        for n in range(last - begin):
            length, _, buffer, offset = struct.unpack_from("<i4sii", views, n * 16)
            if known is not None and not known[n // 8] >> n % 8 & 1:
                texts.append(None)
            elif 0 <= length <= 12:
                texts.append(views[n * 16 + 4 : n * 16 + 4 + length])
            elif not 0 <= buffer < len(places) or length < 0 or offset < 0:
                raise DecodeError("The Arrow data has a text outside its buffers")
            else:
                texts.append(b"")
                self._inside(places[buffer], offset + length)
                shown = min(length, _SHOWN_BYTES) if self._cut else length
                far.setdefault(buffer, []).append((n, offset, offset + shown))
        for buffer, wanted in far.items():
            for n, data in self._pieces(places[buffer][0], wanted):
                texts[n] = data.decode("utf-8", "ignore").encode() if "string" in str(kind) else data
        plain = self._pa.array(texts, self._pa.large_binary())
        return plain.cast(self._pa.large_string()) if "string" in str(kind) else plain

    def _pieces(self, start: int, wanted: list[tuple[int, int, int]]) -> Iterator[tuple[int, bytes]]:
        """Number and bytes of each piece of a buffer; in one read, where they lie close together."""
        low, high = min(begin for _, begin, _ in wanted), max(end for *_, end in wanted)
        if high - low <= max(_PLENTY_BYTES, 4 * sum(end - begin for _, begin, end in wanted)):
            data = bytes(self._payload.read(start + low, start + high))
            yield from ((n, data[begin - low : end - low]) for n, begin, end in wanted)
            return
        for n, begin, end in wanted:
            yield n, bytes(self._payload.read(start + begin, start + end))

    def _offsets(self, large: bool, begin: int, last: int) -> tuple[Any, int, int]:
        """Offsets of these rows, from zero on, and where in the child the rows begin and end."""
        width, letter = (8, "q") if large else (4, "i")
        if last == begin:
            next(self._buffers)
            return self._pa.py_buffer(bytes(width)), 0, 0
        data = self._bytes(begin * width, (last + 1) * width)
        count = last - begin + 1
        offsets = struct.unpack(f"<{count}{letter}", data)
        low, high = offsets[0], offsets[-1]
        if low < 0 or any(b < a for a, b in itertools.pairwise(offsets)):
            raise DecodeError("The Arrow data has offsets that run backwards")
        moved = struct.pack(f"<{count}{letter}", *(offset - low for offset in offsets))
        return self._pa.py_buffer(moved), low, high

    def _bits(self, begin: int, last: int, *, optional: bool = False) -> Any:
        place = next(self._buffers)
        if optional and place[0] == place[1]:
            return None
        start, stop = begin // 8, (last + 7) // 8
        return self._pa.py_buffer(self._payload.read(place[0] + start, place[0] + self._inside(place, stop)))

    def _bytes(self, start: int, stop: int) -> Any:
        place = next(self._buffers)
        return self._pa.py_buffer(self._payload.read(place[0] + start, place[0] + self._inside(place, stop)))

    @staticmethod
    def _inside(place: tuple[int, int], offset: int) -> int:
        if offset > place[1] - place[0]:
            raise DecodeError("The Arrow data claims more than its buffers hold")
        return offset


def _counted(batches: Any, count: int) -> dict[int, int]:
    """Rows of each of so many batches by what an envelope tells; nothing if it does not fit. Who reads them checks."""
    try:
        if all(type(n) is int and n >= 0 for run in batches for n in run) and sum(n for _, n in batches) == count:
            runs = (itertools.repeat(rows, times) for rows, times in batches)
            return dict(enumerate(itertools.chain.from_iterable(runs)))
    except (TypeError, ValueError):
        pass
    return {}


def _runs(rows: list[int]) -> Iterator[tuple[int, int]]:
    """Neighbouring rows as ranges."""
    first = None
    for n, row in enumerate(rows):
        first = row if first is None else first
        if n + 1 == len(rows) or rows[n + 1] != row + 1:
            yield first, row + 1
            first = None


def _places(pa: Any, schema: Any, variadic: Sequence[int]) -> list[_Place]:
    """Where the nodes and buffers of each column lie in a batch."""
    places: list[_Place] = []
    node = buffer = view = 0
    left = iter(variadic)
    for field in schema:
        nodes, buffers, views = _counts(pa, field.type, left)
        places.append(_Place(node, nodes, buffer, buffers, view))
        node, buffer, view = node + nodes, buffer + buffers, view + views
    return places


def _counts(pa: Any, kind: Any, variadic: Iterator[int]) -> tuple[int, int, int]:
    """How many nodes, buffers and columns of views a type has."""
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return _counts(pa, kind.storage_type, variadic)
    if types.is_null(kind):
        return 1, 0, 0
    if _is_view(kind):
        return 1, 2 + next(variadic, 0), 1
    if types.is_dictionary(kind):
        return _counts(pa, kind.index_type, variadic)
    if types.is_union(kind) or "view" in str(kind) or "run_end" in str(kind):
        raise UnsupportedTypeError(
            f"A column of type {str(kind)[:80]} cannot be shown in part", hint="Download the table."
        )
    own = 1 if types.is_struct(kind) or types.is_fixed_size_list(kind) else 3 if _is_text(types, kind) else 2
    children = [kind.field(n).type for n in range(kind.num_fields)] if types.is_nested(kind) else []
    if types.is_map(kind):
        children = [pa.struct([kind.key_field, kind.item_field])]
    counts = [_counts(pa, child, variadic) for child in children]
    return 1 + sum(n for n, _, _ in counts), own + sum(b for _, b, _ in counts), sum(v for *_, v in counts)


def _sliceable(pa: Any, kind: Any) -> bool:
    """Whether rows can be read in part: not where a dictionary lies beside them."""
    if isinstance(kind, pa.BaseExtensionType):
        return _sliceable(pa, kind.storage_type)
    if pa.types.is_dictionary(kind):
        return False
    if pa.types.is_map(kind):
        return _sliceable(pa, kind.key_type) and _sliceable(pa, kind.item_type)
    return not pa.types.is_nested(kind) or all(_sliceable(pa, kind.field(n).type) for n in range(kind.num_fields))


def _is_view(kind: Any) -> bool:
    return str(kind) in ("string_view", "binary_view")


def _is_text(types: Any, kind: Any) -> bool:
    return bool(
        types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind) or types.is_large_binary(kind)
    )
