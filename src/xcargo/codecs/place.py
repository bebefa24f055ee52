"""Where in a value something lies, as Python writes it: what the error of a value that cannot be stored tells."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from xcargo.errors import UnsupportedTypeError

__all__ = ["TooDeepError", "name_place", "path_to", "too_deep"]

_BEGINNING = "At value"
_MOST_SEEN = 1_000_000


class TooDeepError(UnsupportedTypeError):
    """Raised inside a value, whose place does not matter."""

    def __init__(self) -> None:
        super().__init__("The value is nested too deeply to store")


def too_deep(value: Any) -> UnsupportedTypeError:
    """The error for a value without a bottom, or too far from it; of the first kind names the place."""
    cycle = _cycle(value)
    if cycle is not None:
        what = f"The value refers to itself: value{cycle[0]} is value{cycle[1]} again"
    else:
        what = "The value is nested too deeply to store (some hundreds of levels, or 64 of instances and arrays)"
    return UnsupportedTypeError(what, hint="Flatten it before returning it.")


def name_place(error: UnsupportedTypeError, path: str) -> None:
    """Say in the error where in a value the value lies that it is about."""
    if path and not isinstance(error, TooDeepError):
        known = error.what.startswith(_BEGINNING)
        error.what = f"{_BEGINNING}{path}{error.what.removeprefix(_BEGINNING) if known else f': {error.what}'}"


def path_to(value: Any, culprit: object) -> str:
    """Where in ``value`` the object lies: ``['rows'][3].when``. Empty when it is the value, or is not found."""
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


def _cycle(value: Any) -> tuple[str, str] | None:
    """Paths of a part that holds itself, the inner and the outer one."""
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
    """What lies in a container or instance, each with the step that leads to it."""
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
