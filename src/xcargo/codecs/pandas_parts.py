"""Parts of pandas values that are not columns of Arrow: dtypes, scalars, frequencies and sparse arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xcargo.codecs.extension_types import DTYPE_PACKAGES, import_package
from xcargo.errors import DecodeError, UnsupportedTypeError

__all__ = [
    "dtype_state",
    "offset_state",
    "restore_dtype",
    "restore_frequency",
    "restore_offset",
    "restore_scalar",
    "restore_sparse",
    "scalar_state",
    "sparse_state",
    "with_frequency",
]

_DERIVED = ("calendar",)
"""Arguments that pandas derives from the rest."""
_NEW = {"method": 3}
"""Arguments that only newer releases of pandas know, with their defaults."""


def offset_state(offset: Any) -> list[Any]:
    """Class, count and arguments of an offset. Raises UnsupportedTypeError for one that they do not rebuild."""
    import pandas as pd

    kwargs = {name: part for name, part in offset.kwds.items() if name not in _DERIVED and _NEW.get(name) != part}
    state = [type(offset).__name__, offset.n, offset.normalize, kwargs]
    try:
        if restore_offset(pd, state) == offset:
            return state
    except (DecodeError, TypeError, ValueError):
        pass
    raise UnsupportedTypeError(
        f"The frequency {type(offset).__name__} cannot be rebuilt from its arguments",
        hint="Return the value with index.freq = None.",
    )


def restore_offset(pd: Any, state: Any) -> Any:
    """The offset of `offset_state`."""
    name, n, normalize, kwargs = state
    cls = getattr(pd.offsets, name, None)
    if not (isinstance(cls, type) and issubclass(cls, pd.offsets.BaseOffset)):
        raise DecodeError(f"pandas has no offset {str(name)[:80]!r}")
    return cls(n, **kwargs) if issubclass(cls, pd.offsets.Tick) else cls(n, normalize, **kwargs)


def restore_frequency(pd: Any, state: Any) -> Any:
    """The frequency of an index or period: of `offset_state`, or a text as early releases wrote it."""
    return pd.tseries.frequencies.to_offset(state) if isinstance(state, str) else restore_offset(pd, state)


def with_frequency(index: Any, frequency: Any) -> Any:
    """The index with a frequency that it had, which need not be one that pandas would give it."""
    try:
        index.freq = frequency
    except Exception:  # pandas 2 keeps days through a tz_convert() to a zone where they are not 24 hours
        owner = index if hasattr(index, "_freq") else index._data  # since pandas 3.1 it is not the array's
        owner._freq = frequency
    return index


def sparse_state(array: Any) -> list[Any]:
    """Values, their indices, and the fill value. Raises ValueError for an array that is not of its dtype."""
    if array.sp_values.dtype != array.dtype.subtype:
        raise ValueError(f"its values are of dtype {array.sp_values.dtype}")
    return ["sparse", array.fill_value, array.kind, len(array), array.sp_index.indices, array.sp_values]


def restore_sparse(pd: Any, state: list[Any]) -> Any:
    """The array of `sparse_state`. pandas checks the indices against the length."""
    _, fill, kind, length, indices, values = state
    if kind not in ("integer", "block"):
        raise DecodeError("A sparse column is of an unknown kind")
    if hasattr(pd.arrays.SparseArray, "from_indices"):  # pandas 3.1
        return pd.arrays.SparseArray.from_indices(values, indices, length, fill, kind)
    cls = type(pd.arrays.SparseArray([], kind=kind).sp_index)  # it is not public
    index = cls(length, indices) if kind == "integer" else _block_index(cls, length, indices)
    dtype = pd.SparseDtype(values.dtype, fill)
    return pd.arrays.SparseArray(values, sparse_index=index, fill_value=fill, kind=kind, dtype=dtype)


def _block_index(cls: Any, length: int, indices: Any) -> Any:
    import numpy as np

    starts = np.flatnonzero(np.diff(indices, prepend=-2) != 1)
    lengths = np.diff(starts, append=len(indices)).astype(np.int32)
    return cls(length, indices[starts].astype(np.int32), lengths)


def scalar_state(value: Any) -> list[Any]:
    """Arguments that rebuild a Timestamp, Timedelta, Period or Interval."""
    kind = type(value).__name__
    if kind == "Timestamp":
        return [value.asm8.astype("int64").item(), value.unit, value.tz, value.fold]
    if kind == "Timedelta":
        return [value.asm8.astype("int64").item(), value.unit]
    if kind == "Period":
        return [value.ordinal, offset_state(value.freq)]
    return [value.left, value.right, value.closed] if kind == "Interval" else []


def restore_scalar(pd: Any, kind: str, state: list[Any]) -> Any:
    """The scalar of `scalar_state`."""
    import numpy as np

    restore: dict[str, Callable[..., Any]] = {
        "NaTType": lambda: pd.NaT,
        "NAType": lambda: pd.NA,
        "Timedelta": lambda n, unit: pd.Timedelta(np.timedelta64(n, unit)),
        "Period": lambda ordinal, freq: pd.Period(ordinal=ordinal, freq=restore_frequency(pd, freq)),
        "Interval": pd.Interval,
    }
    if kind != "Timestamp":
        return restore[kind](*state)
    n, unit, zone, fold = state
    moment = pd.Timestamp(np.datetime64(n, unit))
    moment = moment if zone is None else moment.tz_localize("UTC").tz_convert(zone)
    return moment.replace(fold=fold) if fold != moment.fold else moment


def dtype_state(dtype: Any) -> list[Any]:
    """What names an extension dtype. Raises UnsupportedTypeError for one that a pull could not find."""
    kind, package = type(dtype).__name__, type(dtype).__module__.partition(".")[0]
    if package != "pandas":
        if package in DTYPE_PACKAGES:
            return ["name", str(dtype), package]
        raise UnsupportedTypeError(f"a task that pulls it does not know to import {package}, which defines the dtype")
    if kind == "StringDtype":
        missing_is_nan = isinstance(dtype.na_value, float)
        return ["string", "pyarrow" if dtype.storage == "pyarrow_numpy" else dtype.storage, missing_is_nan]
    if kind == "ArrowDtype":
        return ["arrow"]
    return ["period", offset_state(dtype.freq)] if kind == "PeriodDtype" else ["name", str(dtype)]


def restore_dtype(pd: Any, state: list[Any]) -> Any:
    """The dtype of `dtype_state`."""
    if state[0] == "period":
        return pd.PeriodDtype(restore_offset(pd, state[1]))
    if state[0] == "name":
        if len(state) > 2:
            import_package(state[2], f"a column of dtype {str(state[1])[:80]}")
        return pd.api.types.pandas_dtype(state[1])
    _, storage, missing_is_nan = state
    if not missing_is_nan:
        return pd.StringDtype(storage)
    try:
        return pd.StringDtype(storage, na_value=float("nan"))
    except TypeError as error:  # before pandas 2.3
        if storage == "pyarrow":
            return pd.StringDtype("pyarrow_numpy")
        raise DecodeError(
            "The value was written with pandas 3, whose text columns the pandas installed here does not know",
            hint="Run: pip install 'pandas>=2.3'",
        ) from error
