"""Tables read in part: by column and batch, from where they are stored."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from xcargo.codecs import ipc
from xcargo.codecs.base import arrow, importable
from xcargo.codecs.extension_types import register_types
from xcargo.codecs.source import BytesSource, Source, open_seekable
from xcargo.errors import DecodeError, MissingDependencyError, XCargoError
from xcargo.types import Buffer

__all__ = ["SCANNED", "TableFile", "dataset", "scan"]

SCANNED = "xcargo_source"
"""Attribute of a LazyFrame that is the whole of a stored table: its source. Every query of it is another frame."""


class TableFile:
    """An Arrow IPC file that is read in part: the schema at once, columns and batches when they are asked for.

    What is read is checked as ``ipc.read`` checks a whole file. Methods raise DecodeError.

    Attributes:
        source: The bytes of the file.
        schema: The ``pyarrow.Schema`` of the table.
        batch_ranges: Start and end in the file of each batch's message, without its body.
    """

    def __init__(self, source: Source) -> None:
        self._pa = arrow()
        self.source = source
        dictionary_ranges, self.batch_ranges = ipc.blocks(source.read, source.size_bytes)
        for message_range in dictionary_ranges:
            self.check(message_range)
        with self._open() as file:
            self.schema = file.schema

    def register_types(self, extensions: object = None) -> None:
        """Read columns of extension types as such from now on, as `extension_types.register_types` says."""
        again = False
        while register_types(self.schema, extensions, again=again):
            again = True
            with self._open() as file:
                self.schema = file.schema

    def batches(self, columns: Sequence[str] | None = None, rows: slice | None = None) -> Iterator[Any]:
        """Record batches in order.

        Args:
            columns: Only these are fetched; all by default.
            rows: Start and stop, counted from the table's start. No column of a batch without them is fetched.
        """
        fields = None if columns is None else [self._field(name) for name in columns]
        start, stop = (0, None) if rows is None else (rows.start or 0, rows.stop)
        position = 0
        with self._open(fields) as file:
            for number, message_range in enumerate(self.batch_ranges):
                if stop is not None and position >= stop:
                    return
                length = self.check(message_range)
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
        with self._open([number]) as file:
            chunks = []
            for n, message_range in enumerate(self.batch_ranges):
                self.check(message_range)
                chunks.append(file.get_batch(n).column(0))
                chunks[-1].validate(full=True)
            return self._pa.chunked_array(chunks, field.type)

    def check(self, message_range: tuple[int, int]) -> int:
        """The number of rows of the batch there. Raises DecodeError if it claims more than it has."""
        return ipc.batch(self.source.read, self.source.size_bytes, message_range).rows

    def _field(self, name: str) -> int:
        number = self.schema.get_field_index(name)
        if number < 0:
            raise KeyError(f"There is no column {name!r}, or several; there are {', '.join(self.schema.names)}")
        return int(number)

    @contextmanager
    def _open(self, fields: Sequence[int] | None = None) -> Iterator[Any]:
        pa = self._pa
        options = pa.ipc.IpcReadOptions(included_fields=fields or [])
        if isinstance(self.source, BytesSource):
            file_object = pa.py_buffer(self.source.data)
        else:
            file_object = pa.PythonFile(open_seekable(self.source), mode="r")
        try:
            with pa.ipc.open_file(file_object, options=options) as file:
                yield file
        except XCargoError:  # some are an OSError as well
            raise
        except NotImplementedError as error:  # of Int128, say
            raise DecodeError(f"pyarrow does not read this table: {error}", hint="load() all of it.") from error
        except (pa.ArrowException, OSError) as error:
            raise DecodeError(f"The object is not a valid Arrow file: {error}") from error


def scan(file: TableFile) -> Any:
    """A polars LazyFrame over the table. Collecting it fetches the columns that the query needs."""
    pl = importable("polars", "a polars.LazyFrame")
    try:
        from polars.io.plugins import register_io_source
    except ImportError as error:
        raise MissingDependencyError(
            "This polars cannot scan a table that is not in memory", hint="Run: pip install --upgrade polars"
        ) from error

    def batches(columns: list[str] | None, predicate: Any, n_rows: int | None, _: int | None) -> Iterator[Any]:
        for batch in file.batches(columns, None if n_rows is None else slice(0, n_rows)):
            frame = pl.from_arrow(batch)
            yield frame if predicate is None else frame.filter(predicate)

    schema = pl.from_arrow(arrow().Table.from_batches([], file.schema)).schema
    frame = register_io_source(batches, schema=schema)
    setattr(frame, SCANNED, file.source)
    # Airflow 3.3 calls serialize() of every argument of a task, to show it. That of a scan by Python pickles what it
    # reads from; it needs cloudpickle, and could not take the store along.
    frame.serialize = lambda *_, **__: f"<polars.LazyFrame of columns {', '.join(list(schema)[:20])}>"
    return frame


def dataset(file: TableFile) -> Any:
    """The table as a ``pyarrow.dataset.Dataset``, for pyarrow's own engine and DuckDB.

    A scan fetches the columns and batches that it needs. The engine reads the file itself: its bytes are those that
    were stored and no buffer reaches beyond it, but values are not checked one by one as a load checks them.
    """
    fs, ds = import_module("pyarrow.fs"), import_module("pyarrow.dataset")
    filesystem = fs.PyFileSystem(_handler(fs, _CheckedSource(file)))
    return ds.dataset("table.arrow", schema=file.schema, format="ipc", filesystem=filesystem)


class _CheckedSource:
    """The file's bytes, each batch's message checked before anything of it is read."""

    def __init__(self, file: TableFile) -> None:
        self._file = file
        self._unchecked = set(file.batch_ranges)
        self._lock = threading.Lock()

    @property
    def size_bytes(self) -> int:
        return self._file.source.size_bytes

    def read(self, start: int, end: int) -> Buffer:
        with self._lock:
            for message_range in [one for one in self._unchecked if one[0] < end and start < one[1]]:
                self._file.check(message_range)
                self._unchecked.discard(message_range)
        return self._file.source.read(start, end)

    def read_into(self, view: memoryview) -> None:
        view[:] = self.read(0, self.size_bytes)

    def iter_chunks(self) -> Iterator[Buffer]:
        yield self.read(0, self.size_bytes)


def _handler(fs: Any, source: Source) -> Any:
    pa = import_module("pyarrow")

    class OneFile(fs.FileSystemHandler):  # type: ignore[misc]
        """A file system that has this file and takes no other."""

        def get_type_name(self) -> str:
            return "xcargo"

        def normalize_path(self, path: str) -> str:
            return path

        def get_file_info(self, paths: list[str]) -> list[Any]:
            return [fs.FileInfo(path, fs.FileType.File, size=source.size_bytes) for path in paths]

        def get_file_info_selector(self, selector: Any) -> list[Any]:
            return []

        def open_input_file(self, path: str) -> Any:
            return pa.PythonFile(open_seekable(source), mode="r")

        open_input_stream = open_input_file

        def _refused(self, *_: Any, **__: Any) -> Any:
            raise io.UnsupportedOperation("A stored value cannot be changed")

        create_dir = delete_dir = delete_dir_contents = delete_root_dir_contents = delete_file = _refused
        move = copy_file = open_output_stream = open_append_stream = _refused

    return OneFile()
