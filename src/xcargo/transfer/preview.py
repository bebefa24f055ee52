"""What a row shows of a value that is stored elsewhere: the name of its type, and a short preview."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from itertools import islice
from typing import Any

__all__ = ["preview", "shown_params", "type_name"]

_SCALARS = frozenset((float, bool, complex, type(None)))
_BRACKETS: dict[type, tuple[str, str]] = {
    dict: ("{", "}"),
    list: ("[", "]"),
    tuple: ("(", ")"),
    set: ("set({", "})"),
    frozenset: ("frozenset({", "})"),
}
_LEVELS = 3
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
    text = _printable(_Short(chars).of(value))
    return text if len(text) <= chars else text[: chars - 1] + "…"


def shown_params(codec: str, params: Mapping[str, Any], chars: int, mask: Callable[[str], str]) -> Mapping[str, Any]:
    """A codec's params as a row may show them: names of columns, which may be data, are part of the preview."""
    columns = params.get("columns")
    if codec not in _TABLE_CODECS or type(columns) is not dict:
        return params
    rest = {name: value for name, value in params.items() if name != "columns"}
    return (
        {**rest, "columns": {mask(_printable(name)): _printable(kind) for name, kind in columns.items()}}
        if chars > 0
        else rest
    )


def _printable(text: str) -> str:
    """The text without characters that could change how it is shown: controls, direction marks, lone surrogates."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class _Short:
    """The first items of each container, the first characters of each text, some levels deep."""

    def __init__(self, chars: int) -> None:
        self._text_chars = min(chars, 60)
        self._left = chars

    def of(self, x: Any, level: int = _LEVELS) -> str:
        kind = type(x)
        if kind is str:
            return repr(x) if len(x) <= self._text_chars else f"{x[: self._text_chars]!r}…"
        if kind is int:  # Python refuses to write out very long ones
            return repr(x) if x.bit_length() <= 512 else f"<int of {x.bit_length()} bits>"
        if kind in _SCALARS:
            return repr(x)
        brackets = _BRACKETS.get(kind)
        if brackets is not None:
            return self._container(x, level, brackets)
        if kind.__module__ in _STANDARD and not (kind is Fraction and max(abs(x.numerator), x.denominator) >> 512):
            return repr(x)[: self._text_chars]
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
        return "…" if cell is _UNSEEN else self.of(cell, level - 1)

    def _container(self, x: Any, level: int, brackets: tuple[str, str]) -> str:
        start, end = brackets
        if level <= 0 and x:
            return f"{start}…{end}"
        items: list[str] = []
        pairs = type(x) is dict
        for part in islice(x.items() if pairs else x, _ITEMS):
            if self._left <= 0:  # what comes now is cut off
                break
            key, value = part if pairs else (None, part)
            text = self.of(value, level - 1)
            items.append(f"{self.of(key, level - 1)}: {text}" if pairs else text)
            if type(value) not in _BRACKETS:  # what a container holds is counted
                self._left -= len(items[-1])
        if len(x) > len(items):
            items.append("…")
        elif len(x) == 1 and type(x) is tuple:
            end = ",)"
        return f"{start}{', '.join(items)}{end}"


_UNSEEN = object()
"""Stands for a cell that would be costly to look at."""


def _table_columns(library: str, table: Any) -> Iterable[tuple[Any, Any, Sequence[Any]]]:
    """Label, type and first cells of the first columns."""
    if library == "pandas":
        for label, column in islice(table.iloc[:_ROWS].items(), _COLUMNS):
            yield label, column.dtype, _cells(library, column, str(column.dtype))
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
