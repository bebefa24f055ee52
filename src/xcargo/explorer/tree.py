"""Nested values as a tree of which only the nodes on the screen are read.

A node is named by its offset in the packed value. So a page of children costs what they take, and nothing before or
after them is decoded; an instance of a class is shown by its fields, and its class is never imported.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from xcargo.codecs.builtin import RESTORE, Tag
from xcargo.codecs.registry import Registry
from xcargo.codecs.source import BytesSource, SliceSource, Source, read_all
from xcargo.errors import DecodeError
from xcargo.explorer.bounds import Budget
from xcargo.explorer.msgpack import Head, Packed

__all__ = ["PAGE_ITEMS", "PAIRED", "SCALARS", "Tree", "restored_text", "tree_source"]

PAGE_ITEMS = 200
"""Children of one page at most."""

_TEXT_BYTES = 400
"""Of a text inside a tree; the whole of it is a page of its own."""

_SOFT_SECONDS = 0.5
"""After this a page ends with the children it has."""

_LISTS = {Tag.TUPLE: "tuple", Tag.SET: "set", Tag.FROZENSET: "frozenset"}
PAIRED = {
    Tag.PAIRS: ("dict", 0),
    Tag.ORDERED_DICT: ("OrderedDict", 0),
    Tag.COUNTER: ("Counter", 0),
    Tag.DEFAULT_DICT: ("defaultdict", 1),
}
SCALARS = {
    Tag.INT: "int",
    Tag.COMPLEX: "complex",
    Tag.TEXT: "str",
    Tag.DECIMAL: "Decimal",
    Tag.FRACTION: "Fraction",
    Tag.DATETIME: "datetime",
    Tag.DATE: "date",
    Tag.TIME: "time",
    Tag.TIMEDELTA: "timedelta",
    Tag.UUID: "UUID",
    Tag.RANGE: "range",
    Tag.SLICE: "slice",
    Tag.PATH: "Path",
    Tag.IP: "IP",
    Tag.TIMEZONE: "timezone",
    Tag.ELLIPSIS: "ellipsis",
    Tag.PENDULUM: "DateTime",
    Tag.PENDULUM_DATE: "Date",
    Tag.PENDULUM_TIME: "Time",
    Tag.PENDULUM_DURATION: "Duration",
    Tag.PENDULUM_INTERVAL: "Interval",
}
"""Extensions that are small and that nothing is imported for but the libraries of their types."""

_MOST_SCALAR_BYTES = 4096

_Pair = tuple[int, int]


class Tree:
    """A packed value, seen node by node. Offsets come from earlier answers, but may be anything."""

    def __init__(self, packed: Packed, budget: Budget) -> None:
        self._packed = packed
        self._budget = budget

    def node(self, at: int) -> dict[str, Any]:
        """What begins there: type, number of children or the value itself, and the offset of the children."""
        head = self._packed.head(at)
        if head.kind == "value":
            return {"at": at, "type": _name(head.value), "value": _json(head.value)}
        if head.kind == "str":
            return {"at": at, "type": "str", "length": head.length, "value": self._packed.text(head, _TEXT_BYTES)}
        if head.kind == "bin":
            return {"at": at, "type": "bytes", "length": head.length}
        if head.kind == "ext":
            return {"at": at, **self._extension(head)}
        return {"at": at, "type": "list" if head.kind == "array" else "dict", "count": head.length}

    def children(self, at: int, *, start: int = 0, cursor: str = "", count: int = 100) -> dict[str, Any]:
        """A page of a node's children, with the cursor of the next page.

        ``cursor`` comes from the page before and makes this one cost no more than its children. Without it the
        children before ``start`` are passed over. A page may have fewer than ``count`` when passing over one takes
        long.
        """
        kind, total, keys, values = self.inside(at)
        count = max(1, min(count, PAGE_ITEMS))
        index, places = start, (keys, values)
        if cursor:
            index, places = _parsed_cursor(cursor)
        elif start:
            places = self._passed((keys, values), min(start, total), kind)
        items: list[dict[str, Any]] = []
        soft = self._budget.left() - _SOFT_SECONDS
        while index < total and len(items) < count:
            keys, values = places
            if items and self._budget.left() < soft:
                break
            item: dict[str, Any] = {"index": index}
            if kind == "map":
                after = self._packed.end(values)
                item |= {"key": self.key(values), **self.node(after)}
                places = (keys, after)
            elif kind == "pairs":
                item |= {"key": self.key(keys), **self.node(values)}
            else:
                item |= self.node(values)
            items.append(item)
            index += 1
            if index < total:
                places = self._next(places, kind)
        return {
            "total": total,
            "items": items,
            "next": f"{index}:{places[0]}:{places[1]}" if index < total else None,
        }

    def text(self, at: int, start: int, most_bytes: int) -> dict[str, Any]:
        """A part of a text, from byte ``start`` on."""
        head = self._packed.head(at)
        if head.kind != "str":
            raise DecodeError("There is no text at that place")
        end = min(head.length, start + most_bytes)
        data = bytes(self._packed.source.read(head.body + start, head.body + end))
        return {"text": data.decode("utf-8", "replace"), "start": start, "end": end, "size_bytes": head.length}

    def leaf(self, at: int) -> tuple[str, Mapping[str, Any], Source] | None:
        """Codec, params and payload of a value of another codec that begins there; None if none does."""
        head = self._packed.head(at)
        if head.kind != "ext" or head.tag != Tag.CODEC:
            return None
        self._budget.fits(head.length, "The part")
        body = _registry().tree.unpack(self._packed.source.read(head.body, head.body + head.length))
        if not (isinstance(body, list) and len(body) == 3 and isinstance(body[0], str) and isinstance(body[1], dict)):
            raise DecodeError("A part of the value is malformed")
        return body[0], body[1], BytesSource(body[2])

    def walk(self, at: int) -> Iterator[tuple[str, int]]:
        """Keys (as text) and offsets of all children of a node."""
        page: dict[str, Any] = {"next": ""}
        while page["next"] is not None:
            page = self.children(at, cursor=page["next"], count=PAGE_ITEMS)
            for item in page["items"]:
                yield item.get("key", {}).get("value", f"[{item['index']}]"), item["at"]

    def inside(self, at: int) -> tuple[str, int, int, int]:
        """How a node's children lie (``list``, ``map`` or ``pairs``), how many, and where keys and values begin."""
        head = self._packed.head(at)
        if head.kind == "array":
            return "list", head.length, 0, head.body
        if head.kind == "map":
            return "map", head.length, 0, head.body
        if head.kind == "ext":
            if head.tag in _LISTS or head.tag in (Tag.NESTED, Tag.NAMESPACE):
                return self.inside(head.body)
            if head.tag == Tag.DEQUE:
                return self.inside(self._packed.head(head.body).body)
            if head.tag in PAIRED:
                keys = self._packed.head(head.body).body
                if PAIRED[head.tag][1]:
                    keys = self._packed.end(keys)
                values = self._packed.end(keys)
                key_head, value_head = self._packed.head(keys), self._packed.head(values)
                if key_head.kind != "array" or value_head.kind != "array" or key_head.length != value_head.length:
                    raise DecodeError("A dictionary in the value is malformed")
                return "pairs", key_head.length, key_head.body, value_head.body
            if head.tag == Tag.CODEC and (inner := self._object(head)) is not None:
                return self.inside(inner)
        return "list", 0, 0, head.body

    def _next(self, places: _Pair, kind: str) -> _Pair:
        keys, values = places
        if kind == "pairs":
            return self._packed.end(keys), self._packed.end(values)
        return keys, self._packed.end(values)

    def _passed(self, places: _Pair, count: int, kind: str) -> _Pair:
        if not count:
            return places
        keys, values = places
        if kind == "pairs":
            return self._packed.skip(keys, count), self._packed.skip(values, count)
        return keys, self._packed.skip(values, count * (2 if kind == "map" else 1))

    def key(self, at: int) -> dict[str, Any]:
        """A key as it is shown."""
        node = self.node(at)
        shown = node["value"] if "value" in node else f"<{node['type']}>"
        return {"type": node["type"], "value": shown if isinstance(shown, str) else repr(shown)}

    def _extension(self, head: Head) -> dict[str, Any]:
        tag = head.tag
        if tag in _LISTS:
            return {"type": _LISTS[tag], "count": self._inside_count(head)}
        if tag in PAIRED:
            return {"type": PAIRED[tag][0], "count": self._inside_count(head)}
        if tag == Tag.NESTED:
            return {**self.node(head.body), "deep": True}
        if tag == Tag.NAMESPACE:
            return {"type": "SimpleNamespace", "count": self._packed.head(head.body).length}
        if tag == Tag.DEQUE:
            return {"type": "deque", "count": self._inside_count(head)}
        if tag == Tag.BYTEARRAY:
            return {"type": "bytearray", "length": self._packed.head(head.body).length}
        if tag == Tag.CODEC:
            return self._other(head)
        if tag == Tag.PART:
            return {"type": "part", "part": self._packed.head(head.body).value}
        if tag in SCALARS and head.length <= _MOST_SCALAR_BYTES:
            body = bytes(self._packed.source.read(head.body, head.body + head.length))
            return {"type": SCALARS[tag], "value": restored_text(tag, body)}
        return {"type": SCALARS.get(tag, f"extension {tag}"), "length": head.length}

    def _inside_count(self, head: Head) -> int:
        inner = self._packed.head(head.body)
        if head.tag in _LISTS:
            return inner.length
        first = self._packed.end(inner.body) if PAIRED.get(head.tag, ("", 0))[1] else inner.body
        return self._packed.head(first).length

    def _other(self, head: Head) -> dict[str, Any]:
        """A small value of another codec, told by its codec's id; an instance of a class by its name."""
        codec = self._packed.head(self._packed.head(head.body).body)
        name = self._packed.text(codec, 100) if codec.kind == "str" else "?"
        if name == "object" and (inner := self._object(head)) is not None:
            return {"type": self._class(head), "count": self.inside(inner)[1], "object": True}
        return {"type": name, "length": head.length, "codec": name}

    def _object_body(self, head: Head) -> int | None:
        """Where the packed ``[kind, class, state]`` of an instance begins."""
        outer = self._packed.head(head.body)
        at = outer.body
        codec = self._packed.head(at)
        if codec.kind != "str" or self._packed.text(codec, 20) != "object":
            return None
        payload = self._packed.head(self._packed.end(self._packed.end(at)))
        if payload.kind != "bin":
            return None
        body = self._packed.head(payload.body)
        return payload.body if body.kind == "array" and body.length in (3, 4) else None

    def _object(self, head: Head) -> int | None:
        """Where the state of an instance begins, if the value is one."""
        body = self._object_body(head)
        return None if body is None else self.state(body)

    def state(self, body: int) -> int:
        """Where in ``[kind, class, state]`` the state begins."""
        kind = self._packed.head(body).body
        return self._packed.end(self._packed.end(kind))

    def class_name(self, body: int) -> str:
        """The class that ``[kind, class, state]`` names."""
        named = self._packed.head(self._packed.end(self._packed.head(body).body))
        return self._packed.text(named, 200).replace(":", ".") if named.kind == "str" else "object"

    def _class(self, head: Head) -> str:
        body = self._object_body(head)
        return "object" if body is None else self.class_name(body)


