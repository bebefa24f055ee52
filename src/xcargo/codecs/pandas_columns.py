"""Takes pandas values apart into Arrow columns and a state, and puts them together again."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import date, datetime, time
from itertools import groupby
from typing import Any

from xcargo.codecs import ipc
from xcargo.codecs.extension_types import extension_params
from xcargo.codecs.pandas_parts import (
    dtype_state,
    offset_state,
    restore_dtype,
    restore_frequency,
    restore_sparse,
    sparse_state,
    with_frequency,
)
from xcargo.codecs.value_path import label_text
from xcargo.errors import UPGRADE_HINT, DecodeError, MissingDependencyError, UnsupportedTypeError, XCargoError
from xcargo.types import Buffer

__all__ = ["PandasReader", "PandasWriter"]

_OWN_BLOCK_BYTES = 256 * 1024
_MOST_BLOCKS = 64
"""Up to so many columns of that size on average are not copied."""

_SAMPLE_ROWS = 1000
"""Of a column of texts these are looked at, for whether it repeats a few."""
_LEAST_CODES = 5000
"""Rows from which on codes are faster than texts, there and back."""
_TEXTS = ("is_string", "is_large_string")


class PandasWriter:
    """Takes a pandas value apart: arrays as long as its rows into ``arrays``, the rest into the state it returns."""

    def __init__(self, pa: Any) -> None:
        self._pa = pa
        self.arrays: list[Any] = []
        self.names: list[str] = []

    def frame(self, frame: Any) -> dict[str, Any]:
        items: Any = frame.items()
        if frame.columns.nlevels > 1:  # pandas 2 fails where a level has a label twice, as after describe()
            items = ((label, frame.iloc[:, n]) for n, label in enumerate(frame.columns))
        columns = [self._values(column, label_text(label), label) for label, column in items]
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

        if array.ndim != 1:
            return ["shaped", list(array.shape), self.array(array.ravel())]
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
        freq = getattr(index, "freq", None) if kind in ("DatetimeIndex", "TimedeltaIndex") else None
        freq = None if freq is None else offset_state(freq)
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
                    if dtype.kind in "mM" and not dtype.isnative:
                        raise ValueError("pandas changes the byte order of times when it makes a column of them")
                    return ["raw", array]
                return self._objects(array, name, rows=rows)
            if kind == "CategoricalDtype":
                array = values.array
                categories = self.index(array.categories, rows=False)
                return ["category", categories, bool(dtype.ordered), self._store(pa.array(array.codes), name, rows)]
            if kind == "DatetimeTZDtype":
                array = values.array.tz_convert("UTC").tz_localize(None)
                return ["zoned", dtype.tz, self._store(pa.array(np.asarray(array)), name, rows)]
            if kind == "SparseDtype":
                return sparse_state(values.array)
            if kind == "IntervalDtype" and type(dtype.subtype).__name__ == "DatetimeTZDtype":
                array = values.array
                ends = [
                    pa.array(np.asarray(end.tz_convert("UTC").tz_localize(None))) for end in (array.left, array.right)
                ]
                stored = self._store(pa.StructArray.from_arrays(ends, ["left", "right"]), name, rows)
                return ["intervals", dtype.subtype.tz, dtype.closed, stored]
            state = dtype_state(dtype)
            if state[0] == "name" and len(state) > 2:
                return self._values_of_package(values.array, state, name, rows=rows)
            narrow, column = kind == "StringDtype", pa.array(values.array)
            if narrow or state == ["arrow"]:  # may be of a file of others
                ipc.check_values(pa.table({"values": column}))
            if narrow and dtype.storage != "python" and type(values.array).__name__ == "StringArray":
                # Its class made it without a dtype, which then names Arrow's storage.
                return ["strings", self._store(column, name, rows, narrow=True)]
            return ["extension", state, self._store(column, name, rows, narrow=narrow)]
        except (pa.ArrowException, TypeError, ValueError) as error:
            if isinstance(error, UnsupportedTypeError) or not isinstance(error, XCargoError):
                where = "The values" if label is None else f"Column {label_text(label)!r}"
                raise UnsupportedTypeError(
                    f"{where} of dtype {dtype} cannot be stored: {'; '.join(map(str, error.args))}",
                    hint="Convert the column (for example .astype(str)), or register a codec for the value under "
                    "'xcargo.codecs'.",
                ) from error
            raise

    def _objects(self, array: Any, name: str, *, rows: bool) -> list[Any]:
        """State of Python objects: of nothing but texts, days or times by Arrow in one pass, of others one by one."""
        pa, objects = self._pa, array.tolist()
        kinds = {kind for kind, _ in groupby(objects, type)}  # in half the time of set(map(type, objects))
        for kind, column_type in ((date, pa.date32()), (time, pa.time64("us")), (datetime, pa.timestamp("us"))):
            if kinds - {type(None)} == {kind} and (kind is date or not any(map(_has_zone_or_fold, objects))):
                return ["times", self._store(pa.array(array, column_type), name, rows)]
        if kinds <= {str, type(None)} or kinds <= {str, float}:
            with suppress(UnicodeError, pa.ArrowTypeError):  # half a character; a number
                column = self._store(self._texts(array), name, rows, narrow=True)
                return ["nan-text" if float in kinds else "text", column]
        return ["objects", objects]

    def _texts(self, array: Any) -> Any:
        """Texts as Arrow, missing ones as nulls; if they repeat, as codes, so that a pull makes one object of each."""
        import numpy as np

        pa, sample = self._pa, array[:: max(1, len(array) // _SAMPLE_ROWS)]
        if len(array) < _LEAST_CODES or len(set(sample)) > len(sample) // 10:
            return pa.array(array, pa.large_string(), from_pandas=True)
        # Not by pandas.factorize(): to pandas 2 two texts are one if they differ only behind a NUL.
        column = pa.array(array, pa.dictionary(pa.int32(), pa.large_string()), from_pandas=True)
        small = pa.from_numpy_dtype(np.min_scalar_type(-1 - len(column.dictionary)))
        return pa.DictionaryArray.from_arrays(column.indices.cast(small), column.dictionary)

    def _values_of_package(self, array: Any, state: list[Any], name: str, *, rows: bool) -> list[Any]:
        """State of an array of another package's dtype: by Arrow if it comes back from there, else value by value."""
        dtype = array.dtype

        def equal(back: Any) -> bool:
            return type(back) is type(array) and back.dtype == dtype and bool(back.equals(array))

        with suppress(Exception):
            column = self._pa.array(array)
            chunks = column if isinstance(column, self._pa.ChunkedArray) else self._pa.chunked_array([column])
            if equal(dtype.__from_arrow__(chunks)):
                return ["extension", state, self._store(column, name, rows)]
        with suppress(Exception):
            if equal(type(array)._from_sequence(list(array), dtype=dtype)):
                return ["items", state, list(array)]
        raise ValueError("neither Arrow nor a list of its values gives it back")

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
        extension_params(table.schema)  # refuses those that a pull could not register
        sink = self._pa.BufferOutputStream()
        with self._pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        return bytes(sink.getvalue())


