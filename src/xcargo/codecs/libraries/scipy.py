"""scipy's sparse matrices and arrays, with their index dtypes, duplicates and explicit zeros."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

__all__ = ["restore", "state"]


def state(value: Any) -> dict[str, Any]:
    """Shape and arrays of a matrix, by its format. Copies nothing of the compressed formats."""
    import numpy as np

    shape, form = list(value.shape), value.format
    if form in ("csr", "csc", "bsr"):
        stored = int(value.indptr[-1])  # what is beyond that is no part of the matrix
        return {
            "shape": shape,
            "data": value.data[:stored],
            "indices": value.indices[:stored],
            "indptr": value.indptr,
        }
    if form == "coo":
        coords = list(value.coords) if hasattr(value, "coords") else [value.row, value.col]
        return {"shape": shape, "data": value.data, "coords": coords, "canonical": bool(value.has_canonical_format)}
    if form == "dia":
        return {"shape": shape, "data": value.data, "offsets": value.offsets}
    if form == "dok":
        keys = np.array(list(value.keys()), dtype=np.int64).reshape(-1, len(shape))
        return {"shape": shape, "keys": keys, "data": np.array(list(value.values()), dtype=value.dtype)}
    rows = [np.array(row, dtype=np.int64) for row in value.rows]
    cells = [np.array(row, dtype=value.dtype) for row in value.data]
    return {
        "shape": shape,
        "lengths": np.array(list(map(len, rows)), dtype=np.int64),
        "indices": np.concatenate([np.empty(0, np.int64), *rows]),
        "data": np.concatenate([np.empty(0, value.dtype), *cells]),
    }


def restore(cls: Any, state: dict[str, Any]) -> Any:
    """The matrix of `state`. Raises ValueError for indices outside of the shape; allocates no more than the arrays."""
    shape = tuple(state["shape"])
    if not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError("it has no shape")
    form = cls.__name__[:3]
    if form in ("csr", "csc", "bsr"):
        return _compressed(cls, state, shape)
    data = _array(state, "data")
    if form == "coo":
        coords = tuple(_array({"coords": part}, "coords") for part in state["coords"])
        value = cls((data, coords), shape=shape)
        if hasattr(value, "coords"):
            value.coords = coords
        else:
            value.row, value.col = coords
        value.has_canonical_format = bool(state["canonical"])
        return value
    if form == "dia":
        value = cls((data, _array(state, "offsets")), shape=shape)
        value.offsets = state["offsets"]
        return value
    return _keyed(cls, state, shape) if form == "dok" else _listed(cls, state, shape)


def _compressed(cls: Any, state: dict[str, Any], shape: tuple[int, ...]) -> Any:
    data, indices, indptr = (_array(state, name) for name in ("data", "indices", "indptr"))
    value = cls((data, indices, indptr), shape=shape)
    value.check_format(full_check=True)
    if len(value.indices) != len(indices):
        raise ValueError("it holds more than its rows")
    value.indices, value.indptr = indices, indptr  # scipy prefers the smallest dtype that holds them
    return value


def _keyed(cls: Any, state: dict[str, Any], shape: tuple[int, ...]) -> Any:
    keys, data = _array(state, "keys"), _array(state, "data")
    if keys.shape != (len(data), len(shape)) or (keys < 0).any() or (keys >= list(shape)).any():
        raise ValueError("it has entries outside of its shape")
    value = cls(shape, dtype=data.dtype)
    for key, item in zip(keys.tolist(), data, strict=True):
        value.setdefault(tuple(key) if len(shape) > 1 else key[0], item)
    return value


def _listed(cls: Any, state: dict[str, Any], shape: tuple[int, ...]) -> Any:
    lengths, indices, data = (_array(state, name) for name in ("lengths", "indices", "data"))
    if lengths.shape != shape[:1] or (lengths < 0).any() or not lengths.sum() == len(indices) == len(data):
        raise ValueError("its rows do not hold its entries")
    if len(indices) and not 0 <= indices.min() <= indices.max() < shape[1]:
        raise ValueError("it has entries outside of its shape")
    value = cls(shape, dtype=data.dtype)
    for n, (start, end) in enumerate(pairwise([0, *lengths.cumsum().tolist()])):
        value.rows[n], value.data[n] = indices[start:end].tolist(), data[start:end].tolist()
    return value


def _array(state: dict[str, Any], name: str) -> Any:
    """An array; of indices one that scipy's compiled code takes as it is."""
    import numpy as np

    array = state[name]
    if type(array) is not np.ndarray:
        raise TypeError(f"{name} is no array")
    if name != "data" and array.dtype not in (np.int32, np.int64):
        raise TypeError(f"{name} is of dtype {array.dtype}")
    return array
