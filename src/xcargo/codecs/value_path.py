"""Names of the parts of a value, in errors and envelopes: ``value['rows'][3].when``, ``column 'x'``."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

from xcargo.errors import UnsupportedTypeError

__all__ = [
    "MASKED_CHARS",
    "TooDeepError",
    "add_path",
    "cell_path",
    "column_types",
    "first_path",
    "label_text",
    "masked",
    "names_part",
    "path_to",
    "shift_index",
    "too_deep",
]

_BEGINNING = "At value"
_MOST_SEEN = 1_000_000
_SHOWN_COLUMNS = 64
_SHOWN_CHARS = 64
MASKED_CHARS = 4096
"""Of a text, what is searched for secrets before it is cut."""
_CELL = re.compile(r"^At value\[1\]\['(?:columns'\]\[(?P<column>\d+)|values')\]\[1\](?:\[(?P<row>\d+)\])?")
_POSITION = re.compile(r"^At value\[(\d+)\]")
_SAFE = ("builtins", "datetime", "decimal", "numpy", "pandas", "uuid")


class TooDeepError(UnsupportedTypeError):
    """Raised while encoding, where the path to the part does not matter."""

    def __init__(self) -> None:
        super().__init__("The value is nested too deeply to store")


def too_deep(value: Any) -> UnsupportedTypeError:
    """The error for a value that refers to itself, with both paths, or that is nested too deeply."""
    cycle = _cycle(value)
    if cycle is not None:
        what = f"The value refers to itself: value{cycle[0]} is value{cycle[1]} again"
    else:
        what = "The value is nested too deeply to store (some hundreds of levels, or 64 of instances and arrays)"
    return UnsupportedTypeError(what, hint="Flatten it before returning it.")


def add_path(error: UnsupportedTypeError, path: str) -> None:
    """Put ``path`` in front of the path in the error, whose value is a part of a larger one."""
    if path and not isinstance(error, TooDeepError):
        what = error.what.removeprefix(_BEGINNING) if names_part(error) else f": {error.what}"
        error.what = f"{_BEGINNING}{path}{what}"


def names_part(error: UnsupportedTypeError) -> bool:
    """Whether the error is about a part of the value, not about the value itself."""
    return error.what.startswith(_BEGINNING)


def shift_index(error: UnsupportedTypeError, offset: int) -> None:
    """Count the position in a list from that of a chunk of it on."""
    match = _POSITION.match(error.what)
    if match is not None:
        error.what = f"{_BEGINNING}[{int(match[1]) + offset}]{error.what[match.end() :]}"


def path_to(value: Any, culprit: object) -> str:
    """Path of a part of ``value``: ``['rows'][3].when``. Empty if it is the value itself, or not in it."""
    todo: deque[tuple[str, Any, int]] = deque([("", value, 0)])
    seen: set[int] = set()
    while todo and len(seen) < _MOST_SEEN:
        path, item, depth = todo.popleft()
        if item is culprit:
            return path
        if id(item) not in seen and depth <= 500:
            seen.add(id(item))
            todo.extend((path + step, part, depth + 1) for step, part in _parts(item))
    return ""


def first_path(value: Any, culprit: object, *, most: int) -> str | None:
    """The same, if it is among the first ``most`` parts in the order in which they are packed; else None."""
    stack = [iter([("", value)])]
    for _ in range(most):
        while (step := next(stack[-1], None)) is None:
            stack.pop()
            if not stack:
                return None
        path, item = step
        if item is culprit:
            return path
        stack.append(_steps(path, item))
    return None


def _steps(path: str, item: Any) -> Iterator[tuple[str, Any]]:
    return ((path + step, part) for step, part in _parts(item))


def _cycle(value: Any) -> tuple[str, str] | None:
    """Both paths of a part that contains itself, the inner and the outer one."""
    above: dict[int, str] = {id(value): ""}
    stack: list[tuple[int, str, Iterator[tuple[str, Any]]]] = [(id(value), "", _parts(value))]
    done: set[int] = set()
    while stack and len(done) < _MOST_SEEN:
        number, path, parts = stack[-1]
        step, part = next(parts, (None, None))
        if step is None:
            stack.pop()
            del above[number]
            done.add(number)
        elif id(part) in above:
            inner, outer = path + step, above[id(part)]
            return (inner, outer) if len(inner) < 500 else None
        elif id(part) not in done:
            above[id(part)] = path + step if len(path) < 500 else path
            stack.append((id(part), above[id(part)], _parts(part)))
    return None


def _parts(item: Any) -> Iterator[tuple[str, Any]]:
    """The parts of a container or instance, each with its step of the path; as many as its class's own code gives."""
    with suppress(Exception):
        yield from _parts_of(item)


def _parts_of(item: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(item, dict):
        yield from ((f"[{_shown(key)}]", part) for key, part in item.items())
        yield from ((f", key {type(key).__name__}", key) for key in item if type(key) is not str)
    elif isinstance(item, (list, tuple, deque)):
        yield from ((f"[{n}]", part) for n, part in enumerate(item))
    elif isinstance(item, (set, frozenset)):
        yield from (("{…}", part) for part in item)
    elif hasattr(item, "__dict__") and not isinstance(item, type):
        yield from ((f".{name}", part) for name, part in vars(item).items())


def _shown(key: object) -> str:
    """A key as Python writes it, if that is short and runs no code of the key's class."""
    return repr(key)[:80] if type(key) in (str, float, bool) or (type(key) is int and abs(key) < 2**64) else "…"


def column_types(labels_and_types: Iterable[tuple[Any, Any]], mask: Callable[[str], str] = str) -> dict[str, str]:
    """Label -> type of the first columns, shortened to what a row may hold. ``mask`` hides secrets."""
    shown = islice(labels_and_types, _SHOWN_COLUMNS)
    return {_short(masked(label_text(label), mask)): _type(kind, mask) for label, kind in shown}


def cell_path(what: str, frame: Any) -> str:
    """The message with the path in a pandas value instead of the one in what is packed of it."""

    def path(match: re.Match[str]) -> str:
        column, row = match["column"], match["row"]
        label = "" if column is None else f", column {_short(label_text(frame.columns[int(column)]))!r}"
        return f"At value{label}" + ("" if row is None else f", row {row}")

    return _CELL.sub(path, what.replace("At value[1]['attrs']", "At value.attrs"))


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


def _type(kind: Any, mask: Callable[[str], str]) -> str:
    """Name of a column's type; of an enumeration without its categories, of which there may be many."""
    name = type(kind).__name__
    return name if name == "Enum" else _short(masked(str(kind), mask))


def masked(text: str, mask: Callable[[str], str]) -> str:
    """The beginning of a text, to be cut: half of a secret would not be recognised any more."""
    return mask(text[:MASKED_CHARS])


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARS else f"{text[: _SHOWN_CHARS - 1]}…"
