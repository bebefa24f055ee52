"""Tables and arrays of polars and pyarrow as Arrow IPC: in memory, or batch by batch."""

from __future__ import annotations

import inspect
import io
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from xcargo.codecs import ipc
from xcargo.codecs.base import Encoded, SourceCodec, arrow, importable
from xcargo.codecs.extension_types import extension_params
from xcargo.codecs.source import Source, read_all
from xcargo.codecs.substitutes import current_push
from xcargo.codecs.table_file import SCANNED, TableFile, scan
from xcargo.codecs.temporary_folder import disk_space_for, temporary_folder
from xcargo.codecs.value_path import column_types
from xcargo.errors import DecodeError, UnsupportedTypeError, XCargoError
from xcargo.types import Buffer

__all__ = ["ArrowCodec", "ArrowStreamCodec"]

_POLARS = ("DataFrame", "Series", "Schema")
_PYARROW = ("Table", "RecordBatch", "Schema", "Field")
_PYARROW_BASES = ("ChunkedArray", "Array", "Scalar", "DataType")
"""Classes with a subclass for each type."""
_SUFFIX = ".arrow"
_READ_BYTES = 4 * 1024 * 1024
_MOST_RUNS = 1000


class ArrowCodec:
    """Frames, series, schemas and types of polars; tables, batches, arrays, scalars, schemas and types of pyarrow.

    One Arrow IPC file each, no JSON and no hex; what is no table is a column, or the schema, of one. ``params["type"]``
    says what to make of it again. Not kept: how a table is cut into chunks.
    """

    id = "arrow"

    def accepts(self, value: object) -> bool:
        return _kind(value) is not None

    def encode(self, value: Any) -> Encoded:
        kind = str(_kind(value))
        params: dict[str, Any] = {"type": kind}
        if kind in ("polars.Schema", "polars.DataType"):
            return _encode_polars_type(kind, value)
        if kind.startswith("polars."):
            frame = value if kind == "polars.DataFrame" else value.to_frame()
            params |= {"shape": list(value.shape), "columns": column_types(frame.schema.items(), current_push().mask)}
            return Encoded(self.id, (_write_polars(frame),), params, _SUFFIX)
        table = _as_table(arrow(), kind, value)
        ipc.check_values(table)
        if kind in ("pyarrow.Table", "pyarrow.RecordBatch"):
            params["shape"] = [value.num_rows, value.num_columns]
        elif kind in ("pyarrow.Array", "pyarrow.ChunkedArray"):
            params["shape"] = [len(value)]
        params["columns"] = column_types(((field.name, field.type) for field in table.schema), current_push().mask)
        params |= extension_params(table.schema)
        return Encoded(self.id, ipc.write(table), params, _SUFFIX)

    def decode(self, payload: Buffer, params: Mapping[str, Any]) -> Any:
        kind = params.get("type")
        if kind in [f"polars.{name}" for name in (*_POLARS, "DataType")]:
            pl = importable("polars", f"a {kind}")
            frame = _read_polars(pl, payload)
            if kind == "polars.DataType":
                return frame.schema[""] if "" in frame.columns else _polars_class(pl, params.get("class"))
            if kind == "polars.Schema":
                return frame.schema
            _check_enums(frame.schema, params.get("columns"))
            return frame if kind == "polars.DataFrame" else _from_polars_series(frame)
        if kind not in [f"pyarrow.{name}" for name in (*_PYARROW, *_PYARROW_BASES)]:
            raise DecodeError(f"The envelope names an unknown kind of table, {str(kind)[:80]!r}")
        table = ipc.read(payload, params.get("extensions"))
        try:
            return _from_table(arrow(), str(kind), table)
        except XCargoError:
            raise
        except Exception as error:
            raise DecodeError(f"The object does not hold a {kind}: {type(error).__name__}: {error}") from error


