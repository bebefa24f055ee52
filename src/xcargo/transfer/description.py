"""How a value is described to people: its type and a short preview in the row, its biggest parts where it is too large.

Looks at a bounded part of the value, whatever its size, and calls no ``__repr__`` of a user's class.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from fractions import Fraction
from itertools import islice
from typing import Any

from xcargo.codecs.plain_values import shown_name
from xcargo.codecs.value_path import MASKED_CHARS, masked
from xcargo.errors import SizeLimitError
from xcargo.model.settings import Settings
from xcargo.transfer.reporting import format_bytes

__all__ = [
    "biggest_parts",
    "check_size",
    "preview",
    "shown_params",
    "too_large",
    "type_name",
]


_SCALARS = frozenset((float, bool, complex, type(None)))
_BRACKETS: dict[type, tuple[str, str]] = {
    dict: ("{", "}"),
    list: ("[", "]"),
    tuple: ("(", ")"),
    set: ("set({", "})"),
    frozenset: ("frozenset({", "})"),
}
_LEVELS = 3
_STANDARD = ("datetime", "decimal", "fractions", "ipaddress", "pathlib", "pathlib._local", "uuid", "zoneinfo")
_LIBRARIES = ("xcargo", "pandas", "pathlib", "polars", "pyarrow", "numpy", "pendulum", "scipy", "torch", "xarray")
_PANDAS_SCALARS = ("Timestamp", "Timedelta", "NaTType", "NAType", "Period", "Interval")
_DATABASE_ROWS = (
    *("sqlalchemy.engine.row.Row", "sqlite3.Row", "asyncpg.protocol.record.Record", "asyncpg.Record"),
    *("psycopg2.extras.DictRow", "pyodbc.Row", "pyspark.sql.types.Row"),
)
_UNREAD = ("LazyFrame", "RecordBatchReader")
_TABLE_CODECS = ("arrow", "arrow-stream", "pandas")
_NESTED = ("list", "large_list", "fixed_size_list", "struct", "map", "array", "object", "binary")
_COLUMNS, _ROWS, _ITEMS = 8, 3, 5
_CELL_BYTES = 4096


def type_name(value: object) -> str:
    """Name of the type as a user would write it: ``dict``, ``pandas.DataFrame``, ``my_package.models.Order``."""
    cls = type(value)
    if cls.__module__ == "builtins":
        return cls.__qualname__
    name = shown_name(cls)
    library = name.partition(".")[0]
    return _printable(f"{library}.{cls.__qualname__}" if library in _LIBRARIES else name)


def preview(value: Any, chars: int, mask: Callable[[str], str] = str) -> str | None:
    """The beginning of the value in ``chars`` characters, or None for ``chars`` = 0.

    Of a table the columns with their types and the first rows, of an array the first items. ``mask`` hides secrets;
    it sees each text before it is cut or escaped.
    """
    if chars <= 0:
        return None
    try:
        text = mask(_printable(_Short(chars, mask).of(value)))
    except Exception:  # of a class's own code; a preview is a courtesy, and fails no push
        return None
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

    def __init__(self, chars: int, mask: Callable[[str], str]) -> None:
        self._text_chars = min(chars, 60)
        self._left = chars
        self._mask = mask

    def of(self, x: Any, level: int = _LEVELS) -> str:
        kind = type(x)
        if kind is str:
            return self._text(x)
        if kind is int:  # Python refuses to write out very long ones
            return repr(x) if x.bit_length() <= 512 else f"<int of {x.bit_length()} bits>"
        if kind in _SCALARS:
            return repr(x)
        brackets = _BRACKETS.get(kind)
        if brackets is not None:
            return self._container(x, level, brackets)
        if issubclass(kind, tuple) and hasattr(kind, "_fields"):
            return self._named_tuple(x, level)
        if f"{kind.__module__}.{kind.__qualname__}" in _DATABASE_ROWS:
            return self.of(tuple(x), level)
        if kind.__module__ in _STANDARD and not (kind is Fraction and max(abs(x.numerator), x.denominator) >> 512):
            return self._cut(repr(x), self._text_chars)
        if kind.__module__.startswith("xcargo."):
            return repr(x)
        if kind in (bytes, bytearray):
            return f"<{kind.__name__}, {len(x)} bytes>"
        shape = getattr(x, "shape", None)
        size = f" of shape {tuple(shape)}" if isinstance(shape, tuple) else ""
        return f"<{type_name(x)}{size}{self._content(x, level)}>"

    def _text(self, x: str) -> str:
        if len(x) <= self._text_chars and (shown := repr(x))[1:-1] == x:  # whole: it is masked with the whole preview
            return shown
        beginning = masked(x, self._mask)
        cut = beginning[: self._text_chars]
        return f"{cut!r}…" if len(cut) < len(beginning) or len(x) > MASKED_CHARS else repr(cut)

    def _cut(self, text: str, chars: int) -> str:
        return text if len(text) <= chars else masked(text, self._mask)[:chars]

    def _named_tuple(self, x: Any, level: int) -> str:
        if level <= 0:
            return f"{type(x).__name__}(…)"
        fields = islice(zip(x._fields, tuple.__iter__(x), strict=False), _ITEMS)
        items = [f"{field}={self.of(value, level - 1)}" for field, value in fields]
        return f"{type(x).__name__}({', '.join(items)}{', …' if len(x._fields) > len(items) else ''})"

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
        return f", {self._cut(_type(kind), 60)}: {', '.join(self._cell(item, level) for item in items)}"

    def _table(self, columns: Iterable[tuple[Any, Any, Sequence[Any]]], level: int) -> str:
        shown = [(self._label(label, level), self._cut(_type(kind), 60), cells) for label, kind, cells in columns]
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
        return self._cut(label, 30) if type(label) is str and label.isprintable() else self._cell(label, level)

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
        column = column.str.slice(0, MASKED_CHARS)
    return column.to_pylist() if library == "pyarrow" else list(column)


def _type(kind: Any) -> str:
    """Name of a column's type; of an enumeration without its categories."""
    name = type(kind).__name__
    return name if name == "Enum" else str(kind)


