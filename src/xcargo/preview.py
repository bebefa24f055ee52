"""What a row may tell of a value that lies elsewhere: the name of its type, and a short preview."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from itertools import islice
from typing import Any

__all__ = ["preview", "shown_params", "type_name"]

_PLAIN = (str, int, float, bool, complex, type(None), list, dict, tuple, set, frozenset)
_STANDARD = ("datetime", "decimal", "fractions", "ipaddress", "pathlib", "uuid", "zoneinfo")
_LIBRARIES = ("xcargo", "pandas", "polars", "pyarrow", "numpy", "pendulum")
_PANDAS_SCALARS = ("Timestamp", "Timedelta", "NaTType", "NAType", "Period", "Interval")
_UNREAD = ("LazyFrame", "RecordBatchReader")
_TABLE_CODECS = ("arrow", "arrow-stream", "pandas")
_NESTED = ("list", "large_list", "fixed_size_list", "struct", "map", "array", "object", "binary")
_COLUMNS, _ROWS, _ITEMS = 8, 3, 5
_CELL_BYTES = 4096


def type_name(value: object) -> str:
    """Name of the type as a user would write it: ``dict``, ``pandas.DataFrame``, ``my_package.models.Order``."""
    cls = type(value)
    module = cls.__module__
    if module == "builtins":
        return cls.__qualname__
    if module.partition(".")[0] in _LIBRARIES:
        module = module.partition(".")[0]
    return f"{module}.{cls.__qualname__}"


def preview(value: Any, chars: int) -> str | None:
    """The beginning of the value in ``chars`` characters, or None for ``chars`` = 0.

    Of a table the columns with their types and the first rows, of an array the first items. Looks at no more than
    that, whatever the size, and calls no ``__repr__`` of a user's class.
    """
    if chars <= 0:
        return None
    text = _Short(chars).repr(value)
    text = text.encode("utf-8", "replace").decode().replace("\0", "\\x00")
    return text if len(text) <= chars else text[: chars - 1] + "…"


def shown_params(
    codec: str, params: Mapping[str, Any], chars: int, describe: Callable[[str], str]
) -> Mapping[str, Any]:
    """A codec's params as a row may show them: names of columns, which may be data, are part of the preview."""
    columns = params.get("columns")
    if codec not in _TABLE_CODECS or type(columns) is not dict:
        return params
    rest = {name: value for name, value in params.items() if name != "columns"}
    return {**rest, "columns": {describe(name): kind for name, kind in columns.items()}} if chars > 0 else rest


