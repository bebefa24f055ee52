"""Tables that are larger than memory: written batch by batch, read by column and batch from where they lie."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from xcargo.codecs import ipc
from xcargo.codecs import temporary_files as scratch
from xcargo.codecs.base import Encoded, arrow, importable
from xcargo.codecs.labels import columns as shown
from xcargo.codecs.source import BytesSource, Source
from xcargo.codecs.stream import open_seekable
from xcargo.errors import DecodeError, MissingDependencyError, UnsupportedTypeError, XCargoError
from xcargo.types import Buffer

__all__ = ["ArrowStreamCodec", "TableFile", "scan"]

_READ_BYTES = 4 * 1024 * 1024
_MOST_RUNS = 1000


class TableFile:
    """An Arrow IPC file that is read in part: the schema at once, columns and batches when they are asked for.

    What is read is checked as ``ipc.read`` checks a whole file. Raises DecodeError.
    """

    def __init__(self, source: Source) -> None:
        self._pa = arrow()
        self.source = source
        dictionaries, self.places = ipc.blocks(source.read, source.size_bytes)
        for place in dictionaries:
            self.rows(place)
        with self._opened() as file:
            self.schema = file.schema

    def batches(self, columns: Sequence[str] | None = None, rows: slice | None = None) -> Iterator[Any]:
        """Record batches with these columns (all by default), in order.

        Fetches these columns only, and of a batch that has none of the ``rows`` (start and stop, from the table's
        start) no column.
        """
        fields = None if columns is None else [self._field(name) for name in columns]
        start, stop = (0, None) if rows is None else (rows.start or 0, rows.stop)
        position = 0
        with self._opened(fields) as file:
            for number, place in enumerate(self.places):
                if stop is not None and position >= stop:
                    return
                length = self.rows(place)
                if position + length > start:
                    batch = file.get_batch(number)
                    batch.validate(full=True)
                    batch = batch if columns is None else batch.select(columns)
                    begin = max(start - position, 0)
                    yield batch.slice(begin, length if stop is None else stop - position - begin)
                position += length

    def table(self, columns: Sequence[str] | None = None, rows: slice | None = None) -> Any:
        """The same as one ``pyarrow.Table``."""
        schema = self.schema
        if columns is not None:
            schema = self._pa.schema([schema.field(self._field(name)) for name in columns], schema.metadata)
        return self._pa.Table.from_batches(self.batches(columns, rows), schema)

    def column(self, number: int) -> Any:
        """One column as a ``pyarrow.ChunkedArray``; fetches no other."""
        field = self.schema.field(number)
        with self._opened([number]) as file:
            chunks = []
            for n, place in enumerate(self.places):
                self.rows(place)
                chunks.append(file.get_batch(n).column(0))
                chunks[-1].validate(full=True)
            return self._pa.chunked_array(chunks, field.type)

    def rows(self, place: tuple[int, int]) -> int:
        """How many rows the batch at one of the ``places`` has. Raises DecodeError if it claims more than it has."""
        return ipc.rows(self.source.read, self.source.size_bytes, place)

    def _field(self, name: str) -> int:
        number = self.schema.get_field_index(name)
        if number < 0:
            raise KeyError(f"There is no column {name!r}, or several; there are {', '.join(self.schema.names)}")
        return int(number)

    @contextmanager
    def _opened(self, fields: Sequence[int] | None = None) -> Iterator[Any]:
        pa = self._pa
        options = pa.ipc.IpcReadOptions(included_fields=fields or [])
        source = self.source
        place = (
            pa.py_buffer(source.data)
            if isinstance(source, BytesSource)
            else pa.PythonFile(open_seekable(source), mode="r")
        )
        try:
            with pa.ipc.open_file(place, options=options) as file:
                yield file
        except XCargoError:  # some are an OSError as well
            raise
        except (pa.ArrowException, OSError) as error:
            raise DecodeError(f"The object is not a valid Arrow file: {error}") from error


class ArrowStreamCodec:
    """``pyarrow.RecordBatchReader`` and polars ``LazyFrame``: memory is bounded by a batch, each way.

    A LazyFrame is computed, into a temporary file, when it is pushed. It comes back as a LazyFrame that fetches the
    columns that its query needs when it is collected. A reader comes back as one that can be read once.
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
            columns = shown((field.name, field.type) for field in value.schema)
            params: dict[str, Any] = {"type": "pyarrow.RecordBatchReader", "columns": columns}
            return Encoded(self.id, _written(arrow(), value, params), params, ".arrow")
        columns = shown(value.collect_schema().items())
        return Encoded(self.id, _collected(value), {"type": "polars.LazyFrame", "columns": columns}, ".arrow")

    def decode(self, payload: Buffer, params: Mapping[str, Any]) -> Any:
        return self.open(BytesSource(payload), params)

    def open(self, source: Source, params: Mapping[str, Any]) -> Any:
        kind = params.get("type")
        if kind not in ("pyarrow.RecordBatchReader", "polars.LazyFrame"):
            raise DecodeError(f"The envelope names an unknown kind of table, {str(kind)[:80]!r}")
        file = TableFile(source)
        if kind == "polars.LazyFrame":
            return scan(file)
        return arrow().RecordBatchReader.from_batches(file.schema, file.batches())


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

    schema = pl.from_arrow(file.schema.empty_table()).schema
    frame = register_io_source(batches, schema=schema)
    # Airflow 3.3 calls serialize() of every argument of a task, to show it. That of a scan by Python pickles what it
    # reads from; it needs cloudpickle, and could not take the store along.
    frame.serialize = lambda *_, **__: f"<polars.LazyFrame of columns {', '.join(list(schema)[:20])}>"
    return frame


def _written(pa: Any, reader: Any, params: dict[str, Any]) -> Iterator[Buffer]:
    """The bytes of an Arrow IPC file of all batches, as they come.

    ``params`` get ``batches`` at the end: how many rows the batches have, as runs of a number and how often it comes.
    So who looks for a row need not read the beginnings of all batches. Left out if there are too many runs for a row.
    """
    sink = ipc.Sink()
    runs: list[list[int]] = []
    options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)
    with pa.ipc.new_file(pa.PythonFile(sink, mode="w"), reader.schema, options=options) as file:
        for batch in reader:
            try:
                file.write_batch(batch)
            except pa.ArrowException as error:
                raise UnsupportedTypeError(
                    f"Arrow cannot store a batch of the reader: {error}",
                    hint="Cast dictionary columns to plain ones, or return reader.read_all().",
                ) from error
            if runs and runs[-1][0] == batch.num_rows:
                runs[-1][1] += 1
            elif len(runs) <= _MOST_RUNS:
                runs.append([batch.num_rows, 1])
            yield from sink.taken()
    if len(runs) <= _MOST_RUNS:
        params["batches"] = runs
    yield from sink.taken()


def _collected(frame: Any) -> Iterator[bytes]:
    """The bytes of an Arrow IPC file of what the query gives, from a temporary file."""
    import polars as pl

    options: dict[str, Any] = {"compression": None}  # which every polars takes for none
    if "compat_level" in inspect.signature(frame.sink_ipc).parameters:
        options["compat_level"] = pl.CompatLevel.oldest()  # any pyarrow reads it
    path = scratch.folder() / "table.arrow"
    try:
        with scratch.space_needed("the table of a LazyFrame", path.parent):
            frame.sink_ipc(path, **options)
        with path.open("rb", buffering=0) as file:
            while piece := file.read(_READ_BYTES):
                yield piece
    finally:
        path.unlink(missing_ok=True)
        path.parent.rmdir()
