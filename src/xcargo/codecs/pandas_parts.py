"""Parts of pandas values that are not columns of Arrow: dtypes, scalars, frequencies and sparse arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xcargo.errors import DecodeError, MissingDependencyError, UnsupportedTypeError

__all__ = [
    "dtype_state",
    "frequency_state",
    "offset_state",
    "restore_dtype",
    "restore_offset",
    "restore_scalar",
    "restore_sparse",
    "scalar_state",
    "sparse_state",
]

_DERIVED = ("calendar",)
"""Arguments that pandas derives from the rest."""


def frequency_state(offset: Any) -> str | list[Any] | None:
    """An index's frequency as pandas writes it, or in full where that would lose something."""
    if offset is None:
        return None
    from pandas.tseries.frequencies import to_offset

    try:
        if to_offset(offset.freqstr) == offset:
            return str(offset.freqstr)
    except ValueError:
        pass
    return offset_state(offset)


def offset_state(offset: Any) -> list[Any]:
    """Class, count and arguments of an offset. Raises UnsupportedTypeError for one that they do not rebuild."""
    import pandas as pd

    kwargs = {name: part for name, part in offset.kwds.items() if name not in _DERIVED}
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


def sparse_state(array: Any) -> list[Any]:
    """Values, their indices, and the fill value."""
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
        return [value.ordinal, value.freqstr]
    return [value.left, value.right, value.closed] if kind == "Interval" else []


def restore_scalar(pd: Any, kind: str, state: list[Any]) -> Any:
    """The scalar of `scalar_state`."""
    import numpy as np

    restore: dict[str, Callable[..., Any]] = {
        "NaTType": lambda: pd.NaT,
        "NAType": lambda: pd.NA,
        "Timedelta": lambda n, unit: pd.Timedelta(np.timedelta64(n, unit)),
        "Period": lambda ordinal, freq: pd.Period(ordinal=ordinal, freq=freq),
        "Interval": pd.Interval,
    }
    if kind != "Timestamp":
        return restore[kind](*state)
    n, unit, zone, fold = state
    moment = pd.Timestamp(np.datetime64(n, unit))
    moment = moment if zone is None else moment.tz_localize("UTC").tz_convert(zone)
    return moment.replace(fold=fold) if fold != moment.fold else moment


def dtype_state(dtype: Any) -> list[Any]:
    """What names an extension dtype."""
    kind = type(dtype).__name__
    if kind == "StringDtype":
        return ["string", dtype.storage, isinstance(dtype.na_value, float)]
    if kind == "ArrowDtype":
        return ["arrow"]
    package = type(dtype).__module__.partition(".")[0]
    return ["name", str(dtype)] if package == "pandas" else ["name", str(dtype), package]


def restore_dtype(pd: Any, state: list[Any]) -> Any:
    """The dtype of `dtype_state`."""
    if state[0] == "name":
        try:
            return pd.api.types.pandas_dtype(state[1])
        except TypeError as error:
            package = state[2] if len(state) > 2 else "the package that defines it"
            raise MissingDependencyError(
                f"A column has the dtype {str(state[1])[:80]!r}, which is not registered here",
                hint=f"Import {str(package)[:80]} before the value is pulled.",
            ) from error
    _, storage, missing_is_nan = state
    if not missing_is_nan:
        return pd.StringDtype(storage)
    try:
        return pd.StringDtype(storage, na_value=float("nan"))
    except TypeError as error:
        raise DecodeError(
            "The value was written with pandas 3, whose text columns the pandas installed here does not know",
            hint="Run: pip install 'pandas>=2.3'",
        ) from error
