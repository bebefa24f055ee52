"""pandas: frames, series, indexes and scalars, column by column as Arrow, with what Arrow alone would lose beside it.

The payload is one Arrow IPC file that any Arrow reader opens. Its schema metadata hold, under ``xcargo``, a packed
description that rebuilds the value from the columns: dtypes, time zones, categories, index, labels, attributes. A
column of Python objects that are not all text, days or times is part of it: Arrow would change their types.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from xcargo.codecs import ipc
from xcargo.codecs.base import Encoded, arrow, importable
from xcargo.codecs.extension_types import DTYPE_PACKAGES, extension_params
from xcargo.codecs.pandas_columns import PandasReader, PandasWriter
from xcargo.codecs.pandas_parts import offset_state, restore_offset, restore_scalar, scalar_state
from xcargo.codecs.source import Source
from xcargo.codecs.substitutes import current_push
from xcargo.codecs.table_file import TableFile
from xcargo.codecs.tree import TreeCodec
from xcargo.codecs.value_path import cell_path, column_types
from xcargo.errors import DecodeError, UnsupportedTypeError, XCargoError
from xcargo.types import Buffer

__all__ = ["PandasCodec"]

_NUMPY_ARRAYS = ("NumpyExtensionArray", "PandasArray")
"""pandas' view of a numpy array, which a Series takes for the array itself."""
_NUMPY_DTYPES = ("NumpyEADtype", "PandasDtype")
_SCALARS = ("Timestamp", "Timedelta", "NaTType", "NAType", "Period", "Interval")
_KEY = b"xcargo"


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
        name = f"{type(value).__module__.partition('.')[0]}.{type(value).__name__}"
        if kind == "scalar":
            payload = self._tree.pack([type(value).__name__, *scalar_state(value)])
            return Encoded(self.id, (payload,), {"type": name}, ".msgpack")
        if kind == "offset":
            return Encoded(self.id, (self._tree.pack(offset_state(value)),), {"type": "pandas.DateOffset"}, ".msgpack")
        if kind == "dtype":
            import pandas as pd

            array = pd.array([], dtype=value)
            if array.dtype != value:  # categories, or a closed side, that are not known yet
                raise UnsupportedTypeError(
                    f"A dtype {value} that leaves something open cannot be stored",
                    hint="Return the dtype of a column, or str(value).",
                )
            empty = self._tree.pack(array)
            return Encoded(self.id, (empty,), {"type": "pandas.ExtensionDtype"}, ".msgpack")
        pa = arrow()
        writer = PandasWriter(pa)
        try:
            state: Any = getattr(writer, str(kind))(value)
        except (XCargoError, MemoryError, RecursionError):
            raise
        except Exception as error:  # pandas raises errors of every kind for a value that it made but does not bear
            raise UnsupportedTypeError(
                f"pandas cannot take this {type(value).__name__} apart: {type(error).__name__}: {error}",
                hint="Return a copy of it: pandas.DataFrame(value.to_dict('series')), or its values.",
            ) from error
        params: dict[str, Any] = {"type": name, "shape": list(value.shape)}
        if kind == "frame":
            params["columns"] = column_types(zip(value.columns, value.dtypes, strict=True), current_push().mask)
        table = pa.Table.from_arrays(writer.arrays, names=writer.names)
        try:
            params |= extension_params(table.schema)
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
            file.register_types(params.get("extensions"))
            kind, state = self._tree.unpack(file.schema.metadata[_KEY])
            if kind != "frame":
                raise UnsupportedTypeError(f"A {params.get('type')} has no columns", hint="load() it.")
            reader = PandasReader(pd, arrow(), file)
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
            table = ipc.read(payload, params.get("extensions"))
            kind, state = self._tree.unpack(table.schema.metadata[_KEY])
            reader = PandasReader(pd, arrow(), table, payload)
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
    package = module.partition(".")[0]
    if package != "pandas" and package not in DTYPE_PACKAGES:
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
    if isinstance(value, pd.api.extensions.ExtensionDtype) and cls.__name__ not in _NUMPY_DTYPES:
        return "dtype"
    if isinstance(value, pd.offsets.BaseOffset):
        return "offset"
    return "scalar" if cls.__name__ in _SCALARS and package == "pandas" else None
