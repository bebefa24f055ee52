"""Tables: pandas, polars and pyarrow, as Arrow IPC."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from typing import Any

from xcargo.codecs.base import Buffer, Encoded
from xcargo.errors import DecodeError, MissingDependencyError, UnsupportedTypeError

__all__ = ["ArrowCodec"]

_TYPES = {
    "pandas": ("DataFrame", "Series"),
    "polars": ("DataFrame", "Series"),
    "pyarrow": ("Table", "RecordBatch"),
}
_SUFFIX = ".arrow"


class ArrowCodec:
    """Data frames and tables as one Arrow IPC file, column by column, no JSON and no hex.

    ``params["type"]`` says what to make of it again: ``pandas.DataFrame``, ``pandas.Series``, ``polars.DataFrame``,
    ``polars.Series``, ``pyarrow.Table`` or ``pyarrow.RecordBatch``.
    """

    id = "arrow"

    def accepts(self, value: object) -> bool:
        return _kind(value) is not None

    def encode(self, value: Any) -> Encoded:
        kind = _kind(value)
        params: dict[str, Any] = {"type": kind, "shape": list(getattr(value, "shape", ()))}
        if kind == "polars.DataFrame":
            params["columns"] = {name: str(dtype) for name, dtype in value.schema.items()}
            return Encoded(self.id, (_polars_ipc(value),), params, _SUFFIX)
        if kind == "polars.Series":
            return Encoded(self.id, (_polars_ipc(value.to_frame()),), params, _SUFFIX)
        pa = _pyarrow()
        if kind == "pyarrow.Table":
            table = value
        elif kind == "pyarrow.RecordBatch":
            table = pa.Table.from_batches([value])
        else:
            frame = value
            if kind == "pandas.Series":
                if not isinstance(value.name, (str, int, type(None))):
                    raise UnsupportedTypeError(f"A pandas Series whose name is a {type(value.name).__name__}")
                params["name"] = value.name
                frame = value.to_frame("values")
            table = _from_pandas(pa, frame)
        params["columns"] = {field.name: str(field.type) for field in table.schema}
        return Encoded(self.id, (_ipc(pa, table),), params, _SUFFIX)

    def decode(self, payload: Buffer, params: Mapping[str, Any]) -> Any:
        kind = params.get("type")
        if kind in ("polars.DataFrame", "polars.Series"):
            pl = _import("polars", kind)
            try:
                frame = pl.read_ipc(io.BytesIO(payload))
            except Exception as error:
                raise DecodeError(f"The object is not a valid Arrow file: {error}") from error
            return frame if kind == "polars.DataFrame" else frame.to_series()
        pa = _pyarrow()
        try:
            with pa.ipc.open_file(pa.py_buffer(payload)) as reader:
                table = reader.read_all()
            table.validate()
            if kind == "pyarrow.RecordBatch":
                batches = table.combine_chunks().to_batches()
                return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)
        except pa.ArrowException as error:
            raise DecodeError(f"The object is not a valid Arrow file: {error}") from error
        if kind == "pyarrow.Table":
            return table
        if kind not in ("pandas.DataFrame", "pandas.Series"):
            raise DecodeError(f"The envelope names an unknown kind of table, {kind!r}")
        _import("pandas", kind)
        frame = table.to_pandas()
        return frame if kind == "pandas.DataFrame" else frame["values"].rename(params.get("name"))


def _kind(value: object) -> str | None:
    for library, names in _TYPES.items():
        module = sys.modules.get(library)
        if module is not None:
            for name in names:
                if type(value) is getattr(module, name, None):
                    return f"{library}.{name}"
    return None


def _polars_ipc(frame: Any) -> Buffer:
    sink = io.BytesIO()
    frame.write_ipc(sink, compression="uncompressed")
    return sink.getbuffer()


def _ipc(pa: Any, table: Any) -> Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return memoryview(sink.getvalue()).cast("B")


def _from_pandas(pa: Any, frame: Any) -> Any:
    try:
        return pa.Table.from_pandas(frame)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise UnsupportedTypeError(
            f"Arrow cannot hold this pandas {type(frame).__name__}: {'; '.join(str(a) for a in error.args)}",
            hint="Give the named column one type (for example .astype(str)), or return something else.",
        ) from error


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.ipc
    except ImportError as error:
        raise MissingDependencyError(
            "Passing tables needs pyarrow, which is not installed here",
            hint="Run: pip install 'airflow-provider-xcargo[arrow]'",
        ) from error
    return pyarrow


def _import(library: str, kind: str) -> Any:
    try:
        return __import__(library)
    except ImportError as error:
        raise MissingDependencyError(
            f"The value is a {kind}, and {library} is not installed here",
            hint=f"Run: pip install 'airflow-provider-xcargo[{library}]'",
        ) from error
