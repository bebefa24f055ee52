"""pandas: frames, series, indexes and scalars, column by column as Arrow, with what Arrow alone would lose beside it.

The payload is one Arrow IPC file that any Arrow reader opens. Its schema metadata hold, under ``xcargo``, a packed
description that rebuilds the value from the columns: dtypes, time zones, categories, index, labels, attributes. A
column of Python objects that are not all text is part of that description, since Arrow would change their types.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from xcargo.codecs import ipc
from xcargo.codecs.base import Encoded, arrow, importable
from xcargo.codecs.pandas_parts import (
    dtype_state,
    frequency_state,
    offset_state,
    restore_dtype,
    restore_offset,
    restore_scalar,
    restore_sparse,
    scalar_state,
    sparse_state,
)
from xcargo.codecs.source import Source
from xcargo.codecs.table_file import TableFile
from xcargo.codecs.tree import TreeCodec
from xcargo.codecs.value_path import cell_path, column_types, label_text
from xcargo.errors import DecodeError, UnsupportedTypeError, XCargoError
from xcargo.model.envelope import is_utf8
from xcargo.types import Buffer

__all__ = ["PandasCodec"]

_NUMPY_ARRAYS = ("NumpyExtensionArray", "PandasArray")
"""pandas' view of a numpy array, which a Series takes for the array itself."""
_NUMPY_DTYPES = ("NumpyEADtype", "PandasDtype")
_SCALARS = ("Timestamp", "Timedelta", "NaTType", "NAType", "Period", "Interval")
_KEY = b"xcargo"

_OWN_BLOCK_BYTES = 256 * 1024
_MOST_BLOCKS = 64
"""Up to so many columns of that size on average are not copied."""


class PandasCodec:
    """``pandas`` DataFrame, Series, every Index, Timestamp, Timedelta, Period, Interval, NaT and NA; pandas 2 and 3.

    Exact: dtypes (nullable, Arrow, categorical, time zones, period, interval), object columns, duplicate and non-string
    labels, MultiIndex, names, frequencies, sparse columns, ``attrs``. Arrays, dtypes and offsets of pandas too.
    """

    id = "pandas"

    def __init__(self, tree: TreeCodec) -> None:
        self._tree = tree

    def accepts(self, value: object) -> bool:
        return "pandas" in sys.modules and _kind(value) is not None

    def encode(self, value: Any) -> Encoded:
        kind = _kind(value)
        name = f"pandas.{type(value).__name__}"
        if kind == "scalar":
            payload = self._tree.pack([type(value).__name__, *scalar_state(value)])
            return Encoded(self.id, (payload,), {"type": name}, ".msgpack")
        if kind == "offset":
            return Encoded(self.id, (self._tree.pack(offset_state(value)),), {"type": "pandas.DateOffset"}, ".msgpack")
        if kind == "dtype":
            import pandas as pd

            empty = self._tree.pack(pd.array([], dtype=value))
            return Encoded(self.id, (empty,), {"type": "pandas.ExtensionDtype"}, ".msgpack")
        if kind == "array" and value.ndim != 1:
            raise UnsupportedTypeError(
                f"A {type(value).__name__} of {value.ndim} dimensions cannot be stored",
                hint="Return a DataFrame of it.",
            )
        pa = arrow()
        writer = _Writer(pa)
        state: Any = getattr(writer, str(kind))(value)
        params: dict[str, Any] = {"type": name, "shape": list(value.shape)}
        if kind == "frame":
            params["columns"] = column_types(zip(value.columns, value.dtypes, strict=True))
        table = pa.Table.from_arrays(writer.arrays, names=writer.names)
        try:
            table = table.replace_schema_metadata({_KEY: self._tree.pack([kind, state])})
        except UnsupportedTypeError as error:
            error.what = cell_path(error.what, value)
            raise
        return Encoded(self.id, ipc.write(table), params, ".arrow")

    def columns(self, source: Source, params: Mapping[str, Any], labels: Sequence[str] | None) -> Any:
        """The frame with these columns only (all by default), exactly as in the whole; fetches no other.

        Raises UnsupportedTypeError for what is no frame, KeyError naming the columns there are.
        """
        pd = importable("pandas", f"a {params.get('type')}")
        missing: KeyError | None = None
        try:
            file = TableFile(source)
            file.register_pandas_types()
            kind, state = self._tree.unpack(file.schema.metadata[_KEY])
            if kind != "frame":
                raise UnsupportedTypeError(f"A {params.get('type')} has no columns", hint="load() it.")
            reader = _Reader(pd, arrow(), file)
            if labels is None:
                return reader.frame(state)
            named = list(reader.index(state["labels"]))
            absent = [label for label in labels if label not in named]
            if not absent:
                return reader.frame(state, [n for label in labels for n, other in enumerate(named) if other == label])
            missing = KeyError(f"There is no column {absent[0]!r}; there are {', '.join(map(str, named))}")
        except XCargoError:
            raise
        except Exception as error:
            raise DecodeError(f"The object does not hold a pandas value: {type(error).__name__}: {error}") from error
        raise missing

    def decode(self, payload: Buffer, params: Mapping[str, Any]) -> Any:
        pd = importable("pandas", f"a {params.get('type')}")
        try:
            if params.get("type") in [f"pandas.{name}" for name in _SCALARS]:
                name, *state = self._tree.unpack(payload)
                return restore_scalar(pd, name, state)
            if params.get("type") == "pandas.DateOffset":
                return restore_offset(pd, self._tree.unpack(payload))
            if params.get("type") == "pandas.ExtensionDtype":
                return self._tree.unpack(payload).dtype
            table = ipc.read(payload)
            kind, state = self._tree.unpack(table.schema.metadata[_KEY])
            reader = _Reader(pd, arrow(), table, payload)
            if kind not in ("frame", "series", "index", "array"):
                raise DecodeError(f"Unknown kind of pandas value {kind!r}")
            return getattr(reader, kind)(state)
        except XCargoError:
            raise
        except Exception as error:  # Arrow and pandas raise errors of every kind for damaged input
            raise DecodeError(f"The object does not hold a pandas value: {type(error).__name__}: {error}") from error