log = logging.getLogger(__name__)

# --- sizes -----------------------------------------------------------------------------------------------------------

_MAX_DEPTH = 6
_NAMED = 100_000
"""Parts of a container that may be named: its first ones."""
_MANY = 1_000
"""Parts of a container beyond which each is looked at less closely."""
_LOOKED_AT = (20, 5, 2)
"""Items of a part, of an item, of an item of that which are looked at; the size of more is estimated from these."""
_NUMBER_BYTES = 9
_MOST = 3


def check_size(value: Any, size_bytes: float, settings: Settings, where: object, mask: Callable[[str], str]) -> None:
    """Raise SizeLimitError for a value above ``max_size_bytes``, log a warning for one above ``warn_size_bytes``."""
    if size_bytes > (settings.max_size_bytes or math.inf):
        raise too_large(size_bytes, settings, f"Its biggest parts: {biggest_parts(value, mask)}.")
    if size_bytes > (settings.warn_size_bytes or math.inf):
        parts = biggest_parts(value, mask)
        log.warning(
            "xcargo stores a value of %d bytes, more than warn_size_bytes (%d) [%s]. Its biggest parts: %s",
            size_bytes,
            settings.warn_size_bytes,
            where,
            parts,
        )


def too_large(size_bytes: float, settings: Settings, parts: str = "") -> SizeLimitError:
    """The error for a value above ``max_size_bytes``."""
    advice = "Return less, a part of it each, or the name of a file or table; or raise max_size_bytes."
    return SizeLimitError(
        f"The value has {size_bytes:.0f} bytes, more than [xcargo] max_size_bytes admits ({settings.max_size_bytes})",
        hint=f"{parts} {advice}".lstrip(),
    )


def biggest_parts(value: Any, mask: Callable[[str], str] = str) -> str:
    """The largest parts of a value in words: ``value['frame'] (pandas.DataFrame, about 2.1 GiB)``.

    Sizes are those in memory, estimated: of a long container from its first items. A part is
    named by keys, positions, attributes and columns, never by its content; ``mask`` may change how. Descends as
    long as one part makes most of the whole.
    """
    try:
        return _biggest_parts(value, mask)
    except Exception:  # of a class's own code; like a preview, these are a courtesy
        return f"value ({type_name(value)})"


