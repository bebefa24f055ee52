"""Tables that are larger than memory: written batch by batch, read by column and batch from where they lie."""

from __future__ import annotations

import inspect
import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from xcargo import scratch
from xcargo.codecs.base import Buffer, Encoded, arrow, importable
from xcargo.codecs.source import Held, Source
from xcargo.codecs.stream import opened
from xcargo.errors import DecodeError, MissingDependencyError

__all__ = ["ArrowStreamCodec", "TableFile"]

_SHOWN_COLUMNS = 64
_READ_BYTES = 4 * 1024 * 1024


class TableFile:
    """An Arrow IPC file that is read in part: the schema at once, columns and batches when they are asked for."""

    def __init__(self, source: Source) -> None:
        self._pa = arrow()
        self._source = source
        try:
            with self._opened() as file:
                self.schema = file.schema
                self._count = file.num_record_batches
        except (self._pa.ArrowException, OSError) as error:
            raise DecodeError(f"The object is not a valid Arrow file: {error}") from error

    def batches(self, columns: Sequence[str] | None = None, rows: slice | None = None) -> Iterator[Any]:
        """Record batches with these columns (all by default), in order.

        Fetches these columns only. A batch outside ``rows`` (start and stop, from the table's start) costs its first
        column.
        """
        pa = self._pa
        fields = None if columns is None else [self._field(name) for name in columns]
        start, stop = (0, None) if rows is None else (rows.start or 0, rows.stop)
        position = 0
        try:
            with self._opened(fields) as file, self._opened((fields or [0])[:1]) as narrow:
                for number in range(self._count):
                    if stop is not None and position >= stop:
                        return
                    if rows is not None and position < start:
                        length = narrow.get_batch(number).num_rows
                        if position + length <= start:
                            position += length
                            continue
                    batch = file.get_batch(number)
                    begin, end = max(start - position, 0), None if stop is None else stop - position
                    position += batch.num_rows
                    yield (batch if columns is None else batch.select(columns))[begin:end]
        except (pa.ArrowException, OSError) as error:
            raise DecodeError(f"The object is not a valid Arrow file: {error}") from error

    def table(self, columns: Sequence[str] | None = None, rows: slice | None = None) -> Any:
        """The same as one ``pyarrow.Table``."""
        schema = self.schema
        if columns is not None:
            schema = self._pa.schema([schema.field(self._field(name)) for name in columns], schema.metadata)
        return self._pa.Table.from_batches(self.batches(columns, rows), schema)

    def column(self, number: int) -> Any:
        """One column as a ``pyarrow.ChunkedArray``; fetches no other."""
        with self._opened([number]) as file:
            field = self.schema.field(number)
            return self._pa.chunked_array([file.get_batch(n).column(0) for n in range(self._count)], field.type)

    def _field(self, name: str) -> int:
        number = self.schema.get_field_index(name)
        if number < 0:
            raise KeyError(f"There is no column {name!r}, or several; there are {', '.join(self.schema.names)}")
        return int(number)

    def _opened(self, fields: Sequence[int] | None = None) -> Any:
        pa = self._pa
        options = pa.ipc.IpcReadOptions(included_fields=fields or [])
        if isinstance(self._source, Held):
            return pa.ipc.open_file(pa.py_buffer(self._source.data), options=options)
        return pa.ipc.open_file(pa.PythonFile(opened(self._source), mode="r"), options=options)


class ArrowStreamCodec:
    """``pyarrow.RecordBatchReader`` and polars ``LazyFrame``: memory is bounded by a batch, each way.

    A LazyFrame is computed, into a temporary file, when it is pushed. It comes back as a LazyFrame that fetches what
    its query needs when it is collected.
    """

    id = "arrow-stream"

    def accepts(self, value: object) -> bool:
        pa, pl = sys.modules.get("pyarrow"), sys.modules.get("polars")
        return (pa is not None and isinstance(value, getattr(pa, "RecordBatchReader", ()))) or (
            pl is not None and type(value) is getattr(pl, "LazyFrame", None)
        )

    def encode(self, value: Any) -> Encoded:
        pa = sys.modules.get("pyarrow")
        if pa is not None and isinstance(value, pa.RecordBatchReader):
            columns = {field.name: str(field.type) for field in list(value.schema)[:_SHOWN_COLUMNS]}
            params = {"type": "pyarrow.RecordBatchReader", "columns": columns}
            return Encoded(self.id, _written(arrow(), value), params, ".arrow")
        schema = value.collect_schema()
        columns = {name: str(dtype) for name, dtype in list(schema.items())[:_SHOWN_COLUMNS]}
        return Encoded(self.id, _collected(value), {"type": "polars.LazyFrame", "columns": columns}, ".arrow")

    def decode(self, payload: Buffer, params: Mapping[str, Any]) -> Any:
        return self.open(Held(payload), params)

    def open(self, source: Source, params: Mapping[str, Any]) -> Any:
        kind = params.get("type")
        file = TableFile(source)
        if kind == "pyarrow.RecordBatchReader":
            return arrow().RecordBatchReader.from_batches(file.schema, file.batches())
        if kind == "polars.LazyFrame":
            return scan(file)
        raise DecodeError(f"The envelope names an unknown kind of table, {kind!r}")


def scan(file: TableFile) -> Any:
    """A polars LazyFrame over a table that lies elsewhere; collecting it fetches the columns that the query needs."""
    pl = importable("polars", "a polars.LazyFrame")
    try:
        from polars.io.plugins import register_io_source
    except ImportError as error:
        raise MissingDependencyError(
            "This polars cannot scan a table that lies elsewhere", hint="Run: pip install --upgrade polars"
        ) from error

    def batches(columns: list[str] | None, predicate: Any, n_rows: int | None, _: int | None) -> Iterator[Any]:
        for batch in file.batches(columns, None if n_rows is None else slice(0, n_rows)):
            frame = pl.from_arrow(batch)
            yield frame if predicate is None else frame.filter(predicate)

    return register_io_source(batches, schema=pl.from_arrow(file.schema.empty_table()).schema)


def _written(pa: Any, reader: Any) -> Iterator[bytes]:
    """The bytes of an Arrow IPC file of all batches, as they come."""
    sink = _Sink()
    with pa.ipc.new_file(pa.PythonFile(sink, mode="w"), reader.schema) as file:
        for batch in reader:
            file.write_batch(batch)
            yield from sink.taken()
    yield from sink.taken()


class _Sink(io.RawIOBase):
    """A file that gives away what was written to it."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._pieces.append(bytes(data))
        return len(self._pieces[-1])

    def taken(self) -> list[bytes]:
        taken, self._pieces = self._pieces, []
        return taken


def _collected(frame: Any) -> Iterator[bytes]:
    """The bytes of an Arrow IPC file of what the query gives, from a temporary file."""
    import polars as pl

    options: dict[str, Any] = {"compression": "uncompressed"}
    if "compat_level" in inspect.signature(frame.sink_ipc).parameters:
        options["compat_level"] = pl.CompatLevel.oldest()  # any pyarrow reads it
    path = scratch.folder() / "table.arrow"
    try:
        frame.sink_ipc(path, **options)
        with path.open("rb", buffering=0) as file:
            while piece := file.read(_READ_BYTES):
                yield piece
    finally:
        path.unlink(missing_ok=True)
        path.parent.rmdir()
