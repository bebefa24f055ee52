"""Rows of an Arrow file: of each buffer the bytes of these rows are read and no others.

So a page of a table costs the same whether the table has a thousand rows or a billion, in one batch or in many.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from xcargo.codecs import ipc
from xcargo.codecs.base import arrow, importable
from xcargo.codecs.table_file import TableFile
from xcargo.errors import DecodeError
from xcargo.explorer.limits import Payload

__all__ = ["Rows"]

_SHOWN_BYTES = 1024
"""Of a text or binary in a page whose texts are long."""

_LONG_BYTES = 1024 * 1024
"""Text of one column of one page, above which each text is shortened."""

_MAX_BATCHES = 64


class ColumnLayout(NamedTuple):
    """The first node, buffer and column of views of a column in its batch, and how many of each it has."""

    node: int
    buffer: int
    view: int
    nodes: int
    buffers: int
    views: int


class Rows:
    """The table of an Arrow file. Raises DecodeError for what is not a table that we wrote.

    The number of rows of a batch is at its beginning. So rows in the middle of a table of many batches are found by
    reading the beginnings of those before it, or behind it if the envelope's ``params`` have the ``shape``; none is
    read if they have the ``batches``, as runs of a number of rows and how often it occurs.
    """

    def __init__(self, payload: Payload, params: Mapping[str, Any]) -> None:
        self._pa = arrow()
        self._payload = payload
        self._file = TableFile(payload)
        self.schema = self._file.schema
        self._blocks = self._file.batch_ranges
        self._batches: dict[int, tuple[ipc.Batch, list[ColumnLayout]]] = {}
        self._lengths = _lengths(params.get("batches"), len(self._blocks))
        self._whole_columns: dict[int, Any] = {}
        shape = params.get("shape")
        self._total = shape[0] if isinstance(shape, list) and shape and type(shape[0]) is int else None

    @cached_property
    def count(self) -> int:
        """How many rows there are."""
        if self._total is not None and len(self._blocks) > 1:
            return self._total
        return sum(map(self._length, range(len(self._blocks))))

    def column_bytes(self, number: int) -> int:
        """What a column takes in memory."""
        total = 0
        for n in range(len(self._blocks)):
            batch, layouts = self._batch(n)
            total += _bytes_of(batch, layouts[number])
        return total

    def column(self, number: int, start: int, stop: int, *, shorten: bool = False) -> Any:
        """Some rows of one column as a ``pyarrow.ChunkedArray``; ``shorten`` cuts texts where they are long."""
        spans = self._spans(max(start, 0), min(stop, self.count))
        chunks = [self._slice(n, number, first, last, shorten) for n, first, last in spans]
        return self._chunked(number, chunks)

    def at(self, number: int, rows: Sequence[int]) -> Any:
        """The cells of one column at some rows, in their order, shortened; neighbouring rows are read together."""
        distinct = sorted(set(rows))
        chunks: list[Any] = []
        runs = itertools.groupby(enumerate(distinct), key=lambda pair: pair[1] - pair[0])
        for _, run in runs:
            numbers = [row for _, row in run]
            chunks += self.column(number, numbers[0], numbers[-1] + 1, shorten=True).chunks
        cells = self._chunked(number, chunks)
        if len(cells) != len(distinct):
            raise DecodeError("The table has fewer rows than its envelope says")
        positions = {row: n for n, row in enumerate(distinct)}
        wanted = [positions[row] for row in rows]
        try:
            return cells.take(self._pa.array(wanted, self._pa.int64()))
        except self._pa.ArrowNotImplementedError:  # of types that few functions of pyarrow take
            return self._chunked(number, [chunk for n in wanted for chunk in cells.slice(n, 1).chunks])

    def _chunked(self, number: int, chunks: list[Any]) -> Any:
        kind = self.schema.field(number).type
        kind = kind if _is_whole(kind) else _read_type(kind)
        return self._pa.chunked_array(chunks, chunks[0].type if chunks else kind)

    def windows(self, columns: Sequence[int], max_bytes: int) -> Iterator[tuple[int, int, int]]:
        """Batch, first and last of ranges of rows, in order, of which no column takes much more than ``max_bytes``."""
        for n in range(len(self._blocks)):
            batch, layouts = self._batch(n)
            largest = max((_bytes_of(batch, layouts[number]) for number in columns), default=0)
            step = max(8, batch.rows * max_bytes // max(largest, batch.rows, 1)) & ~7  # bitmaps have eight rows a byte
            for first in range(0, batch.rows, step):
                yield n, first, min(first + step, batch.rows)

    def cells(self, number: int, window: tuple[int, int, int]) -> Any:
        """One column of one of the `windows` as a ``pyarrow.Array``."""
        return self._slice(window[0], number, *window[1:], False)

    def _spans(self, start: int, stop: int) -> list[tuple[int, int, int]]:
        """Batches that hold some of the rows, with the first and last of these in each; from whichever end is near."""
        backwards = self._total is not None and start > self.count // 2
        numbers, spans = range(len(self._blocks)), []
        position = self.count if backwards else 0
        for n in reversed(numbers) if backwards else numbers:
            if position <= start if backwards else position >= stop:
                break
            length = self._length(n)
            begin = position - length if backwards else position
            if begin < stop and start < begin + length:
                spans.append((n, max(start - begin, 0), min(stop - begin, length)))
            position = begin if backwards else begin + length
        return spans[::-1] if backwards else spans

    def _length(self, n: int) -> int:
        if n not in self._lengths:
            read, size = self._payload.read, self._payload.size_bytes
            find = lambda: ipc.batch(read, size, self._blocks[n]).rows  # noqa: E731
            self._lengths[n] = self._payload.remembered("rows", n, find)
        return self._lengths[n]

    def _batch(self, n: int) -> tuple[ipc.Batch, list[ColumnLayout]]:
        if n not in self._batches:
            if len(self._batches) >= _MAX_BATCHES:
                self._batches.clear()
            batch = ipc.batch(self._payload.read, self._payload.size_bytes, self._blocks[n])
            self._batches[n] = batch, _layouts(self.schema, batch.variadic)
        return self._batches[n]

    def _slice(self, n: int, number: int, first: int, last: int, shorten: bool) -> Any:
        batch, layouts = self._batch(n)
        kind = self.schema.field(number).type
        if _is_whole(kind):
            return self._whole_column(number).chunk(n).slice(first, last - first)
        reader = _ColumnReader(self._payload, batch, layouts[number], shorten=shorten)
        try:
            array = reader.array(kind, first, last)
            array.validate(full=True)
        except (self._pa.ArrowException, IndexError, StopIteration, struct.error) as error:
            raise DecodeError("The object is not valid Arrow data") from error
        return array

    def _whole_column(self, number: int) -> Any:
        """A column of which pyarrow has to read the whole, within the budget."""
        if number not in self._whole_columns:
            name = self.schema.field(number).name
            self._payload.budget.check_size(self.column_bytes(number), f"Column {name[:80]!r}")
            self._whole_columns[number] = self._file.column(number)
        return self._whole_columns[number]


class _ColumnReader:
    """Reads some rows of one column of one batch, taking its nodes and buffers in the order of its type.

    pyarrow reads a column of a batch as a whole, and a batch may hold gigabytes. So the ranges of the rows are read
    here, and pyarrow makes arrays of them and checks them.
    """

    def __init__(self, payload: Payload, batch: ipc.Batch, layout: ColumnLayout, *, shorten: bool) -> None:
        self._pa = arrow()
        self._compute = importable("pyarrow.compute", "a table", extra="arrow")
        self._payload = payload
        self._nodes = iter(batch.nodes[layout.node : layout.node + layout.nodes])
        self._buffers = iter(batch.buffers[layout.buffer : layout.buffer + layout.buffers])
        self._variadic = iter(batch.variadic[layout.view :])
        self._shorten = shorten

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
        begin = first & ~7  # bitmaps are read from a whole byte on
        buffer = next(self._buffers)
        validity = self._range(buffer, begin // 8, (last + 7) // 8) if buffer[0] < buffer[1] else None
        return self._filled(kind, begin, last, validity).slice(first - begin, last - first)

    def _filled(self, kind: Any, begin: int, last: int, validity: Any) -> Any:
        pa, types, count = self._pa, self._pa.types, last - begin
        if _is_view(kind):
            return self._views(kind, begin, last, validity)
        if _is_text(kind):
            return self._texts(kind, begin, last, validity)
        buffers, children = [validity], []
        if types.is_struct(kind):
            children = [self.array(kind.field(n).type, begin, last) for n in range(kind.num_fields)]
        elif types.is_fixed_size_list(kind):
            children = [self.array(kind.value_type, begin * kind.list_size, last * kind.list_size)]
        elif types.is_list(kind) or types.is_large_list(kind) or types.is_map(kind):
            offsets, low, high = self._offsets(types.is_large_list(kind), begin, last)
            (inner,) = _child_types(kind)
            items = self.array(inner, low, high)
            if types.is_map(kind):  # Arrow ignores the offset of its items
                items = pa.StructArray.from_arrays(items.flatten(), fields=list(items.type))
            buffers, children = [validity, offsets], [items]
        elif types.is_boolean(kind):
            buffers.append(self._range(next(self._buffers), begin // 8, (last + 7) // 8))
        else:
            width = kind.bit_width // 8
            buffers.append(self._range(next(self._buffers), begin * width, last * width))
        return pa.Array.from_buffers(_read_type(kind), count, buffers, children=children or None)

    def _texts(self, kind: Any, begin: int, last: int, validity: Any) -> Any:
        large = self._pa.types.is_large_string(kind) or self._pa.types.is_large_binary(kind)
        offsets, low, high = self._offsets(large, begin, last)
        buffer = next(self._buffers)
        if not self._shorten or high - low <= _LONG_BYTES:
            buffers = [validity, offsets, self._range(buffer, low, high)]
            return self._pa.Array.from_buffers(kind, last - begin, buffers)
        width = self._pa.int64() if large else self._pa.int32()
        ends = self._pa.Array.from_buffers(width, last - begin + 1, [None, offsets]).to_pylist()
        spans = [(low + start, low + min(end, start + _SHOWN_BYTES)) for start, end in itertools.pairwise(ends)]
        return self._array_of(kind, self._read_spans(buffer, spans), validity).cast(kind)

    def _views(self, kind: Any, begin: int, last: int, validity: Any) -> Any:
        """Views, of 16 bytes each, which hold a short text or say where in which buffer a long one is."""
        views = bytes(self._range(next(self._buffers), begin * 16, last * 16))
        buffers = [next(self._buffers) for _ in range(next(self._variadic))]
        valid = self._bits(validity, last - begin)
        texts: list[bytes] = [b""] * (last - begin)
        elsewhere: dict[int, dict[int, tuple[int, int]]] = {}
        for n, (length, _, number, offset) in enumerate(struct.iter_unpack("<i4sii", views)):
            if not valid[n]:
                continue
            if 0 <= length <= 12:
                texts[n] = views[n * 16 + 4 : n * 16 + 4 + length]
            elif not 0 <= number < len(buffers) or length < 0 or offset < 0:
                raise DecodeError("The Arrow data has a text outside its buffers")
            else:
                end = offset + (min(length, _SHOWN_BYTES) if self._shorten else length)
                elsewhere.setdefault(number, {})[n] = (offset, end)
        for number, spans in elsewhere.items():
            for n, text in zip(spans, self._read_spans(buffers[number], list(spans.values())), strict=True):
                texts[n] = text
        return self._array_of(kind, texts, validity)

    def _array_of(self, kind: Any, texts: list[bytes], validity: Any) -> Any:
        """Texts, of which the last character may be cut, or binaries."""
        cells = zip(texts, self._bits(validity, len(texts)), strict=True)
        if "string" in str(kind):
            texts_or_none = [text.decode("utf-8", "ignore") if valid else None for text, valid in cells]
            return self._pa.array(texts_or_none, self._pa.large_string())
        return self._pa.array([text if valid else None for text, valid in cells], self._pa.large_binary())

    def _read_spans(self, buffer: tuple[int, int], spans: list[tuple[int, int]]) -> list[bytes]:
        """The bytes of each span of a buffer; in one read, where they are close together."""
        low, high = min(start for start, _ in spans), max(end for _, end in spans)
        if high - low <= max(_LONG_BYTES, 4 * sum(end - start for start, end in spans)):
            data = bytes(self._range(buffer, low, high))
            return [data[start - low : end - low] for start, end in spans]
        return [bytes(self._range(buffer, start, end)) for start, end in spans]

    def _offsets(self, large: bool, begin: int, last: int) -> tuple[Any, int, int]:
        """Offsets of these rows, from zero on, and where in the child the rows begin and end."""
        kind, buffer = self._pa.int64() if large else self._pa.int32(), next(self._buffers)
        if last == begin:
            return self._pa.py_buffer(bytes(8)), 0, 0
        width = kind.bit_width // 8
        buffers = [None, self._range(buffer, begin * width, (last + 1) * width)]
        offsets = self._pa.Array.from_buffers(kind, last - begin + 1, buffers)
        low, high = offsets[0].as_py(), offsets[-1].as_py()
        if not 0 <= low <= high:
            raise DecodeError("The Arrow data has offsets that run backwards")
        return self._compute.subtract(offsets, offsets[0]).buffers()[1], low, high

    def _bits(self, validity: Any, count: int) -> list[bool]:
        if validity is None:
            return [True] * count
        bits: list[bool] = self._pa.Array.from_buffers(self._pa.bool_(), count, [None, validity]).to_pylist()
        return bits

    def _range(self, buffer: tuple[int, int], start: int, stop: int) -> Any:
        if not 0 <= start <= stop <= buffer[1] - buffer[0]:
            raise DecodeError("The Arrow data claims more than its buffers hold")
        return self._pa.py_buffer(self._payload.read(buffer[0] + start, buffer[0] + stop))


def _lengths(batches: Any, count: int) -> dict[int, int]:
    """Rows of each of ``count`` batches by an envelope; nothing if it does not fit. What is read of them is checked."""
    try:
        if all(type(n) is int and n >= 0 for run in batches for n in run) and sum(n for _, n in batches) == count:
            runs = (itertools.repeat(rows, times) for rows, times in batches)
            return dict(enumerate(itertools.chain.from_iterable(runs)))
    except (TypeError, ValueError):
        pass
    return {}


def _bytes_of(batch: ipc.Batch, layout: ColumnLayout) -> int:
    return sum(end - start for start, end in batch.buffers[layout.buffer : layout.buffer + layout.buffers])


def _layouts(schema: Any, variadic: Sequence[int]) -> list[ColumnLayout]:
    layouts: list[ColumnLayout] = []
    node = buffer = view = 0
    unused = iter(variadic)
    for field in schema:
        sizes = _sizes(field.type, unused)
        layouts.append(ColumnLayout(node, buffer, view, *sizes))
        node, buffer, view = node + sizes[0], buffer + sizes[1], view + sizes[2]
    return layouts


def _sizes(kind: Any, variadic: Iterator[int]) -> tuple[int, int, int]:
    """How many nodes, buffers and columns of views a type has."""
    pa, types = arrow(), arrow().types
    if isinstance(kind, pa.BaseExtensionType):
        return _sizes(kind.storage_type, variadic)
    if types.is_null(kind):
        return 1, 0, 0
    if _is_view(kind):
        return 1, 2 + next(variadic, 0), 1
    if types.is_dictionary(kind):
        return _sizes(kind.index_type, variadic)
    own = 1 if types.is_struct(kind) or types.is_fixed_size_list(kind) else 3 if _is_text(kind) else 2
    if _has_no_ranges(kind):  # the types and offsets of unions; the offsets and sizes of views; the ends are a child
        own = {"sparse_union": 1, "dense_union": 2, "run_end_encoded": 0}.get(str(kind).partition("<")[0], 3)
    sizes = [(1, own, 0), *(_sizes(child, variadic) for child in _child_types(kind))]
    return sum(n for n, _, _ in sizes), sum(n for _, n, _ in sizes), sum(n for _, _, n in sizes)


def _read_type(kind: Any) -> Any:
    """The type in which a column is read: at any depth texts in place of views, and the storage of extension types."""
    pa = arrow()
    if isinstance(kind, pa.BaseExtensionType):
        return _read_type(kind.storage_type)
    if _is_view(kind):
        return pa.large_string() if str(kind) == "string_view" else pa.large_binary()
    if pa.types.is_map(kind):
        return pa.map_(*(field.with_type(_read_type(field.type)) for field in (kind.key_field, kind.item_field)))
    if not pa.types.is_nested(kind):
        return kind
    fields = [kind.field(n).with_type(_read_type(kind.field(n).type)) for n in range(kind.num_fields)]
    if pa.types.is_struct(kind):
        return pa.struct(fields)
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(fields[0], kind.list_size)
    return pa.large_list(fields[0]) if pa.types.is_large_list(kind) else pa.list_(fields[0])


def _child_types(kind: Any) -> list[Any]:
    pa = arrow()
    if pa.types.is_map(kind):
        return [pa.struct([kind.key_field, kind.item_field])]
    if str(kind).startswith("run_end_encoded"):
        return [kind.run_end_type, kind.value_type]
    return [kind.field(n).type for n in range(kind.num_fields)] if pa.types.is_nested(kind) else []


def _is_whole(kind: Any) -> bool:
    """Whether a column, or one inside it, holds codes whose texts are elsewhere in the file, or has no ranges."""
    pa = arrow()
    if isinstance(kind, pa.BaseExtensionType):
        return _is_whole(kind.storage_type)
    return bool(pa.types.is_dictionary(kind)) or _has_no_ranges(kind) or any(map(_is_whole, _child_types(kind)))


def _has_no_ranges(kind: Any) -> bool:
    """Whether it is rare enough that no range of its rows is read."""
    return str(kind).startswith(("sparse_union", "dense_union", "list_view", "large_list_view", "run_end_encoded"))


def _is_view(kind: Any) -> bool:
    return str(kind) in ("string_view", "binary_view")


def _is_text(kind: Any) -> bool:
    return str(kind) in ("string", "large_string", "binary", "large_binary")
