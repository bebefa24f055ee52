"""Tables of polars and pyarrow, as Arrow IPC."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from typing import Any

from xcargo.codecs.base import Buffer, Encoded, arrow, importable
from xcargo.errors import DecodeError

__all__ = ["ArrowCodec"]

_TYPES = {"polars": ("DataFrame", "Series"), "pyarrow": ("Table", "RecordBatch")}
_SUFFIX = ".arrow"
_SHOWN_COLUMNS = 64


class ArrowCodec:
    """Polars frames and series, pyarrow tables and record batches, as one Arrow IPC file: no JSON and no hex.

    ``params["type"]`` says what to make of it again.
    """

    id = "arrow"

    def accepts(self, value: object) -> bool:
        return _kind(value) is not None

    def encode(self, value: Any) -> Encoded:
        kind = _kind(value)
        params: dict[str, Any] = {"type": kind, "shape": list(value.shape)}
        if kind in ("polars.DataFrame", "polars.Series"):
            frame = value if kind == "polars.DataFrame" else value.to_frame()
            params["columns"] = {name: str(dtype) for name, dtype in list(frame.schema.items())[:_SHOWN_COLUMNS]}
            written = io.BytesIO()
            frame.write_ipc(written, compression="uncompressed")
            return Encoded(self.id, (written.getbuffer(),), params, _SUFFIX)
        pa = arrow()
        params["columns"] = {field.name: str(field.type) for field in list(value.schema)[:_SHOWN_COLUMNS]}
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, value.schema) as file:
            file.write(value)
        return Encoded(self.id, (memoryview(sink.getvalue()).cast("B"),), params, _SUFFIX)

    def decode(self, payload: Buffer, params: Mapping[str, Any]) -> Any:
        kind = params.get("type")
        if kind in ("polars.DataFrame", "polars.Series"):
            pl = importable("polars", f"a {kind}")
            try:
                frame = pl.read_ipc(io.BytesIO(payload))
                return frame if kind == "polars.DataFrame" else frame.to_series()
            except Exception as error:
                raise DecodeError(f"The object is not a valid Arrow file: {error}") from error
        if kind not in ("pyarrow.Table", "pyarrow.RecordBatch"):
            raise DecodeError(f"The envelope names an unknown kind of table, {kind!r}")
        pa = arrow()
        try:
            with pa.ipc.open_file(pa.py_buffer(payload)) as file:
                table = file.read_all()
            table.validate()
        except (pa.ArrowException, OSError) as error:
            raise DecodeError(f"The object is not a valid Arrow file: {error}") from error
        if kind == "pyarrow.Table":
            return table
        batches = table.combine_chunks().to_batches()
        return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)


def _kind(value: object) -> str | None:
    for library, names in _TYPES.items():
        module = sys.modules.get(library)
        if module is not None:
            for name in names:
                if type(value) is getattr(module, name, None):
                    return f"{library}.{name}"
    return None