def _kind(value: object) -> str | None:
    cls = type(value)
    module = str(getattr(cls, "__module__", ""))
    if module.partition(".")[0] != "pandas":
        return None
    pd = sys.modules["pandas"]
    if cls is getattr(pd, "DataFrame", None):
        return "frame"
    if cls is getattr(pd, "Series", None):
        return "series"
    if issubclass(cls, getattr(pd, "Index", ())):
        return "index"
    if isinstance(value, pd.api.extensions.ExtensionArray) and cls.__name__ not in _NUMPY_ARRAYS:
        return "array"
    if isinstance(value, pd.offsets.BaseOffset):
        return "offset"
    if isinstance(value, pd.api.extensions.ExtensionDtype) and cls.__name__ not in _NUMPY_DTYPES:
        return "dtype"
    return "scalar" if cls.__name__ in _SCALARS else None


class _Writer:
    """Takes a pandas value apart: arrays as long as its rows into ``arrays``, the rest into the state it returns."""

    def __init__(self, pa: Any) -> None:
        self._pa = pa
        self.arrays: list[Any] = []
        self.names: list[str] = []

    def frame(self, frame: Any) -> dict[str, Any]:
        columns = [self._values(column, label_text(label), label) for label, column in frame.items()]
        return {
            "columns": columns,
            "labels": self.index(frame.columns, rows=False),
            "index": self.index(frame.index),
            "attrs": dict(frame.attrs),
            "unique": not frame.flags.allows_duplicate_labels,
        }

    def series(self, series: Any) -> dict[str, Any]:
        return {
            "values": self._values(series, "values", series.name),
            "index": self.index(series.index),
            "name": series.name,
            "attrs": dict(series.attrs),
            "unique": not series.flags.allows_duplicate_labels,
        }

    def array(self, array: Any) -> list[Any]:
        import pandas as pd

        return self._values(pd.Series(array, copy=False), "values", None)

    def index(self, index: Any, *, rows: bool = True) -> list[Any]:
        """State of an index; ``rows`` puts its values beside the columns, else they go into the state."""
        kind = type(index).__name__
        if kind == "RangeIndex":
            return ["range", index.start, index.stop, index.step, index.name]
        if kind == "MultiIndex":
            levels = [self.index(level, rows=False) for level in index.levels]
            codes = [self._store(self._pa.array(c), f"__index_level_{n}__", rows) for n, c in enumerate(index.codes)]
            return ["multi", levels, codes, list(index.names)]
        freq = frequency_state(index.freq) if kind in ("DatetimeIndex", "TimedeltaIndex") else None
        return ["values", self._values(index, "__index_level_0__", index.name, rows=rows), index.name, freq]

    def _values(self, values: Any, name: str, label: object, *, rows: bool = True) -> list[Any]:
        """State of a Series' or Index's values, by dtype."""
        import numpy as np

        pa, dtype = self._pa, values.dtype
        kind = type(dtype).__name__
        try:
            if isinstance(dtype, np.dtype):
                array = values.to_numpy()
                if dtype.kind in "iufbmM" and dtype.itemsize <= 8 and dtype.isnative:
                    return ["numpy", dtype.str, self._store(pa.array(np.ascontiguousarray(array)), name, rows)]
                if dtype.kind != "O":
                    return ["raw", array]
                if set(map(type, array)) <= {str, type(None)} and all(x is None or is_utf8(x) for x in array):
                    return ["text", self._store(pa.array(array, pa.large_string()), name, rows, narrow=True)]
                return ["objects", list(array)]
            if kind == "CategoricalDtype":
                array = values.array
                categories = self.index(array.categories, rows=False)
                return ["category", categories, bool(dtype.ordered), self._store(pa.array(array.codes), name, rows)]
            if kind == "DatetimeTZDtype":
                array = values.array.tz_convert("UTC").tz_localize(None)
                return ["zoned", dtype.tz, self._store(pa.array(np.asarray(array)), name, rows)]
            if kind == "SparseDtype":
                return sparse_state(values.array)
            narrow = kind == "StringDtype"
            return ["extension", dtype_state(dtype), self._store(pa.array(values.array), name, rows, narrow=narrow)]
        except (pa.ArrowException, TypeError, ValueError) as error:
            if isinstance(error, XCargoError):
                raise
            raise UnsupportedTypeError(
                f"Arrow cannot hold column {label_text(label)!r} of dtype {dtype}: {'; '.join(map(str, error.args))}",
                hint="Convert the column (for example .astype(str)) before returning it.",
            ) from error

    def _store(self, array: Any, name: str, rows: bool, *, narrow: bool = False) -> int | bytes:
        if isinstance(array, self._pa.ChunkedArray):
            array = array.combine_chunks()
        if narrow and array.type == self._pa.large_string() and array.nbytes < 2**31:
            array = array.cast(self._pa.string())  # offsets of half the size, to compress and to carry
        if rows:
            self.arrays.append(array)
            self.names.append(name if name not in self.names else f"{name}.{len(self.names)}")
            return len(self.arrays) - 1
        table = self._pa.Table.from_arrays([array], names=[name])
        sink = self._pa.BufferOutputStream()
        with self._pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        return bytes(sink.getvalue())