class ArrowStreamCodec(SourceCodec):
    """``pyarrow.RecordBatchReader`` and polars ``LazyFrame``: memory is bounded by a batch, each way.

    A LazyFrame is computed, into a temporary file, when it is pushed. It comes back as a LazyFrame that fetches the
    columns that its query needs when it is collected, and is handed on as it is stored if a task returns it untouched;
    with integers of 128 bits, which pyarrow does not read, the whole table is fetched at the pull. A reader comes back
    as one that can be read once.
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
            current_push().refuse_to_consume(value)
            columns = column_types(((field.name, field.type) for field in value.schema), current_push().mask)
            params: dict[str, Any] = {"type": "pyarrow.RecordBatchReader", "columns": columns}
            params |= extension_params(value.schema)
            return Encoded(self.id, _written(arrow(), value, params), params, ".arrow")
        with current_push().running_task_code():
            schema = value.collect_schema()
        params = {"type": "polars.LazyFrame", "columns": column_types(schema.items(), current_push().mask)}
        stored = vars(value).get(SCANNED)
        if stored is not None:
            return Encoded(self.id, stored.iter_chunks(), params, ".arrow", stored=stored)
        _write_polars(importable("polars", "a LazyFrame").DataFrame(schema=schema))  # before hours of computing it
        if any(map(_has_128_bits, schema.dtypes())):
            params["whole"] = True
        return Encoded(self.id, _collected(value), params, ".arrow")

    def open(self, source: Source, params: Mapping[str, Any]) -> Any:
        kind = params.get("type")
        if kind not in ("pyarrow.RecordBatchReader", "polars.LazyFrame"):
            raise DecodeError(f"The envelope names an unknown kind of table, {str(kind)[:80]!r}")
        if kind == "polars.LazyFrame" and params.get("whole"):
            return _read_polars(importable("polars", f"a {kind}"), read_all(source)).lazy()
        file = TableFile(source)
        if kind == "polars.LazyFrame":
            return scan(file)
        file.register_types(params.get("extensions"))
        return arrow().RecordBatchReader.from_batches(file.schema, file.batches())


def _kind(value: object) -> str | None:
    library = type(value).__module__.partition(".")[0]
    module = sys.modules.get(library)
    if module is None or library not in ("polars", "pyarrow"):
        return None
    for name in _POLARS if library == "polars" else _PYARROW:
        if type(value) is getattr(module, name, None):
            return f"{library}.{name}"
    for name in _PYARROW_BASES if library == "pyarrow" else ():
        if isinstance(value, getattr(module, name, ())):
            return f"{library}.{name}"
    if library == "polars" and (isinstance(value, module.DataType) or type(value) is type(module.DataType)):
        return "polars.DataType"
    return None


def _as_table(pa: Any, kind: str, value: Any) -> Any:
    """A table, or the record batch itself, that holds the value."""
    if kind in ("pyarrow.Table", "pyarrow.RecordBatch"):
        return value
    if kind == "pyarrow.Schema":
        return pa.Table.from_batches([], value)
    if kind == "pyarrow.Field":
        return pa.Table.from_batches([], pa.schema([value]))
    if kind == "pyarrow.DataType":
        return pa.Table.from_batches([], pa.schema([pa.field("", value)]))
    try:
        if kind == "pyarrow.Scalar":
            value = pa.repeat(value, 1) if value.is_valid else pa.nulls(1, value.type)
        return pa.table({"values": value})
    except (pa.ArrowException, NotImplementedError, TypeError) as error:
        raise UnsupportedTypeError(
            f"Arrow cannot store a {kind} of type {value.type}: {error}", hint="Cast it before returning it."
        ) from error


def _from_table(pa: Any, kind: str, table: Any) -> Any:
    if kind == "pyarrow.Table":
        return table
    if kind == "pyarrow.RecordBatch":
        batches = table.combine_chunks().to_batches()
        return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)
    if kind == "pyarrow.Schema":
        return table.schema
    if kind == "pyarrow.Field":
        return table.schema.field(0)
    if kind == "pyarrow.DataType":
        return table.schema.field(0).type
    column = table.column(0)
    if kind == "pyarrow.ChunkedArray":
        return column
    return column[0] if kind == "pyarrow.Scalar" else column.combine_chunks()


def _write_polars(frame: Any) -> memoryview:
    def write(part: Any) -> memoryview:
        for dtype in part.dtypes:
            _check_readable(dtype)
        written = io.BytesIO()
        part.write_ipc(written, compression="uncompressed")
        return memoryview(written.getvalue())

    try:
        return write(frame)
    except Exception as error:
        parts = ((name, dtype, frame.select(name)) for name, dtype in frame.schema.items())
        raise UnsupportedTypeError(
            f"Polars cannot store {ipc.culprit(parts, write)}: {error}",
            hint="Convert the column before returning it.",
        ) from error


def _check_readable(dtype: Any) -> None:
    """Raise ValueError for a dtype that polars writes and does not read as it was, at any depth."""
    if getattr(dtype, "size", None) == 0:
        raise ValueError("it would not read arrays of width 0 again")
    if type(dtype).__module__.partition(".")[0] != "polars" and not isinstance(dtype, type):
        raise ValueError("a task that pulls it does not know where its type is registered")
    for inner in (getattr(dtype, "inner", None), *(field.dtype for field in getattr(dtype, "fields", ()))):
        if inner is not None:
            _check_readable(inner)


def _has_128_bits(dtype: Any) -> bool:
    """Whether a dtype is, or contains, an integer that pyarrow has no type for, and which only polars itself reads."""
    inner = (getattr(dtype, "inner", None), *(field.dtype for field in getattr(dtype, "fields", ())))
    return str(dtype) in ("Int128", "UInt128") or any(_has_128_bits(one) for one in inner if one is not None)


def _encode_polars_type(kind: str, value: Any) -> Encoded:
    """A schema or type as the schema of an empty table; a class of types, such as ``pl.List``, by its name."""
    import polars as pl

    params: dict[str, Any] = {"type": kind}
    if isinstance(value, type):
        params["class"] = value.__name__
        if getattr(pl, value.__name__, None) is not value:
            raise UnsupportedTypeError(
                f"The type {value.__name__} is not one of polars itself", hint="Return its name as text."
            )
    schema = {} if "class" in params else {"": value} if kind == "polars.DataType" else value
    if kind == "polars.Schema":
        params["columns"] = column_types(schema.items(), current_push().mask)
    # With a row of nulls, for without one polars 1.32 takes an Enum for a Categorical.
    payload = _write_polars(pl.DataFrame(schema=schema).clear(1))
    if dict(_read_polars(pl, payload).schema) != dict(schema):
        raise UnsupportedTypeError(f"Polars does not store {value} as it is", hint="Return str(value).")
    return Encoded(ArrowCodec.id, (payload,), params, _SUFFIX)


def _from_polars_series(frame: Any) -> Any:
    if frame.width != 1:
        raise DecodeError(f"The object holds {frame.width} columns and not one")
    return frame.to_series()


def _check_enums(schema: Mapping[str, Any], columns: object) -> None:
    """Raise DecodeError for an Enum that was read as another type, as polars 1.32 does in a table without rows."""
    for name, kind in columns.items() if isinstance(columns, dict) else ():
        if kind == "Enum" and type(schema.get(name)).__name__ == "Categorical":
            raise DecodeError(
                f"The polars installed here reads the Enum {name[:80]!r} as a Categorical",
                hint="Run: pip install --upgrade polars",
            )


def _polars_class(pl: Any, name: object) -> Any:
    cls = getattr(pl, name, None) if isinstance(name, str) else None
    if not (isinstance(cls, type) and issubclass(cls, pl.DataType)):
        raise DecodeError(
            f"The polars installed here has no type {str(name)[:80]!r}", hint="Run: pip install --upgrade polars"
        )
    return cls


def _read_polars(pl: Any, payload: Buffer) -> Any:
    ipc.check(payload)
    panic: type[BaseException] = getattr(pl.exceptions, "PanicException", Exception)
    try:
        return pl.read_ipc(io.BytesIO(payload))
    except (Exception, panic) as error:  # a panic is no Exception
        raise DecodeError(f"The object is not a valid Arrow file: {str(error)[:200]}") from error


def _written(pa: Any, reader: Any, params: dict[str, Any]) -> Iterator[Buffer]:
    """The bytes of an Arrow IPC file of all batches, as they come.

    ``params`` get ``batches`` at the end: how many rows the batches have, as runs of a number and how often it comes.
    So who looks for a row need not read the beginnings of all batches. Left out if there are too many runs for a row.
    """
    sink = ipc.Sink()
    runs: list[list[int]] = []
    options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)
    with pa.ipc.new_file(pa.PythonFile(sink, mode="w"), reader.schema, options=options) as file:
        batches = iter(reader)
        while True:
            with current_push().running_task_code():
                batch = next(batches, None)
            if batch is None:
                break
            ipc.check_values(batch)
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
            yield from sink.take()
    if len(runs) <= _MOST_RUNS:
        params["batches"] = runs
    yield from sink.take()


def _collected(frame: Any) -> Iterator[bytes]:
    """The bytes of an Arrow IPC file of what the query gives, from a temporary file."""
    import polars as pl

    options: dict[str, Any] = {"compression": None}  # which every polars takes for none
    if "compat_level" in inspect.signature(frame.sink_ipc).parameters:
        options["compat_level"] = pl.CompatLevel.oldest()  # any pyarrow reads it
    path = temporary_folder() / "table.arrow"
    try:
        with disk_space_for("the table of a LazyFrame", path.parent), current_push().running_task_code():
            frame.sink_ipc(path, **options)
        with path.open("rb", buffering=0) as file:
            while chunk := file.read(_READ_BYTES):
                yield chunk
    finally:
        path.unlink(missing_ok=True)
        path.parent.rmdir()