class _Short(reprlib.Repr):
    def __init__(self, chars: int) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxstring = self.maxlong = min(chars, 60)
        self.maxdict = self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = 5
        self.fillvalue = "…"

    def repr1(self, x: Any, level: int) -> str:
        kind = type(x)
        if kind is int and x.bit_length() > 512:
            return f"<int of {x.bit_length()} bits>"  # Python refuses to write out very long ones
        if kind in _PLAIN:
            return super().repr1(x, level)
        if kind.__module__ in _STANDARD and not (kind is Fraction and max(abs(x.numerator), x.denominator) >> 512):
            return repr(x)[: self.maxstring]
        if kind.__module__.startswith("xcargo."):
            return repr(x)
        if kind in (bytes, bytearray):
            return f"<{kind.__name__}, {len(x)} bytes>"
        shape = getattr(x, "shape", None)
        size = f" of shape {tuple(shape)}" if isinstance(shape, tuple) else ""
        return f"<{type_name(x)}{size}{self._content(x, level)}>"

    def _content(self, x: Any, level: int) -> str:
        """What a table or array of the known libraries holds, as far as it is cheap to see."""
        library = type(x).__module__.partition(".")[0]
        try:
            if library == "numpy":
                return self._items(x.dtype, x.flat[:_ITEMS].tolist() if x.ndim else [x.item()], level)
            if library == "pandas" and type(x).__name__ in _PANDAS_SCALARS:
                return f" {x}"
            if library not in ("pandas", "polars", "pyarrow") or type(x).__name__ in _UNREAD:
                return ""
            if hasattr(x, "columns") or hasattr(x, "schema"):
                return self._table(_table_columns(library, x), level)
            if hasattr(x, "__len__") and hasattr(x, "dtype" if library != "pyarrow" else "type"):
                kind = x.type if library == "pyarrow" else x.dtype
                return self._items(kind, _cells(library, x[:_ITEMS], str(kind)), level)
        except Exception:  # a preview is a courtesy, and fails no push
            return ""
        return ""

    def _items(self, kind: Any, items: Iterable[Any], level: int) -> str:
        return f", {_type(kind)}: {', '.join(self._cell(item, level) for item in items)}"

    def _table(self, columns: Iterable[tuple[Any, Any, Sequence[Any]]], level: int) -> str:
        shown = [(self._label(label, level), _type(kind), cells) for label, kind, cells in columns]
        if not shown:
            return ""
        names = ", ".join(f"{label} {kind}" for label, kind, _ in shown)
        rows = (
            f"({', '.join(self._cell(cell, level) for cell in row)})"
            for row in zip(*(c for *_, c in shown), strict=False)
        )
        first = ", ".join(rows)
        return f", columns {names}" + (f"; rows {first}" if first else "")

    def _label(self, label: Any, level: int) -> str:
        return label[:30] if type(label) is str and label.isprintable() else self._cell(label, level)

    def _cell(self, cell: Any, level: int) -> str:
        kind = type(cell)
        if kind.__module__ == "numpy" and kind is getattr(getattr(cell, "dtype", None), "type", None):
            cell = cell.item()
        if kind.__module__.partition(".")[0] == "pandas" and kind.__name__ in _PANDAS_SCALARS:
            return str(cell)
        return "…" if cell is _UNSEEN else self.repr1(cell, level - 1)

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        if level <= 0:
            return "{…}"
        items = [
            f"{self.repr1(key, level - 1)}: {self.repr1(item, level - 1)}"
            for _, (key, item) in zip(range(self.maxdict), x.items(), strict=False)
        ]
        return "{" + ", ".join([*items, *(["…"] if len(x) > self.maxdict else [])]) + "}"

    def repr_set(self, x: Any, level: int) -> str:
        return self._repr_unsorted("set", x, level)

    def repr_frozenset(self, x: Any, level: int) -> str:
        return self._repr_unsorted("frozenset", x, level)

    def _repr_unsorted(self, name: str, x: Any, level: int) -> str:
        items = (
            [self.repr1(item, level - 1) for _, item in zip(range(self.maxset), x, strict=False)] if level > 0 else []
        )
        more = ["…"] if len(x) > len(items) else []
        return f"{name}({{{', '.join([*items, *more])}}})"


_UNSEEN = object()
"""Stands for a cell that would be costly to look at."""


def _table_columns(library: str, table: Any) -> Iterable[tuple[Any, Any, Sequence[Any]]]:
    """Label, type and first cells of the first columns."""
    if library == "pandas":
        head = table.iloc[:_ROWS, :_COLUMNS]
        for n, (label, kind) in enumerate(zip(head.columns, head.dtypes, strict=True)):
            yield label, kind, _cells(library, head.iloc[:, n], str(kind))
    elif library == "polars":
        for label, kind in islice(table.schema.items(), _COLUMNS):
            yield label, kind, _cells(library, table.get_column(label).head(_ROWS), _type(kind))
    else:
        head = table.slice(0, _ROWS)
        for n, field in enumerate(islice(head.schema, _COLUMNS)):
            yield field.name, field.type, _cells(library, head.column(n), str(field.type))


def _cells(library: str, column: Any, kind: str) -> Sequence[Any]:
    """The cells of a short column, unless one may be large."""
    nested = kind.lower().startswith(_NESTED) and not (library == "pandas" and kind == "object")
    if nested or (library == "pyarrow" and column.nbytes > _CELL_BYTES):
        return [_UNSEEN] * len(column)
    if library == "polars" and kind == "String":
        column = column.str.slice(0, 60)
    return column.to_pylist() if library == "pyarrow" else list(column)


def _type(kind: Any) -> str:
    """Name of a column's type; of an enumeration without its categories."""
    name = type(kind).__name__
    return name if name == "Enum" else str(kind)[:60]
