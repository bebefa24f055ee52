"""Arrow IPC files: written without compression, and read as if an enemy had written them."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from xcargo.codecs.base import arrow
from xcargo.errors import DecodeError, MissingDependencyError, UnsupportedTypeError, XCargoError
from xcargo.types import Buffer

__all__ = ["Batch", "Sink", "batch", "blocks", "check", "culprit", "read", "read_stream", "rows", "write"]

_Place = tuple[int, int]
_Read = Callable[[int, int], Buffer]

_EXTENSION = b"ARROW:extension:name"
_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3
_MAX_ROWS = 2**32
"""Of one batch; so many nulls take no bytes."""
_LARGE_BYTES = 16 * 1024 * 1024
"""A table from which on threads are worth their start."""
_SMALL_BYTES = 64 * 1024
"""Pieces of a file below this are copied together."""


def write(table: Any) -> list[Buffer]:
    """A table or record batch as the pieces of an IPC file. Large ones are the columns' own memory: nothing is copied.

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


def read(payload: Buffer) -> Any:
    """The table of a file that :func:`write` wrote, checked to the last value; shares the payload's memory.

    Raises DecodeError for anything else, MissingDependencyError for an extension type that is not registered here.
    """
    pa = arrow()
    check(payload)
    try:
        with pa.ipc.open_file(pa.py_buffer(payload)) as file:
            table = file.read_all()
        _validate(table, len(payload))
    except (pa.ArrowException, OSError, OverflowError) as error:
        raise DecodeError(f"The object is not a valid Arrow file: {error}") from error
    for field in table.schema:
        name = (field.metadata or {}).get(_EXTENSION)
        if name is not None and not isinstance(field.type, pa.BaseExtensionType):
            raise MissingDependencyError(
                f"Column {field.name[:80]!r} has the Arrow extension type {name.decode('utf-8', 'replace')[:80]!r}, "
                "which is not registered here",
                hint="Import the package that defines it before the value is pulled.",
            )
    return table


def read_stream(payload: Buffer) -> Any:
    """The same for a stream, as small parts of a value are kept."""
    pa = arrow()
    check(payload, stream=True)
    try:
        with pa.ipc.open_stream(pa.py_buffer(payload)) as stream:
            table = stream.read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError, OverflowError) as error:
        raise DecodeError(f"The object is not a valid Arrow stream: {error}") from error
    return table


def culprit(columns: Iterable[tuple[str, Any, Any]], write: Callable[[Any], object]) -> str:
    """``column 'x' of type t``: the first of the columns, given as name, type and table of it, that fails alone."""
    for name, kind, part in columns:
        try:
            write(part)
        except Exception:
            return f"column {name[:80]!r} of type {str(kind)[:80]}"
    return "the table"


def check(payload: Buffer, *, stream: bool = False) -> None:
    """Raise DecodeError unless every buffer of the file (or stream) lies within it, and none is compressed.

    A few compressed bytes may claim any amount of memory, and readers allocate what a buffer claims: Polars ends the
    process when there is not so much. We compress objects as a whole, within the bound that the envelope gives.
    """
    with _damage_told():
        for message, body_bytes in (_streamed if stream else _filed)(memoryview(payload)):
            _checked_batch(message, body_bytes)


def blocks(read: _Read, size_bytes: int) -> tuple[list[_Place], list[_Place]]:
    """Where in a file, of which ``read`` gives bytes, the messages of its dictionaries and of its batches lie.

    Each as start and end of the message without its body. Raises DecodeError.
    """
    with _damage_told():
        if size_bytes < 18:
            raise ValueError
        tail = bytes(read(size_bytes - 10, size_bytes))
        (length,) = struct.unpack_from("<i", tail)
        if tail[4:] != b"ARROW1" or not 0 < length <= size_bytes - 18:
            raise ValueError
        footer = _Table.root(memoryview(read(size_bytes - 10 - length, size_bytes - 10)))
        return list(footer.blocks(_DICTIONARY_BATCH)), list(footer.blocks(_RECORD_BATCH))


def rows(read: _Read, size_bytes: int, place: _Place) -> int:
    """How many rows the batch at one of the :func:`blocks` has. Raises DecodeError as :func:`check` does."""
    with _damage_told():
        start, end = place
        if not 0 <= start < end <= size_bytes:
            raise ValueError
        message, body_bytes, _ = _message(memoryview(read(start, end)), 0, beyond=size_bytes - end)
        batch = message and _checked_batch(message, body_bytes)
        if batch is None:
            raise ValueError
        return batch.integer(0)


@dataclass(frozen=True)
class Batch:
    """Where in a file the columns of a batch lie."""

    rows: int
    nodes: tuple[tuple[int, int], ...]
    """Values and nulls of each column and of each column inside it, depth first."""
    buffers: tuple[_Place, ...]
    """Start and end in the file of each buffer, in the same order."""
    variadic: tuple[int, ...]
    """How many buffers of text each column of views has, beside its views."""