class PandasReader:
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
        return self._finished(series.rename(_name(state["name"])), state)

    def array(self, state: list[Any]) -> Any:
        if state[0] == "shaped":
            return self.array(state[2]).reshape(tuple(state[1]))
        values = self._values(state)
        return values if state[0] in ("category", "zoned") else self._pd.Series(values, copy=False).array

    def index(self, state: list[Any]) -> Any:
        pd = self._pd
        if state[0] == "range":
            return pd.RangeIndex(*state[1:4], name=_name(state[4]))
        if state[0] == "multi":
            _, levels, codes, names = state
            levels, names = [self.index(level) for level in levels], list(map(_name, names))
            codes = [self._column(code, "is_integer").to_numpy(zero_copy_only=False) for code in codes]
            for level, code in zip(levels, codes, strict=True):
                if len(code) and not -1 <= code.min() <= code.max() < len(level):
                    raise DecodeError("A code of the MultiIndex is outside its level")
            return pd.MultiIndex(levels, codes, names=names, verify_integrity=False)
        _, values, name, freq = state
        array = self._values(values)
        index = pd.Index(array, dtype=getattr(array, "dtype", None), name=_name(name))
        return index if freq is None else with_frequency(index, restore_frequency(pd, freq))

    def _column_of(self, state: list[Any], index: Any) -> Any:
        values = self._values(state)  # with its dtype, for pandas would guess a better one than object
        flags = getattr(values, "flags", None)
        if flags is not None and not flags.writeable:
            values = values.copy()  # pandas 2 does not copy times
        return self._pd.Series(values, index=index, dtype=values.dtype, copy=flags is None)

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
        if kind in ("text", "nan-text"):
            return self._texts(self._column(state[1], *_TEXTS, "is_dictionary"), np.nan if kind == "nan-text" else None)
        if kind == "times":
            column = self._column(state[1], "is_date32", "is_time64", "is_timestamp")
            if self._pa.types.is_timestamp(column.type):
                return column.to_numpy(zero_copy_only=False).astype(object)  # in a tenth of the time of to_pandas
            return column.to_pandas(date_as_object=True).to_numpy()
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
            return self._zoned(self._column(state[2], "is_timestamp"), state[1]).array
        if kind == "intervals":
            _, zone, closed, stored = state
            left, right = self._column(stored, "is_struct").flatten()
            return pd.arrays.IntervalArray.from_arrays(self._zoned(left, zone), self._zoned(right, zone), closed)
        if kind == "extension":
            if state[1] == ["arrow"]:
                column = self._column(state[2])
                return pd.arrays.ArrowExtensionArray(self._pa.chunked_array([column]))
            column = self._column(state[2], "is_null", "is_dictionary", "is_run_end_encoded", forbidden=True)
            dtype = restore_dtype(pd, state[1])
            if isinstance(dtype, (pd.Float32Dtype, pd.Float64Dtype)) and self._pa.types.is_floating(column.type):
                # pandas 3 would take a nan for a missing value, as pandas 2 and one of its options do not.
                missing = np.array(column.is_null())
                return pd.arrays.FloatingArray(np.array(column.fill_null(1), dtype.numpy_dtype), missing)
            array = dtype.__from_arrow__(self._pa.chunked_array([column]))
            if state[1][0] == "string" and type(array) is not dtype.construct_array_type():  # in pandas 2.3
                array = dtype.construct_array_type()._from_sequence(column.to_pylist(), dtype=dtype)
            if array.dtype != dtype:
                raise MissingDependencyError(
                    f"The pandas installed here has no columns of dtype {str(dtype)[:80]}",
                    hint="Run: pip install --upgrade pandas",
                )
            return array
        if kind == "strings":
            texts = self._column(state[1], "is_string", "is_large_string").to_pylist()
            return pd.arrays.StringArray(np.array([pd.NA if t is None else t for t in texts], dtype=object))
        if kind == "items":
            dtype = restore_dtype(pd, state[1])
            return dtype.construct_array_type()._from_sequence(state[2], dtype=dtype)
        if kind == "sparse":
            return restore_sparse(pd, state)
        raise DecodeError(f"Unknown kind of column {str(kind)[:80]!r}", hint=UPGRADE_HINT)

    def _texts(self, column: Any, missing: Any) -> Any:
        """Texts as Python objects, with what stands for a missing one."""
        import numpy as np

        if not self._pa.types.is_dictionary(column.type):
            texts = column.to_numpy(zero_copy_only=False)
            if column.null_count and missing is not None:
                texts[column.is_null().to_numpy(zero_copy_only=False)] = missing
            return texts
        texts = np.append(self._of_type(column.dictionary, *_TEXTS).to_numpy(zero_copy_only=False), missing)
        return texts[column.indices.fill_null(len(texts) - 1).to_numpy()]

    def _zoned(self, column: Any, zone: Any) -> Any:
        """The times of a column, which are in UTC, as an index in their zone."""
        if not self._pa.types.is_timestamp(column.type):
            raise DecodeError(f"Times of Arrow's type {str(column.type)[:80]}")
        naive = self._pd.DatetimeIndex(column.to_numpy(zero_copy_only=False))
        return naive.tz_localize("UTC").tz_convert(zone)

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
        return self._of_type(column, *kinds, forbidden=forbidden)

    def _of_type(self, column: Any, *kinds: str, forbidden: bool = False) -> Any:
        if kinds and any(getattr(self._pa.types, kind)(column.type) for kind in kinds) is forbidden:
            raise DecodeError(f"A column of Arrow's type {str(column.type)[:80]} is not of this value")
        return column

    def _finished(self, value: Any, state: dict[str, Any]) -> Any:
        value.attrs = state["attrs"]
        return value.set_flags(allows_duplicate_labels=False) if state["unique"] else value


def _has_zone_or_fold(when: Any) -> bool:
    return when is not None and (when.tzinfo is not None or when.fold != 0)


def _name(name: Any) -> Any:
    """The name of an index or series. pandas compares one that is not a number by identity."""
    import numpy as np

    return np.nan if type(name) is float and name != name else name