class _Reader:
    """Puts a pandas value together again from the columns of ``table`` and a state.

    Columns of numbers stay in ``memory`` if it is writable.
    """

    def __init__(self, pd: Any, pa: Any, table: Any, memory: Buffer = b"") -> None:
        self._pd = pd
        self._pa = pa
        self._table = table
        self._memory = memory

    def frame(self, state: dict[str, Any], only: Sequence[int] | None = None) -> Any:
        index, labels, columns = self.index(state["index"]), self.index(state["labels"]), state["columns"]
        if only is not None:
            labels, columns = labels[list(only)], [columns[n] for n in only]
        series = {n: self._column_of(c, index) for n, c in enumerate(columns)}
        # Without a copy each column is a block of its own. With many of them, or small ones, pandas is slower than that
        # copy takes, and it warns of more than a hundred.
        alone = len(self._memory) >= _OWN_BLOCK_BYTES * max(1, len(columns)) and len(columns) <= _MOST_BLOCKS
        frame = self._pd.DataFrame(series, index=index, copy=not alone)
        frame.columns = labels
        return self._finished(frame, state)

    def series(self, state: dict[str, Any]) -> Any:
        series = self._column_of(state["values"], self.index(state["index"]))
        return self._finished(series.rename(state["name"]), state)

    def array(self, state: list[Any]) -> Any:
        values = self._values(state)
        return values if state[0] in ("category", "zoned") else self._pd.Series(values, copy=False).array

    def index(self, state: list[Any]) -> Any:
        pd = self._pd
        if state[0] == "range":
            return pd.RangeIndex(*state[1:4], name=state[4])
        if state[0] == "multi":
            _, levels, codes, names = state
            levels = [self.index(level) for level in levels]
            codes = [self._column(code, "is_integer").to_numpy(zero_copy_only=False) for code in codes]
            for level, code in zip(levels, codes, strict=True):
                if len(code) and not -1 <= code.min() <= code.max() < len(level):
                    raise DecodeError("A code of the MultiIndex is outside its level")
            return pd.MultiIndex(levels, codes, names=names, verify_integrity=False)
        _, values, name, freq = state
        array = self._values(values)
        index = pd.Index(array, dtype=getattr(array, "dtype", None), name=name)
        if freq is not None:
            index.freq = restore_offset(pd, freq) if isinstance(freq, list) else freq
        return index

    def _column_of(self, state: list[Any], index: Any) -> Any:
        values = self._values(state)  # with its dtype, for pandas would guess a better one than object
        ours = bool(getattr(getattr(values, "flags", None), "writeable", False))
        return self._pd.Series(values, index=index, dtype=values.dtype, copy=not ours)

    def _values(self, state: list[Any]) -> Any:
        import numpy as np

        pd, kind = self._pd, state[0]
        if kind == "numpy":
            column = self._column(state[2], "is_primitive")
            values = self._view(np, column, np.dtype(state[1]))
            if values is not None:
                return values
            return column.to_numpy(zero_copy_only=False).astype(np.dtype(state[1]), copy=False)
        if kind == "raw":
            return state[1]
        if kind == "text":
            return np.array(self._column(state[1], "is_string", "is_large_string").to_pylist(), dtype=object)
        if kind == "objects":
            array = np.empty(len(state[1]), dtype=object)
            for n, item in enumerate(state[1]):  # at once, numpy would take a list for a second dimension
                array[n] = item
            return array
        if kind == "category":
            _, categories, ordered, codes = state
            dtype = pd.CategoricalDtype(self.index(categories), ordered)
            return pd.Categorical.from_codes(self._column(codes, "is_integer").to_numpy(), dtype=dtype)
        if kind == "zoned":
            naive = pd.DatetimeIndex(self._column(state[2], "is_timestamp").to_numpy(zero_copy_only=False))
            return naive.tz_localize("UTC").tz_convert(state[1]).array
        if kind == "extension":
            if state[1] == ["arrow"]:
                column = self._column(state[2])
                return pd.arrays.ArrowExtensionArray(self._pa.chunked_array([column]))
            column = self._column(state[2], "is_null", "is_dictionary", "is_run_end_encoded", forbidden=True)
            return restore_dtype(pd, state[1]).__from_arrow__(self._pa.chunked_array([column]))
        if kind == "sparse":
            return restore_sparse(pd, state)
        raise DecodeError(
            f"Unknown kind of column {str(kind)[:80]!r}; run: pip install --upgrade airflow-provider-xcargo"
        )

    def _view(self, np: Any, column: Any, dtype: Any) -> Any:
        """A writable array over the column's own memory; None if there is none."""
        width = getattr(column.type, "bit_width", 0)
        if len(self._memory) < _OWN_BLOCK_BYTES or not len(column) or column.null_count:
            return None
        if width < 8 or width != 8 * dtype.itemsize:
            return None
        whole = np.frombuffer(self._memory, dtype=np.uint8)
        start = column.buffers()[1].address - whole.ctypes.data + column.offset * dtype.itemsize
        end = start + len(column) * dtype.itemsize
        if not whole.flags.writeable or not 0 <= start <= end <= len(whole):
            return None
        values = whole[start:end].view(dtype)
        return values if values.flags.aligned else None

    def _column(self, stored: int | bytes, *kinds: str, forbidden: bool = False) -> Any:
        """A column whose type is one of ``kinds``: another one could take up far more than its bytes."""
        table = self._table if isinstance(stored, int) else ipc.read_stream(stored)
        column = table.column(stored if isinstance(stored, int) else 0)
        column = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()  # copies a single chunk too
        if kinds and any(getattr(self._pa.types, kind)(column.type) for kind in kinds) is forbidden:
            raise DecodeError(f"A column of Arrow's type {str(column.type)[:80]} is not of this value")
        return column

    def _finished(self, value: Any, state: dict[str, Any]) -> Any:
        value.attrs = state["attrs"]
        return value.set_flags(allows_duplicate_labels=False) if state["unique"] else value
