"""Where in a nested value a text occurs: its bytes are scanned, and only the way to each hit is followed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from xcargo.codecs.base import importable
from xcargo.errors import DecodeError
from xcargo.explorer.bounds import Budget
from xcargo.explorer.msgpack import Packed, file_from
from xcargo.explorer.tree import Tree

__all__ = ["search"]

_SCAN_BYTES = 1024 * 1024
_MOST_HITS = 50
_SOFT_SECONDS = 2.0


def search(tree: Tree, packed: Packed, root: int, text: str, start: int, budget: Budget) -> dict[str, Any]:
    """Keys and texts that contain ``text``, upper and lower case alike (of ASCII), from byte ``start`` on.

    Each with the way to it: index, key and offset at each level. ``next`` is where to go on, None at the end. Looks for
    two seconds at most, and gives 50 hits at most.
    """
    needle = text.encode().lower()
    size = packed.source.size_bytes
    position = max(start, root)
    places: list[int] = []
    soft = budget.left() - _SOFT_SECONDS
    while needle and position < size and len(places) < _MOST_HITS and budget.left() > soft:
        data = bytes(packed.source.read(position, position + _SCAN_BYTES + len(needle) - 1)).lower()
        found = data.find(needle)
        while 0 <= found < _SCAN_BYTES and len(places) < _MOST_HITS:
            places.append(position + found)
            found = data.find(needle, found + len(needle))
        position = places[-1] + len(needle) if len(places) == _MOST_HITS else position + _SCAN_BYTES
    hits = [hit for place in _ways(tree, packed, root, places) if (hit := _hit(tree, packed, place, needle))]
    return {"hits": hits, "next": position if position < size else None, "size_bytes": size}


def _ways(tree: Tree, packed: Packed, root: int, places: list[int]) -> list[list[dict[str, Any]]]:
    """For each place the nodes on the way to it. Neighbouring places share what has to be passed over."""
    ways: list[list[dict[str, Any]]] = []
    todo: deque[tuple[int, list[int], list[dict[str, Any]]]] = deque([(root, places, [])])
    while todo:
        at, wanted, way = todo.popleft()
        try:
            inside = tree.inside(at)
        except DecodeError:
            continue
        if not inside[1]:
            ways += [way for _ in wanted[:1]]
            continue
        for step, some in _children_of(tree, packed, inside, wanted):
            if step.get("in_key"):
                ways.append([*way, step])
            elif len(way) < 300:
                todo.append((step["at"], some, [*way, step]))
    return ways


def _children_of(
    tree: Tree, packed: Packed, inside: tuple[str, int, int, int], wanted: list[int]
) -> Iterator[tuple[dict[str, Any], list[int]]]:
    """The children in which the wanted places lie, each with those of them."""
    kind, total, keys, values = inside
    left = deque(wanted)
    if kind == "pairs":
        in_keys = [place for place in wanted if place < values]
        left = deque(place for place in wanted if place >= values)
        for index, _, _, some in _spans(packed, keys, total, 1, deque(in_keys)):
            at = packed.skip(values, index) if index else values
            yield {"index": index, "key": _label(tree, keys, packed, index), "at": at, "in_key": True}, some
    for index, begin, middle, some in _spans(packed, values, total, 2 if kind == "map" else 1, left):
        step: dict[str, Any] = {"index": index, "at": middle}
        if kind == "map":
            step["key"] = tree.key(begin)["value"]
            if some[0] < middle:
                yield {**step, "in_key": True}, some
            some = [place for place in some if place >= middle]
        elif kind == "pairs":
            step["key"] = _label(tree, keys, packed, index)
        if some:
            yield step, some


def _label(tree: Tree, keys: int, packed: Packed, index: int) -> str:
    return str(tree.key(packed.skip(keys, index) if index else keys)["value"])


def _spans(
    packed: Packed, start: int, total: int, width: int, wanted: deque[int]
) -> Iterator[tuple[int, int, int, list[int]]]:
    """Of ``total`` groups of ``width`` values those with a wanted place: number, begin, begin of the last value."""
    msgpack = importable("msgpack", "to be looked into", extra="ui")
    unpacker = msgpack.Unpacker(file_from(packed, start), read_size=256 * 1024, max_buffer_size=0)
    begin = start
    try:
        for index in range(total):
            if not wanted:
                return
            middle = begin
            for n in range(width):
                if n == width - 1:
                    middle = start + int(unpacker.tell())
                unpacker.skip()
            end = start + int(unpacker.tell())
            some = []
            while wanted and wanted[0] < end:
                some.append(wanted.popleft())
            if some:
                yield index, begin, middle, some
            begin = end
    except (ValueError, msgpack.UnpackException) as error:
        raise DecodeError("The object does not hold a packed value there") from error


def _hit(tree: Tree, packed: Packed, way: list[dict[str, Any]], needle: bytes) -> dict[str, Any] | None:
    """The way as it is shown, unless the bytes that were found are no text."""
    if not way:
        return None
    node = tree.node(way[-1]["at"])
    if not way[-1].get("in_key") and (node["type"] != "str" or needle not in _bytes(packed, node)):
        return None
    above = [{**step, "node": tree.node(step["at"])} for step in way[:-1]]
    return {"way": [*above, way[-1]], "node": node}


def _bytes(packed: Packed, node: dict[str, Any]) -> bytes:
    head = packed.head(node["at"])
    return bytes(packed.source.read(head.body, head.body + head.length)).lower()