def _biggest_parts(value: Any, mask: Callable[[str], str]) -> str:
    path, whole = "value", value
    for _ in range(_MAX_DEPTH):
        parts = sorted(_parts(whole, mask), key=lambda part: -part[2])
        if not parts:
            break
        name, part, size_bytes = parts[0]
        if size_bytes < 0.9 * sum(size for *_, size in parts) or not any(_parts(part, mask)):
            shown = ", ".join(_named_part(f"{path}{name}", part, size, mask) for name, part, size in parts[:_MOST])
            return shown + (f" and {len(parts) - _MOST} smaller ones" if len(parts) > _MOST else "")
        path, whole = path + name, part
    return _named_part(path, whole, _bytes_of(whole), mask)


def _named_part(path: str, part: Any, size_bytes: float, mask: Callable[[str], str]) -> str:
    return f"{mask(path)} ({type_name(part)}, about {format_bytes(size_bytes)})"


def _parts(whole: Any, mask: Callable[[str], str]) -> Iterator[tuple[str, Any, float]]:
    """Name, part and size of each part that has a name; nothing of what has none."""
    library = type(whole).__module__.partition(".")[0]
    if library in ("pandas", "polars", "pyarrow"):
        yield from _columns(whole, mask)
    elif isinstance(whole, dict):
        for key, part in islice(whole.items(), _NAMED):
            yield f"[{_key(key, mask)}]", part, _bytes_of(part, level=1 if len(whole) > _MANY else 0)
    elif isinstance(whole, (list, tuple)):
        for n, part in enumerate(islice(whole, _NAMED)):
            yield f"[{n}]", part, _bytes_of(part, level=1 if len(whole) > _MANY else 0)
    elif is_dataclass(whole) and not isinstance(whole, type):
        for field in fields(whole):
            part = getattr(whole, field.name, None)
            yield f".{field.name}", part, _bytes_of(part)


def _key(key: Any, mask: Callable[[str], str]) -> str:
    if isinstance(key, str):
        return repr(key if len(key) <= 40 else f"{masked(key, mask)[:39]}…")
    return str(key) if type(key) in (int, bool, type(None)) else f"<{type_name(key)}>"


def _columns(table: Any, mask: Callable[[str], str]) -> Iterator[tuple[str, Any, float]]:
    names = getattr(table, "column_names", None)
    if names is None:
        names = getattr(table, "columns", None)
    if names is None or callable(names):
        return
    for n, name in enumerate(islice(names, _NAMED)):
        if hasattr(table, "iloc"):
            column = table.iloc[:, n]
        elif hasattr(table, "get_column"):
            column = table.get_column(name)
        elif hasattr(table, "column"):
            column = table.column(n)
        else:  # a lazy frame, a reader: nothing is there yet
            return
        yield f"[{_key(name, mask)}]", column, _bytes_of(column)


def _bytes_of(x: Any, level: int = 0) -> float:
    """About how many bytes a value's content takes."""
    if isinstance(x, (str, bytes, bytearray)):
        return len(x)
    library = type(x).__module__.partition(".")[0]
    usage = getattr(x, "memory_usage", None)
    if callable(usage) and library == "pandas":
        used = usage(deep=True)
        return float(used.sum() if hasattr(used, "sum") else used)
    if library == "polars" and hasattr(x, "estimated_size"):
        return float(x.estimated_size())
    nbytes = getattr(x, "nbytes", None)
    if isinstance(nbytes, int):
        return nbytes
    if level >= len(_LOOKED_AT):
        return _NUMBER_BYTES
    most = _LOOKED_AT[level]
    if isinstance(x, dict):
        items: Iterable[Any] = (part for pair in islice(x.items(), most) for part in pair)
    elif isinstance(x, (list, tuple)):
        items = x[:: max(1, len(x) // most)][:most]
    elif isinstance(x, (set, frozenset)):
        items = islice(x, most)
    elif is_dataclass(x) and not isinstance(x, type):
        return math.fsum(_bytes_of(getattr(x, field.name, None), level + 1) for field in fields(x))
    else:
        return _NUMBER_BYTES
    total = math.fsum(_bytes_of(item, level + 1) for item in items)
    return total * max(1.0, len(x) / most)