def batch(read: _Read, size_bytes: int, place: _Place) -> Batch:
    """What lies where in the batch at one of the :func:`blocks`. Raises DecodeError as :func:`check` does."""
    with _damage_told():
        start, end = place
        if not 0 <= start < end <= size_bytes:
            raise ValueError
        message, body_bytes, _ = _message(memoryview(read(start, end)), 0, beyond=size_bytes - end)
        found = message and _checked_batch(message, body_bytes)
        if found is None:
            raise ValueError
        return Batch(
            found.integer(0),
            tuple(found.pairs(1)),
            tuple((end + offset, end + offset + length) for offset, length in found.pairs(2)),
            tuple(found.integers(4)),
        )


@contextmanager
def _damage_told() -> Iterator[None]:
    try:
        yield
    except XCargoError:
        raise
    except (IndexError, struct.error, ValueError) as error:
        raise DecodeError("The object is not valid Arrow data") from error


def _checked_batch(message: _Table, body_bytes: int) -> _Table | None:
    """The batch in a message, if there is one and it claims no more than it has."""
    kind, batch = message.place(1), message.child(2)
    if kind is None or batch is None or message.data[kind] not in (_DICTIONARY_BATCH, _RECORD_BATCH):
        return None
    if message.data[kind] == _DICTIONARY_BATCH:
        batch = batch.child(1)
    if batch is not None:
        _check_batch(batch, body_bytes)
    return batch


def _check_batch(batch: _Table, body_bytes: int) -> None:
    if batch.place(3) is not None:
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
    if size_bytes < _LARGE_BYTES:
        table.validate(full=True)
        return
    table.validate()
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="xcargo-check") as pool:
        for _ in pool.map(lambda column: column.validate(full=True), table.columns):
            pass


def _written(pa: Any, table: Any) -> list[Buffer]:
    sink = Sink()
    with pa.ipc.new_file(pa.PythonFile(sink, mode="w"), table.schema) as file:
        file.write(table)
    return sink.taken()


class Sink(io.RawIOBase):
    """A file that gives away, as pieces, what was written to it. Large pieces are the writer's memory, not copies."""

    def __init__(self) -> None:
        self._pieces: list[Buffer] = []
        self._small = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        if len(view) < _SMALL_BYTES:
            self._small += view
        else:
            self._end_small()
            self._pieces.append(view)
        return len(view)

    def taken(self) -> list[Buffer]:
        """The pieces since the last time."""
        self._end_small()
        taken, self._pieces = self._pieces, []
        return taken

    def _end_small(self) -> None:
        if self._small:
            self._pieces.append(self._small)
            self._small = bytearray()


def _filed(file: memoryview) -> Iterator[tuple[_Table, int]]:
    """The messages that the footer of an IPC file lists, with the length of their bodies."""
    if len(file) < 18 or bytes(file[-6:]) != b"ARROW1":
        raise ValueError
    (length,) = struct.unpack_from("<i", file, len(file) - 10)
    if not 0 < length <= len(file) - 18:
        raise ValueError
    footer = _Table.root(file[len(file) - 10 - length : len(file) - 10])
    for field in (_DICTIONARY_BATCH, _RECORD_BATCH):  # numbers of the footer's fields too
        for offset, _ in footer.blocks(field):
            message, body_bytes, _ = _message(file, offset)
            if message is not None:
                yield message, body_bytes


def _streamed(stream: memoryview) -> Iterator[tuple[_Table, int]]:
    """The messages of an IPC stream, with the length of their bodies."""
    at = 0
    while at + 8 <= len(stream):
        message, body_bytes, at = _message(stream, at)
        if message is None:
            return
        yield message, body_bytes


def _message(data: memoryview, at: int, *, beyond: int = 0) -> tuple[_Table | None, int, int]:
    """The message that begins there (None at the end of a stream), length of its body, and where the next begins.

    ``beyond`` is how many bytes there are beyond ``data``, in which the body may lie.
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

    def place(self, field: int) -> int | None:
        """Where the value of a field begins; None if it is not there."""
        slot = 4 + 2 * field
        if slot + 2 > self._number("<H", self._fields):
            return None
        offset = self._number("<H", self._fields + slot)
        return self._at + offset if offset else None

    def integer(self, field: int) -> int:
        """The value of a field of 64 bits."""
        at = self.place(field)
        return 0 if at is None else self._number("<q", at)

    def child(self, field: int) -> _Table | None:
        """The table that a field refers to."""
        at = self.place(field)
        return None if at is None else _Table(self.data, at + self._number("<I", at))

    def blocks(self, field: int) -> Iterator[_Place]:
        """Start and end of the messages in a vector of blocks."""
        return ((offset, offset + length) for offset, length in self._vector(field, "<qi12x"))

    def pairs(self, field: int) -> Iterator[tuple[int, int]]:
        """A vector of pairs of integers: places of buffers, or lengths of columns."""
        return self._vector(field, "<qq")

    def integers(self, field: int) -> Iterator[int]:
        """A vector of integers."""
        return (number for (number,) in self._vector(field, "<q"))

    def _vector(self, field: int, form: str) -> Iterator[Any]:
        at = self.place(field)
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
