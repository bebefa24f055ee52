"""Keeps the order of a dictionary's keys in a row of plain JSON, where the metadata database sorts them.

PostgreSQL's ``jsonb`` and MySQL's ``JSON`` store the keys of an object by length, then by byte. A dictionary whose keys
stand in another order gets one key more, ``__id__`` (which Airflow reserves), that notes it::

    {"name": "x", "id": 3}  ->  {"name": "x", "id": 3, "__id__": "xcargo-order:1,0"}

The numbers are the positions of its keys, first to last, in the database's order. Everyone else still reads the other
keys as usual.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from xcargo.model.envelope import MARKER

__all__ = ["marked", "restored"]

_PREFIX = "xcargo-order:"

_CONTAINERS = (dict, list)

_REMEMBERED_KEYS = 32
"""Many rows hold objects with the same keys: the order of up to so many is worked out once."""


def marked(row: Any) -> Any:
    """The plain row with the order of its keys noted, at every depth. Changes nothing in place; copies what it must."""
    changed: Any = None
    if type(row) is dict:
        for key, part in row.items():
            if type(part) in _CONTAINERS and (noted := marked(part)) is not part:
                changed = dict(row) if changed is None else changed
                changed[key] = noted
        note = None
        if len(row) > 1:
            note = (_note if len(row) <= _REMEMBERED_KEYS else _note.__wrapped__)(tuple(row))
        if note is not None:
            changed = dict(row) if changed is None else changed
            changed[MARKER] = note
    elif type(row) is list:
        for n, part in enumerate(row):
            if type(part) in _CONTAINERS and (noted := marked(part)) is not part:
                changed = list(row) if changed is None else changed
                changed[n] = noted
    return row if changed is None else changed


def restored(row: Any) -> Any:
    """The row without such notes, its keys in their order. May change ``row``; leaves alone what is no note of ours."""
    kind = type(row)
    if kind is list:
        for n, item in enumerate(row):
            if type(item) is dict or type(item) is list:
                row[n] = restored(item)
    elif kind is dict:
        for key, part in row.items():
            if type(part) is dict or type(part) is list:
                row[key] = restored(part)
        note = row.get(MARKER)
        if type(note) is str and note.startswith(_PREFIX):
            return _reordered(row, note[len(_PREFIX) :])
    return row


def _reordered(row: dict[str, Any], note: str) -> dict[str, Any]:
    keys = tuple(row)
    names = (_names if len(keys) <= _REMEMBERED_KEYS else _names.__wrapped__)(keys, note)
    return row if names is None else {name: row[name] for name in names}


@lru_cache(256)
def _names(keys: tuple[str, ...], note: str) -> tuple[str, ...] | None:
    """The keys of an object that holds a note, in their order, or None if someone has changed it since."""
    names = sorted((name for name in keys if name != MARKER), key=_rank)
    # Of more digits is no position, and int refuses some thousands of them.
    positions = [int(position) if position.isdecimal() and len(position) < 10 else -1 for position in note.split(",")]
    return tuple(names[position] for position in positions) if sorted(positions) == list(range(len(names))) else None


@lru_cache(256)
def _note(names: tuple[str, ...]) -> str | None:
    """The note on the order of keys, or None if they stand in the database's order."""
    ranked = sorted(names, key=_rank)
    if ranked == list(names):
        return None
    positions = {name: position for position, name in enumerate(ranked)}
    return _PREFIX + ",".join([str(positions[name]) for name in names])


def _rank(name: str) -> tuple[int, bytes]:
    text = name.encode()
    return len(text), text
