"""Whether a value came back exactly: equal, of the same type in every part, with dtypes, names and metadata."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from itertools import zip_longest
from types import GeneratorType
from typing import Any

__all__ = ["assert_exact", "state_of"]

_MISSING = object()


def assert_exact(back: Any, value: Any, path: str = "value") -> None:
    """Raise AssertionError naming the first part that differs."""
    if type(value) is GeneratorType:  # of bytes
        assert type(back).__name__ == "ByteStream", f"{path}: a generator became {_name(back)}"
        assert back.read() == b"".join(value), path
        return
    assert type(back) is type(value) or _is_made_again(back, value), f"{path}: {_name(value)} became {_name(back)}"
    library = type(value).__module__.partition(".")[0]
    if "pandas" in sys.modules and _is_pandas(value):
        _pandas(back, value, path)
    elif library == "polars":
        _polars(back, value, path)
    elif library == "pyarrow":
        _pyarrow(back, value, path)
    elif (state := state_of(value)) is not None:
        assert not hasattr(value, "identical") or back.identical(value), f"{path}: another {type(value).__name__}"
        assert_exact(state_of(back), state, path)
    elif hasattr(value, "dtype") and hasattr(value, "tobytes"):
        _numpy(back, value, path)
    elif isinstance(value, Mapping):
        assert_exact(list(back.items()), list(value.items()), path)
    elif isinstance(value, (list, tuple)) or type(value).__name__ == "deque":
        for n, (left, right) in enumerate(zip_longest(back, value, fillvalue=_MISSING)):
            assert_exact(left, right, f"{path}[{n}]")
        assert repr(getattr(back, "maxlen", None)) == repr(getattr(value, "maxlen", None)), path
    elif isinstance(value, (set, frozenset)):
        assert_exact(sorted(back, key=_sort_key), sorted(value, key=_sort_key), path)
    elif type(value).__name__ == "memoryview":
        assert (back.format, back.shape, back.tobytes()) == (value.format, value.shape, value.tobytes()), path
    elif library == "xcargo" or hasattr(value, "__pydantic_private__"):
        assert back == value, f"{path}: another {type(value).__name__}"
    elif repr(value) == object.__repr__(value):
        assert_exact(vars(back), vars(value), path)
    else:
        assert repr(back) == repr(value), f"{path}: {value!r:.200} became {back!r:.200}"
        if library != "pandas":  # a Timestamp has one too, which its pickle loses
            assert getattr(back, "fold", 0) == getattr(value, "fold", 0), f"{path}: another fold"


def _is_pandas(value: Any) -> bool:
    import pandas as pd

    kinds = (pd.DataFrame, pd.Series, pd.Index, pd.api.extensions.ExtensionArray, pd.api.extensions.ExtensionDtype)
    return isinstance(value, kinds)


def _pandas(back: Any, value: Any, path: str) -> None:
    import pandas as pd

    if isinstance(value, (pd.DataFrame, pd.Series)):
        assert_exact(back.index, value.index, f"{path}.index")
        assert_exact(back.attrs, value.attrs, f"{path}.attrs")
        assert back.flags.allows_duplicate_labels is value.flags.allows_duplicate_labels, f"{path}.flags"
    if isinstance(value, pd.DataFrame):
        assert back.shape == value.shape, f"{path}: another shape"
        assert_exact(back.columns, value.columns, f"{path}.columns")
        for n in range(value.shape[1]):
            _array(back.iloc[:, n].array, value.iloc[:, n].array, f"{path}.iloc[:, {n}]")
    elif isinstance(value, pd.Series):
        assert_exact(back.name, value.name, f"{path}.name")
        _array(back.array, value.array, path)
    elif isinstance(value, pd.MultiIndex):
        pd.testing.assert_index_equal(back, value, exact=True, check_exact=True)
        assert_exact(list(back.names), list(value.names), f"{path}.names")
        for n, (left, right) in enumerate(zip(back.levels, value.levels, strict=True)):
            assert_exact(left, right, f"{path}.levels[{n}]")
    elif isinstance(value, pd.Index):
        pd.testing.assert_index_equal(back, value, exact=True, check_exact=True)
        assert_exact(back.name, value.name, f"{path}.name")
        assert_exact(getattr(back, "freq", None), getattr(value, "freq", None), f"{path}.freq")
        _array(back.array, value.array, path)
    elif isinstance(value, pd.api.extensions.ExtensionDtype):
        assert back == value, path
        assert repr(back) == repr(value), path
    else:
        _array(back, value, path)


def _array(back: Any, value: Any, path: str) -> None:
    import pandas as pd

    assert type(back) is type(value), f"{path}: array {_name(value)} became {_name(back)}"
    assert back.dtype == value.dtype, f"{path}: dtype {value.dtype!r} became {back.dtype!r}"
    assert repr(back.dtype) == repr(value.dtype), f"{path}: dtype {value.dtype!r} became {back.dtype!r}"
    assert back.shape == value.shape, f"{path}: another shape"
    if type(value) is pd.arrays.NumpyExtensionArray:
        _numpy(back.to_numpy(), value.to_numpy(), path)
    elif value.ndim == 1:
        pd.testing.assert_extension_array_equal(back, value, check_exact=True)
    if isinstance(value.dtype, pd.CategoricalDtype):
        assert_exact(back.categories, value.categories, f"{path}.categories")


def _numpy(back: Any, value: Any, path: str) -> None:
    import numpy as np

    assert back.dtype == value.dtype, f"{path}: dtype {value.dtype!r} became {back.dtype!r}"
    assert repr(back.dtype) == repr(value.dtype), f"{path}: dtype {value.dtype!r} became {back.dtype!r}"
    assert back.shape == value.shape, f"{path}: another shape"
    if isinstance(value, np.ma.MaskedArray):
        assert_exact(np.ma.getmaskarray(back), np.ma.getmaskarray(value), f"{path}.mask")
        assert repr(back.fill_value) == repr(value.fill_value), f"{path}: another fill value"
        assert_exact(back.data, value.data, f"{path}.data")
    elif value.dtype.names is not None:
        for name in value.dtype.names:
            assert_exact(back[name], value[name], f"{path}[{name!r}]")
    elif value.dtype.hasobject or value.dtype.kind == "T":
        assert_exact(list(back.flat), list(value.flat), path)
    else:
        assert back.tobytes() == value.tobytes(), f"{path}: other bytes"


def _polars(back: Any, value: Any, path: str) -> None:
    import polars as pl

    if isinstance(value, pl.LazyFrame):
        back, value = back.collect(), value.collect()
    if isinstance(value, pl.DataFrame):
        assert repr(back.schema) == repr(value.schema), f"{path}: another schema"
        assert back.height == value.height, f"{path}: another height"
        for name in value.columns:
            _polars(back[name], value[name], f"{path}[{name!r}]")
    elif isinstance(value, pl.Series):
        assert back.dtype == value.dtype, f"{path}: dtype {value.dtype!r} became {back.dtype!r}"
        assert back.name == value.name, f"{path}: another name"
        assert back.equals(value, check_dtypes=True, null_equal=True), f"{path}: another Series"
    else:
        assert repr(back) == repr(value), path


def _pyarrow(back: Any, value: Any, path: str) -> None:
    if hasattr(value, "read_all"):
        back, value = back.read_all(), value.read_all()
    if hasattr(value, "schema"):
        assert back.schema.equals(value.schema, check_metadata=True), f"{path}: another schema"
        assert back.num_rows == value.num_rows, f"{path}: other rows"
        for n in range(value.num_columns):
            _pyarrow(back.column(n), value.column(n), f"{path}.column({n})")
    elif hasattr(value, "metadata"):  # a schema or a field
        assert back.equals(value, check_metadata=True), f"{path}: {value} became {back}"
    elif hasattr(value, "type"):
        assert back.type == value.type, f"{path}: type {value.type} became {back.type}"
        assert str(back.type) == str(value.type), f"{path}: type {value.type} became {back.type}"
        if not back.equals(value):  # which it says of nan too
            plain = (lambda x: x.to_pylist()) if hasattr(value, "to_pylist") else (lambda x: x.as_py())
            assert_exact(plain(back), plain(value), path)
    else:
        assert back == value, f"{path}: {value} became {back}"
        assert str(back) == str(value), f"{path}: {value} became {back}"


def state_of(value: Any) -> Any:
    """What a row, or a value of a scientific library, consists of; None for values that say so themselves."""
    library = type(value).__module__.partition(".")[0]
    return _STATES[library](value) if library in _STATES else None


def _numpy_state(value: Any) -> Any:
    """Of random generators, polynomials and dtypes."""
    if hasattr(value, "dtype"):
        return None
    if hasattr(value, "bit_generator"):
        return value.bit_generator
    if hasattr(value, "get_state"):
        return value.get_state(legacy=False)
    if hasattr(value, "seed_seq"):
        return value.state, value.seed_seq
    if hasattr(value, "entropy"):
        return value.state
    if hasattr(value, "coef"):
        names = ("coef", "domain", "window", "symbol", "variable")
        return [getattr(value, name, None) for name in names]
    return None


def _scipy_state(value: Any) -> Any:
    """Every array with its dtype: indices, duplicates and zeros that are stored."""
    parts = {"shape": value.shape, "dtype": value.dtype}
    if value.format == "dok":
        import numpy as np

        return {**parts, "keys": np.array(list(value.keys())).tolist(), "values": list(value.values())}
    for name in ("indptr", "indices", "data", "row", "col", "offsets", "rows"):
        part = getattr(value, name, None)
        if part is not None and name in ("indices", "data") and hasattr(value, "indptr"):
            part = part[: value.indptr[-1]]  # what follows is spare room
        parts[name] = part
    flags = ("has_sorted_indices", "has_canonical_format")
    return parts | {flag: bool(getattr(value, flag, False)) for flag in flags}


def _xarray_state(value: Any) -> Any:
    """What ``identical`` does not compare."""
    if type(value).__name__ == "DataTree":
        return [(node.path, node.to_dataset()) for node in value.subtree]
    coords = getattr(value, "coords", {})
    return (
        str(value.dtypes if hasattr(value, "dtypes") else value.dtype),
        {name: str(coord.dtype) for name, coord in coords.items()},
        [type(index).__name__ for index in getattr(value, "xindexes", {}).values()],
        value.encoding,
    )


def _torch_state(value: Any) -> Any:
    if not hasattr(value, "requires_grad"):
        return None
    return str(value.dtype), value.requires_grad, value.resolve_conj().tolist()


_STATES: dict[str, Callable[[Any], Any]] = {
    "PIL": lambda image: (image.mode, image.size, image.tobytes(), image.info, image.getpalette()),
    "numpy": _numpy_state,
    "scipy": _scipy_state,
    "sklearn": vars,
    "sqlalchemy": lambda row: (row._fields, tuple(row)) if hasattr(row, "_fields") else None,
    "sqlite3": lambda row: (row.keys(), tuple(row)),
    "torch": _torch_state,
    "xarray": _xarray_state,
}
"""Library -> what a value of it consists of."""


def _is_made_again(back: Any, value: Any) -> bool:
    """Whether both are of named tuples of one name and the same fields, whose class no import finds."""
    cls, other = type(value), type(back)
    found = getattr(sys.modules.get(cls.__module__), cls.__qualname__, None) is cls
    names = [(kind.__name__, getattr(kind, "_fields", None)) for kind in (cls, other)]
    return isinstance(value, tuple) and not found and names[0] == names[1] and names[0][1] is not None


def _sort_key(item: Any) -> str:
    return f"{type(item).__name__} {item!r}"


def _name(value: Any) -> str:
    return "nothing" if value is _MISSING else f"{type(value).__module__}.{type(value).__qualname__}"
