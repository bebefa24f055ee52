"""Arrow IPC files: written without compression; read as untrusted bytes."""

from __future__ import annotations

import io
import os
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

from xcargo.codecs.base import arrow
from xcargo.codecs.extension_types import register_types
from xcargo.errors import DecodeError, UnsupportedTypeError, XCargoError
from xcargo.types import Buffer

__all__ = [
    "Batch",
    "Sink",
    "batch",
    "blocks",
    "check",
    "check_values",
    "culprit",
    "read",
    "read_stream",
    "write",
]

_Range = tuple[int, int]
"""Start and end in a file."""
_Read = Callable[[int, int], Buffer]

_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3
_MAX_ROWS = 2**32
"""Of one batch; so many nulls take no bytes."""
_LARGE_BYTES = 16 * 1024 * 1024
"""A table from which on threads are worth their start."""
_SMALL_BYTES = 64 * 1024
"""Writes below this are copied together."""


def write(table: Any) -> list[Buffer]:
    """A table or record batch as the buffers of an IPC file. Large ones are the columns' own memory: nothing is copied.

    Raises UnsupportedTypeError naming the column that Arrow cannot write.
    """
    pa = arrow()
    try:
        if isinstance(table, pa.Table):  # a file holds one dictionary a column, for all its chunks
            table = table.unify_dictionaries()
        return _written(pa, table)
    except (pa.ArrowException, NotImplementedError) as error:
        columns = ((field.name, field.type, table.select([n])) for n, field in enumerate(table.schema))
        raise UnsupportedTypeError(
            f"Arrow cannot store {culprit(columns, lambda part: _written(pa, part))}: {error}",
            hint="Convert the column before returning it.",
        ) from error


def check_values(table: Any) -> None:
    """Raise UnsupportedTypeError for values that `read` would refuse, such as text of a file that is not UTF-8.

    Text that is ASCII is passed over: to check it takes ten times as long as to see that.
    """
    for field, column in zip(table.schema, table.columns, strict=True):
        for chunk in getattr(column, "chunks", [column]):
            try:
                if not _is_ascii(chunk):
                    chunk.validate(full=True)
            except arrow().ArrowException as error:
                raise UnsupportedTypeError(
                    f"Column {field.name[:80]!r} has a value that is none of its type: {error}",
                    hint="Repair it where it comes from, or cast the column to binary or to integers.",
                ) from error


def _is_ascii(array: Any) -> bool:
    np = sys.modules.get("numpy")
    if np is None or str(array.type) not in ("string", "large_string"):
        return False
    data = array.buffers()[2]
    if data is None or data.size > 2 * array.nbytes:  # it is a part of a larger one
        return False
    return bool(np.frombuffer(data, np.uint8).max(initial=0) < 128)


def read(payload: Buffer, extensions: object = None) -> Any:
    """The table of a file that `write` wrote, checked to the last value; shares the payload's memory.

    Args:
        payload: The whole file.
        extensions: What `extension_params` gave at the push; by default whatever is not registered here counts.

    Raises:
        DecodeError: For anything else.
        MissingDependencyError: For an extension type that cannot be registered here.
    """
    check(payload)
    table = _table(payload, "open_file", extensions)
    try:
        _validate(table, len(payload))
    except arrow().ArrowException as error:
        raise DecodeError(f"The object is not a valid Arrow file: {error}") from error
    return table


def read_stream(payload: Buffer) -> Any:
    """The table of an IPC stream, as small parts of a value are stored. Checks and raises as `read` does."""
    check(payload, stream=True)
    table = _table(payload, "open_stream")
    try:
        table.validate(full=True)
    except arrow().ArrowException as error:
        raise DecodeError(f"The object is not a valid Arrow stream: {error}") from error
    return table


def _table(payload: Buffer, opener: str, extensions: object = None) -> Any:
    pa = arrow()

    def read_all() -> Any:
        with getattr(pa.ipc, opener)(pa.py_buffer(payload)) as reader:
            return reader.read_all()

    try:
        table = read_all()
        if register_types(table.schema, extensions):
            table = read_all()
            register_types(table.schema, extensions, again=True)
    except (pa.ArrowException, OSError, OverflowError) as error:
        raise DecodeError(f"The object is not valid Arrow data: {error}") from error
    return table


