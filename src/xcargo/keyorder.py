"""Keeps the order of a dictionary's keys in a row of plain JSON, where the metadata database sorts them.

PostgreSQL's ``jsonb`` and MySQL's ``JSON`` store the keys of an object by length, then by byte. A dictionary whose keys
stand in another order gets one key more, ``__id__`` (which Airflow reserves), that tells it::

    {"name": "x", "id": 3}  ->  {"name": "x", "id": 3, "__id__": "xcargo-order:1,0"}

The numbers are the places of its keys, first to last, in the database's order. Everyone else still finds the other keys
where they were.
"""

from __future__ import annotations

from typing import Any

from xcargo.envelope import MARKER

__all__ = ["marked", "restored"]

_PREFIX = "xcargo-order:"


def marked(row: Any) -> Any:
    """The plain row with the order of its keys noted, at every depth. Changes nothing in place; copies what it must."""
    kind = type(row)
    if kind is list:
        items = [marked(item) for item in row]
        return items if any(map(_is_not, items, row)) else row
    if kind is not dict or not row:
        return row
    order = _order(row)
    parts = {key: marked(part) for key, part in row.items()}
    if order is not None:
        parts[MARKER] = _PREFIX + ",".join(map(str, order))
    return parts if order is not None or any(map(_is_not, parts.values(), row.values())) else row


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
    keys = sorted((key for key in row if key != MARKER), key=_rank)
    places = [int(place) if place.isdecimal() else -1 for place in note.split(",")]
    if sorted(places) != list(range(len(keys))):
        return row  # someone has changed the row since
    return {keys[place]: row[keys[place]] for place in places}


def _order(row: dict[str, Any]) -> list[int] | None:
    """The place of each key in the database's order, or None if they stand in it."""
    keys = list(row)
    ranked = sorted(keys, key=_rank)
    if ranked == keys:
        return None
    places = {key: place for place, key in enumerate(ranked)}
    return [places[key] for key in keys]


def _rank(key: str) -> tuple[int, bytes]:
    text = key.encode()
    return len(text), text


def _is_not(left: object, right: object) -> bool:
    return left is not right
