"""xarray's datasets, arrays, variables and trees, with their coordinates, indexes, attributes and names."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from xcargo.errors import UnsupportedTypeError

__all__ = ["restore", "state"]

_INDEXES = ("PandasIndex", "PandasMultiIndex")


def state(value: Any) -> dict[str, Any]:
    """Variables, coordinates and indexes. The coordinates of an index hold no data of their own."""
    name = type(value).__name__
    if name == "Variable":
        return {"variable": _variable(value, "the variable")}
    if name == "DataTree":
        if value.parent is not None:
            value = value.copy(deep=False)  # a tree of its own, with the coordinates that it has from its parents
        nodes = {node.path: state(node.to_dataset(inherit=False)) for node in value.subtree}
        return {"name": value.name, "nodes": nodes}
    indexes = [_index(index, list(variables)) for index, variables in value.xindexes.group_by_index()]
    indexed = {label for _, labels, *_ in indexes for label in labels}
    coords = [
        [label, _variable(coord.variable, f"coordinate {label!r}", data=label not in indexed)]
        for label, coord in value.coords.items()
    ]
    if name == "DataArray":
        return {
            "name": value.name,
            "variable": _variable(value.variable, "the array"),
            "coords": coords,
            "indexes": indexes,
        }
    return {
        "variables": [
            [label, _variable(part.variable, f"variable {label!r}")] for label, part in value.data_vars.items()
        ],
        "coords": coords,
        "indexes": indexes,
        "attrs": dict(value.attrs),
        "encoding": _plain(dict(value.encoding)),
    }


def restore(cls: Any, state: dict[str, Any]) -> Any:
    """The value of `state`. Raises ValueError if xarray makes another dtype, coordinate or index of it."""
    import xarray as xr

    if cls is xr.Variable:
        return _restore_variable(state["variable"])
    if cls.__name__ == "DataTree":
        nodes = {path: restore(xr.Dataset, node) for path, node in state["nodes"].items()}
        return cls.from_dict(nodes, name=state["name"])
    coords = _restore_coords(xr, state["coords"], state["indexes"])
    if cls is xr.DataArray:
        variable = _restore_variable(state["variable"])
        value = xr.DataArray(variable.data, coords=coords, dims=variable.dims, name=state["name"], attrs=variable.attrs)
        value.encoding = dict(variable.encoding)
        parts = [(value.variable, variable)]
    else:
        variables = {label: _restore_variable(part) for label, part in state["variables"]}
        value = xr.Dataset(variables, coords=coords, attrs=state["attrs"])
        value.encoding = dict(state["encoding"])
        if list(value.data_vars) != list(variables):
            raise ValueError("a variable has the name of its dimension")
        parts = [(value[label].variable, part) for label, part in variables.items()]
    if any(part.dtype != before.dtype or part.dims != before.dims for part, before in parts):
        raise ValueError("xarray changes the dtype of a variable")
    if list(value.coords) != list(coords) or set(value.xindexes) != set(coords.xindexes):
        raise ValueError("xarray changes its coordinates")
    return value


def _variable(variable: Any, what: str, *, data: bool = True) -> list[Any]:
    """Dimensions, data, attributes and the plain part of the encoding."""
    import numpy as np

    if variable.chunks is not None:
        raise UnsupportedTypeError(
            f"{what[0].upper()}{what[1:]} is computed by dask when it is needed, and cannot be stored",
            hint="Return value.load(), or write it to a store of its own (value.to_zarr) and return where that is.",
        )
    array = None
    if data:
        array = variable.data
        array = getattr(array, "array", array)  # around an extension array of pandas
        cls = type(array)
        if cls is not np.ndarray and not _is_pandas(array):
            raise UnsupportedTypeError(
                f"{what[0].upper()}{what[1:]} is a {cls.__module__}.{cls.__name__}, not an array of numpy",
                hint="Return value.as_numpy().",
            )
    return [list(variable.dims), array, dict(variable.attrs), _plain(dict(variable.encoding))]


def _restore_variable(parts: Any) -> Any:
    import numpy as np
    import xarray as xr

    dims, data, attrs, encoding = parts
    if not isinstance(data, np.ndarray) and not _is_pandas(data):
        raise TypeError("a variable holds no array")
    return xr.Variable(dims, data, attrs=attrs, encoding=encoding)


def _index(index: Any, labels: list[Any]) -> list[Any]:
    """Class, names of its coordinates, dimension, pandas index, dtypes of the coordinates."""
    name = type(index).__name__
    if type(index).__module__.partition(".")[0] != "xarray" or name not in _INDEXES:
        raise UnsupportedTypeError(
            f"The index of {', '.join(map(repr, labels))} is a {name}, which cannot be stored",
            hint=f"Return value.drop_indexes({labels!r}).",
        )
    dtypes = index.level_coords_dtype if name == "PandasMultiIndex" else index.coord_dtype
    return [name, labels, index.dim, index.index, dtypes]


def _restore_coords(xr: Any, coords: Any, indexes: Any) -> Any:
    restored: dict[Any, Any] = {}
    variables: dict[Any, Any] = {}
    for name, labels, dim, pandas_index, dtypes in indexes:
        if (
            name not in ("PandasIndex", "PandasMultiIndex")
            or type(pandas_index).__module__.partition(".")[0] != "pandas"
        ):
            raise ValueError("an index is of an unknown kind")
        index = getattr(import_module("xarray.indexes"), name)(pandas_index, dim, dtypes)
        restored |= dict.fromkeys(labels, index)
        variables |= index.create_variables()
    for label, (dims, data, attrs, encoding) in coords:
        if data is not None:
            variables[label] = _restore_variable([dims, data, attrs, encoding])
        variables[label].attrs, variables[label].encoding = attrs, encoding
    return xr.Coordinates({label: variables[label] for label, _ in coords}, indexes=restored)


def _is_pandas(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "pandas"


def _plain(encoding: Any) -> Any:
    """Those entries of an encoding that are plain values; others are objects of the engine that read the file."""
    import numpy as np

    return {
        name: entry
        for name, entry in encoding.items()
        if isinstance(entry, (str, int, float, bool, type(None), np.generic, np.dtype))
        or (type(entry) in (tuple, list) and all(isinstance(part, (str, int, float, type(None))) for part in entry))
    }
