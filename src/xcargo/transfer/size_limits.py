"""Which parts of a value make it large, for whoever has to make it smaller."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, is_dataclass
from itertools import islice
from typing import Any

from xcargo.errors import SizeLimitError
from xcargo.model.settings import Settings
from xcargo.model.sizes import format_bytes
from xcargo.transfer.preview import type_name

__all__ = ["biggest_parts", "check_size", "too_large"]

log = logging.getLogger(__name__)

_LEVELS = 6
_NAMED = 100_000
"""Parts of a container that may be named: its first ones."""
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
    long as one part makes most of the whole. No ``__repr__`` of a user's class is called.
    """
    path, whole = "value", value
    for _ in range(_LEVELS):
        parts = sorted(_parts(whole), key=lambda part: -part[2])
        if not parts:
            break
        name, part, size_bytes = parts[0]
        if size_bytes < 0.9 * sum(size for *_, size in parts) or not any(_parts(part)):
            shown = ", ".join(_named_part(f"{path}{name}", part, size, mask) for name, part, size in parts[:_MOST])
            return shown + (f" and {len(parts) - _MOST} smaller ones" if len(parts) > _MOST else "")
        path, whole = path + name, part
    return _named_part(path, whole, _bytes_of(whole), mask)


def _named_part(path: str, part: Any, size_bytes: float, mask: Callable[[str], str]) -> str:
    return f"{mask(path)} ({type_name(part)}, about {format_bytes(size_bytes)})"


def _parts(whole: Any) -> Iterator[tuple[str, Any, float]]:
    """Name, part and size of each part that has a name; nothing of what has none."""
    library = type(whole).__module__.partition(".")[0]
    if library in ("pandas", "polars", "pyarrow"):
        yield from _columns(whole)
    elif isinstance(whole, dict):
        for key, part in islice(whole.items(), _NAMED):
            yield f"[{_key(key)}]", part, _bytes_of(part)
    elif isinstance(whole, (list, tuple)):
        for n, part in enumerate(islice(whole, _NAMED)):
            yield f"[{n}]", part, _bytes_of(part)
    elif is_dataclass(whole) and not isinstance(whole, type):
        for field in fields(whole):
            part = getattr(whole, field.name, None)
            yield f".{field.name}", part, _bytes_of(part)


def _key(key: Any) -> str:
    if isinstance(key, str):
        return repr(key if len(key) <= 40 else f"{key[:39]}…")
    return str(key) if type(key) in (int, bool, type(None)) else f"<{type_name(key)}>"


def _columns(table: Any) -> Iterator[tuple[str, Any, float]]:
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
        yield f"[{_key(name)}]", column, _bytes_of(column)


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