def culprit(columns: Iterable[tuple[str, Any, Any]], write: Callable[[Any], object]) -> str:
    """``column 'x' of type t``: the first of the columns, as name, type and table, that ``write`` fails for."""
    for name, kind, part in columns:
        try:
            write(part)
        except Exception:
            return f"column {name[:80]!r} of type {str(kind)[:80]}"
    return "the table"


def check(payload: Buffer, *, stream: bool = False) -> None:
    """Raise DecodeError unless every buffer of the file (or stream) is inside it, and none is compressed.

    A few compressed bytes may claim any amount of memory, and readers allocate what a buffer claims: Polars ends the
    process when there is not so much. We compress objects as a whole, within the bound that the envelope gives.
    """
    view = memoryview(payload)
    if not stream:

        def read(start: int, end: int) -> memoryview:
            return view[start:end]

        for message_range in chain(*blocks(read, len(view))):
            batch(read, len(view), message_range)
        return
    with _decode_errors():
        at = 0
        while at + 8 <= len(view):
            message, body_bytes, at = _message(view, at)
            if message is None:
                return
            _checked_batch(message, body_bytes)


def blocks(read: _Read, size_bytes: int) -> tuple[list[_Range], list[_Range]]:
    """Ranges of the messages of a file's dictionaries and of its batches, each without its body.

    Args:
        read: Gives a range of the file.
        size_bytes: Length of the file.

    Raises:
        DecodeError: If the file has no valid footer.
    """
    with _decode_errors():
        if size_bytes < 18:
            raise ValueError
        tail = bytes(read(size_bytes - 10, size_bytes))
        (length,) = struct.unpack_from("<i", tail)
        if tail[4:] != b"ARROW1" or not 0 < length <= size_bytes - 18:
            raise ValueError
        footer = _Table.root(memoryview(read(size_bytes - 10 - length, size_bytes - 10)))
        return list(footer.blocks(_DICTIONARY_BATCH)), list(footer.blocks(_RECORD_BATCH))


@dataclass(frozen=True)
class Batch:
    """The layout of a record batch in a file.

    Attributes:
        rows: Number of rows.
        nodes: Numbers of values and of nulls of each column and of each column inside it, depth first.
        buffers: Range in the file of each buffer, in the same order.
        variadic: How many buffers of text each column of views has, beside its views.
    """

    rows: int
    nodes: tuple[tuple[int, int], ...]
    buffers: tuple[_Range, ...]
    variadic: tuple[int, ...]


def batch(read: _Read, size_bytes: int, message_range: _Range) -> Batch:
    """The layout of the batch at one of the `blocks`. Raises DecodeError as `check` does."""
    with _decode_errors():
        start, end = message_range
        if not 0 <= start < end <= size_bytes:
            raise ValueError
        message, body_bytes, _ = _message(memoryview(read(start, end)), 0, beyond=size_bytes - end)
        table = message and _checked_batch(message, body_bytes)
        if table is None:
            raise ValueError
        return Batch(
            table.integer(0),
            tuple(table.pairs(1)),
            tuple((end + offset, end + offset + length) for offset, length in table.pairs(2)),
            tuple(table.integers(4)),
        )


@contextmanager
def _decode_errors() -> Iterator[None]:
    try:
        yield
    except XCargoError:
        raise
    except (IndexError, struct.error, ValueError) as error:
        raise DecodeError("The object is not valid Arrow data") from error


def _checked_batch(message: _Table, body_bytes: int) -> _Table | None:
    """The batch in a message, if there is one and it claims no more than it has."""
    kind, batch = message.position(1), message.child(2)
    if kind is None or batch is None or message.data[kind] not in (_DICTIONARY_BATCH, _RECORD_BATCH):
        return None
    if message.data[kind] == _DICTIONARY_BATCH:
        batch = batch.child(1)
    if batch is not None:
        _check_batch(batch, body_bytes)
    return batch


def _check_batch(batch: _Table, body_bytes: int) -> None:
    if batch.position(3) is not None:
        raise DecodeError("The Arrow data is compressed by itself, which xcargo does not write")
    buffers = list(batch.pairs(2))
    for offset, length in buffers:
        if offset < 0 or length < 0 or offset + length > body_bytes:
            raise DecodeError("The Arrow data claims a buffer that it does not have")
    for length, nulls in ((batch.integer(0), 0), *batch.pairs(1)):
        if not 0 <= nulls <= length <= _MAX_ROWS:
            raise DecodeError(f"The Arrow data claims a column of {length} values")
    if any(not 0 <= count <= len(buffers) for count in batch.integers(4)):
        raise DecodeError("The Arrow data claims buffers that it does not have")