def _parsed_cursor(cursor: str) -> tuple[int, _Pair]:
    try:
        index, keys, values = map(int, cursor.split(":"))
    except ValueError as error:
        raise DecodeError("The cursor is none that was given") from error
    return index, (keys, values)


@cache
def _registry() -> Registry:
    """Our own codecs only: no class of a user, no pickle, no other package's codec."""
    return Registry(entry_points=False)


def restored_text(tag: int, body: bytes) -> str:
    """A small value of one of the :data:`SCALARS` as Python writes it."""
    try:
        return _shown(RESTORE[tag](_registry().tree.unpack(body)))
    except Exception:  # a forged body; its kind is told all the same
        return "<malformed>"


def _name(value: Any) -> str:
    return "None" if value is None else type(value).__name__


def _json(value: Any) -> Any:
    """A number as JSON carries it to a browser, else as text."""
    if isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) > 2**53):
        return repr(value)
    return value


def _shown(value: Any) -> str:
    if isinstance(value, int) and value.bit_length() > 8192:
        return f"<int of {value.bit_length()} bits>"
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    text = str(value)
    return text if len(text) <= 1000 else text[:1000] + "…"


def tree_source(source: Source, params: Mapping[str, Any], budget: Budget) -> tuple[Source, list[Any]]:
    """Where in a payload the tree lies, and the table of the parts beside it (``codecs.parts``)."""
    tree_bytes, table_bytes = params.get("tree_bytes", source.size_bytes), params.get("table_bytes", 0)
    if type(tree_bytes) is not int or type(table_bytes) is not int:
        raise DecodeError("The lengths of the value's tree and table are no numbers")
    tree_end = source.size_bytes - table_bytes
    if not table_bytes:
        return SliceSource(source, tree_end - tree_bytes, tree_end), []
    budget.fits(table_bytes, "The table of the value's parts")
    try:
        table = json.loads(bytes(read_all(SliceSource(source, tree_end, source.size_bytes))))
    except (RecursionError, ValueError) as error:
        raise DecodeError("The table of the value's parts is malformed") from error
    return SliceSource(source, tree_end - tree_bytes, tree_end), table if isinstance(table, list) else []
