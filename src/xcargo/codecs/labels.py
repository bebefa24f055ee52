"""What an envelope tells of a table's columns, whatever their labels are."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice
from typing import Any

__all__ = ["cell_named", "columns", "label_text"]

_SHOWN_COLUMNS = 64
_SHOWN_CHARS = 64
_PLACE = re.compile(r"^At value\[1\]\['(?:columns'\]\[(?P<column>\d+)|values')\]\[1\](?:\[(?P<row>\d+)\])?")
_SAFE = ("builtins", "datetime", "decimal", "numpy", "pandas", "uuid")


def columns(labels_and_types: Iterable[tuple[Any, Any]]) -> dict[str, str]:
    """Label -> type of the first columns, shortened to what a row may hold."""
    shown = islice(labels_and_types, _SHOWN_COLUMNS)
    return {_short(label_text(label)): _type(kind) for label, kind in shown}


def cell_named(what: str, frame: Any) -> str:
    """A message that tells a place in the description of a pandas value, with the place in the value instead."""

    def named(place: re.Match[str]) -> str:
        column, row = place["column"], place["row"]
        label = "" if column is None else f", column {_short(label_text(frame.columns[int(column)]))!r}"
        return f"At value{label}" + ("" if row is None else f", row {row}")

    return _PLACE.sub(named, what.replace("At value[1]['attrs']", "At value.attrs"))


def label_text(label: Any) -> str:
    """A label as text that is UTF-8. Runs no code of a user's class."""
    if type(label) is tuple:
        return f"({', '.join(map(label_text, label))})"
    safe = type(label).__module__.partition(".")[0] in _SAFE and not isinstance(label, (list, dict, set, frozenset))
    try:
        text = str(label) if safe else f"<{type(label).__name__}>"
    except ValueError:  # an integer of more digits than Python writes out
        text = f"<{type(label).__name__}>"
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def _type(kind: Any) -> str:
    """Name of a column's type; of an enumeration without its categories, of which there may be many."""
    name = type(kind).__name__
    return name if name == "Enum" else _short(str(kind))


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARS else f"{text[: _SHOWN_CHARS - 1]}…"