def _validate(table: Any, size_bytes: int) -> None:
    """Check every value; those of a large table by a few threads, column by column, since texts take their time."""
    table.validate()
    if size_bytes < _LARGE_BYTES:
        for column in table.columns:
            _validate_column(column)
        return
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="xcargo-check") as pool:
        for _ in pool.map(_validate_column, table.columns):
            pass


def _validate_column(column: Any) -> None:
    for chunk in column.chunks:
        if _is_ascii(chunk):  # as bytes, a tenth of the time is left: text is checked character by character
            chunk = chunk.view(str(chunk.type).replace("string", "binary"))
        chunk.validate(full=True)


def _written(pa: Any, table: Any) -> list[Buffer]:
    sink = Sink()
    with pa.ipc.new_file(pa.PythonFile(sink, mode="w"), table.schema) as file:
        file.write(table)
    return sink.take()


class Sink(io.RawIOBase):
    """A file whose content is taken as buffers. Large ones are the writer's memory, not copies."""

    def __init__(self) -> None:
        self._buffers: list[Buffer] = []
        self._small = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        if len(view) < _SMALL_BYTES:
            self._small += view
        else:
            self._end_small()
            self._buffers.append(view)
        return len(view)

    def take(self) -> list[Buffer]:
        """The buffers since the last call."""
        self._end_small()
        buffers, self._buffers = self._buffers, []
        return buffers

    def _end_small(self) -> None:
        if self._small:
            self._buffers.append(self._small)
            self._small = bytearray()


def _message(data: memoryview, at: int, *, beyond: int = 0) -> tuple[_Table | None, int, int]:
    """The message that begins there (None at the end of a stream), length of its body, and where the next begins.

    ``beyond`` is how many bytes there are beyond ``data``, in which the body may be.
    """
    if not 0 <= at <= len(data) - 8:
        raise ValueError
    marker, length = struct.unpack_from("<Ii", data, at)
    start = at + 8
    if marker != 0xFFFFFFFF:  # as written before Arrow 0.15
        start, length = at + 4, marker
    if length <= 0:
        return None, 0, at
    message = _Table.root(data[start:])
    body_bytes = message.integer(3)
    if not 0 <= body_bytes <= len(data) + beyond - start - length:
        raise ValueError
    return message, body_bytes, start + length + body_bytes


class _Table:
    """A table of a FlatBuffer, as far as it takes to find fields in it."""

    def __init__(self, data: memoryview, at: int) -> None:
        self.data = data
        self._at = at
        self._fields = at - self._number("<i", at)

    @classmethod
    def root(cls, data: memoryview) -> _Table:
        (at,) = struct.unpack_from("<I", data, 0)
        return cls(data, at)

    def position(self, field: int) -> int | None:
        """Where the value of a field begins; None if it is not there."""
        slot = 4 + 2 * field
        if slot + 2 > self._number("<H", self._fields):
            return None
        offset = self._number("<H", self._fields + slot)
        return self._at + offset if offset else None

    def integer(self, field: int) -> int:
        """The value of a field of 64 bits."""
        at = self.position(field)
        return 0 if at is None else self._number("<q", at)

    def child(self, field: int) -> _Table | None:
        """The table that a field refers to."""
        at = self.position(field)
        return None if at is None else _Table(self.data, at + self._number("<I", at))

    def blocks(self, field: int) -> Iterator[_Range]:
        """Start and end of the messages in a vector of blocks."""
        return ((offset, offset + length) for offset, length in self._vector(field, "<qi12x"))

    def pairs(self, field: int) -> Iterator[tuple[int, int]]:
        """A vector of pairs of integers: offset and length of buffers, or lengths of columns."""
        return self._vector(field, "<qq")

    def integers(self, field: int) -> Iterator[int]:
        """A vector of integers."""
        return (number for (number,) in self._vector(field, "<q"))

    def _vector(self, field: int, form: str) -> Iterator[Any]:
        at = self.position(field)
        if at is None:
            return iter(())
        at += self._number("<I", at)
        size = self._number("<I", at) * struct.calcsize(form)
        if size > len(self.data) - at - 4:
            raise ValueError(size)
        return struct.iter_unpack(form, self.data[at + 4 : at + 4 + size])

    def _number(self, form: str, at: int) -> int:
        if at < 0:
            raise ValueError(at)
        number: int = struct.unpack_from(form, self.data, at)[0]
        return number
