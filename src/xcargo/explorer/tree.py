"""Nested values as a tree of which only the nodes on the screen are read.

A node is named by its offset in the packed value. So a page of children costs what they take, and nothing before or
after them is decoded; an instance of a class is shown by its fields, and its class is never imported.
"""

from __future__ import annotations

import codecs
import json
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import orjson

from xcargo.codecs.builtin import Tag
from xcargo.codecs.class_names import dotted
from xcargo.errors import DecodeError
from xcargo.explorer.limits import Payload
from xcargo.explorer.packed import (
    LISTS,
    NAMES,
    PAIRS,
    SCALAR_BYTES,
    SCALARS,
    Head,
    Packed,
    registry,
    scalar_leaf,
    scalar_text,
    to_json,
)
from xcargo.types import Json

__all__ = ["Tree", "split_parts", "text_page"]

_PAGE_ITEMS = 200
_PAGE_SECONDS = 0.5
"""After this a page ends with the children it has."""

_TEXT_BYTES = 400
"""Of a text inside a tree; all of it is a page of its own."""

_SEARCH_BYTES = 1024 * 1024
_SEARCH_SECONDS = 2.0
_MAX_HITS = 50
_MAX_DEPTH = 300


class Children(NamedTuple):
    """Where the children of a node are.

    In a ``list`` they follow one another from ``values`` on, in a ``map`` each behind its key, and as ``pairs`` the
    keys follow one another from ``keys`` on.
    """

    layout: str
    total: int
    keys: int
    values: int


class Tree:
    """A packed value, node by node. Offsets come from earlier answers, but may be anything.

    ``fields_only`` is set of an instance of a class at the top, whose fields are the root.
    """

    def __init__(self, payload: Payload, *, fields_only: bool = False) -> None:
        self._payload = payload
        self._packed = Packed(payload)
        self._budget = payload.budget
        self.root = self._state(0) if fields_only else 0
        """The offset of the root."""

    @property
    def size_bytes(self) -> int:
        """Length of the packed value."""
        return self._payload.size_bytes

    def node(self, at: int) -> dict[str, Any]:
        """What begins at ``at``: type, and the value itself, or the number of children, or the length."""
        head = self._packed.head(at)
        if head.kind == "value":
            kind = "None" if head.value is None else type(head.value).__name__
            return {"at": at, "type": kind, "value": _browser_number(head.value)}
        if head.kind == "str":
            return {"at": at, "type": "str", "length": head.length, "value": self._packed.text(head, _TEXT_BYTES)}
        if head.kind == "bin":
            return {"at": at, "type": "bytes", "length": head.length}
        if head.kind == "ext":
            return {"at": at, **self._extension(head)}
        return {"at": at, "type": "list" if head.kind == "array" else "dict", "count": head.length}

    def children(self, at: int, *, start: int = 0, cursor: str = "", count: int = 100) -> dict[str, Any]:
        """A page of a node's children, with the cursor of the next page.

        ``cursor`` comes from the page before and makes this one cost no more than its children. Without it the children
        before ``start`` are skipped. A page may have fewer than ``count`` when skipping one takes long.
        """
        layout, total, keys, values = self._children(at)
        index, count = start, max(1, min(count, _PAGE_ITEMS))
        if cursor:
            index, keys, values = _parse_cursor(cursor)
        elif start:
            keys, values = self._skip(Children(layout, total, keys, values), min(start, total))
        items: list[dict[str, Any]] = []
        deadline = self._budget.seconds_left() - _PAGE_SECONDS
        while index < total and len(items) < count and not (items and self._budget.seconds_left() < deadline):
            item: dict[str, Any] = {"index": index}
            if layout == "map":
                item["key"], values = self._key(values), self._packed.end(values)
            elif layout == "pairs":
                item["key"] = self._key(keys)
            items.append({**item, **self.node(values)})
            index += 1
            if index < total:
                values = self._packed.end(values)
                keys = self._packed.end(keys) if layout == "pairs" else keys
        return {"total": total, "items": items, "next": f"{index}:{keys}:{values}" if index < total else None}

    def text(self, at: int, start: int, max_bytes: int) -> dict[str, Any]:
        """A part of a text, from its byte ``start`` on."""
        head = self._packed.head(at)
        if head.kind != "str":
            raise DecodeError("There is no text at that offset")
        text, end = text_page(self._payload.part(head.body, head.body + head.length), start, max_bytes)
        return {"text": text, "start": start, "end": end, "size_bytes": head.length}

    def root_text(self) -> Payload | None:
        """The bytes of the value if it is nothing but a text."""
        head = self._packed.head(self.root)
        return self._payload.part(head.body, head.body + head.length) if head.kind == "str" else None

    def leaf(self, at: int) -> tuple[str, Mapping[str, Any], Payload] | None:
        """Codec, params and payload of a value of another codec that begins at ``at``; None if none does."""
        head = self._packed.head(at)
        return self._leaf(head) if head.kind == "ext" and head.tag == Tag.CODEC else None

    def _leaf(self, head: Head) -> tuple[str, Mapping[str, Any], Payload]:
        self._budget.check_size(head.length, "The part")
        body = registry().tree.unpack(self._payload.read(head.body, head.body + head.length))
        if not (isinstance(body, list) and len(body) == 3 and isinstance(body[0], str) and isinstance(body[1], dict)):
            raise DecodeError("A part of the value is malformed")
        return body[0], body[1], self._payload.in_memory(body[2])

    def to_json(self) -> Json:
        """The whole value (`packed.to_json`)."""
        self._budget.check_size(self.size_bytes * 4, "The value as JSON")
        return to_json(memoryview(self._payload.read_all())[self.root :])

    def json(self) -> bytes:
        """The same as an indented document."""
        return orjson.dumps(self.to_json(), option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS)

    def search(self, text: str, start: int) -> dict[str, Any]:
        """Keys and texts that contain ``text``, upper and lower case of ASCII alike, from byte ``start`` on.

        The bytes are scanned, and only the path to each hit is followed: index, key and offset at each level. ``next``
        is where to go on, None at the end. Searches for two seconds at most, and returns 50 hits at most.
        """
        needle, position = text.encode().lower(), max(start, self.root)
        offsets: list[int] = []
        deadline = self._budget.seconds_left() - _SEARCH_SECONDS
        while needle and position < self.size_bytes and len(offsets) < _MAX_HITS:
            if self._budget.seconds_left() < deadline:
                break
            data = bytes(self._payload.read(position, position + _SEARCH_BYTES + len(needle) - 1)).lower()
            match = data.find(needle)
            while 0 <= match < _SEARCH_BYTES and len(offsets) < _MAX_HITS:
                offsets.append(position + match)
                match = data.find(needle, match + len(needle))
            position = offsets[-1] + len(needle) if len(offsets) == _MAX_HITS else position + _SEARCH_BYTES
        hits = [hit for path in self._paths(offsets) if (hit := self._hit(path, needle))]
        return {"hits": hits, "next": position if position < self.size_bytes else None, "size_bytes": self.size_bytes}

    def _paths(self, offsets: list[int]) -> Iterator[list[dict[str, Any]]]:
        """For each offset the nodes on the way to it. Neighbouring offsets share what has to be skipped."""
        todo: deque[tuple[int, list[int], list[dict[str, Any]]]] = deque([(self.root, offsets, [])])
        while todo:
            at, inside, path = todo.popleft()
            try:
                children = self._children(at)
            except DecodeError:
                continue
            if not children.total:
                if inside and path:
                    yield path
                continue
            for step, offsets_inside in self._steps(children, inside):
                if step.get("in_key"):
                    yield [*path, step]
                elif len(path) < _MAX_DEPTH:
                    todo.append((step["at"], offsets_inside, [*path, step]))

    def _steps(self, children: Children, offsets: list[int]) -> Iterator[tuple[dict[str, Any], list[int]]]:
        """The children, or their keys, that hold any of the offsets, each with those."""
        layout, count, keys, values = children
        packed = self._packed
        if layout == "pairs":
            in_keys = [offset for offset in offsets if offset < values]
            for index, begin, _, inside in packed.spans(keys, count, 1, in_keys):
                key = self._key(begin)["value"]
                yield {"index": index, "key": key, "at": packed.skip(values, index), "in_key": True}, inside
            offsets = offsets[len(in_keys) :]
        for index, begin, value, inside in packed.spans(values, count, 2 if layout == "map" else 1, offsets):
            step: dict[str, Any] = {"index": index, "at": value}
            if layout != "list":
                step["key"] = self._key(begin if layout == "map" else packed.skip(keys, index))["value"]
            if inside[0] < value:
                yield {**step, "in_key": True}, inside
            if in_value := [offset for offset in inside if offset >= value]:
                yield step, in_value

    def _hit(self, path: list[dict[str, Any]], needle: bytes) -> dict[str, Any] | None:
        """The path as it is shown, unless the bytes that were found are no text."""
        *above, last = path
        node = self.node(last["at"])
        if not last.get("in_key"):
            head = self._packed.head(last["at"])
            if head.kind != "str" or not self._holds(head.body, head.body + head.length, needle):
                return None
        return {"way": [*({**step, "node": self.node(step["at"])} for step in above), last], "node": node}

    def _holds(self, begin: int, end: int, needle: bytes) -> bool:
        """Whether bytes hold a text. They are read in parts: a text may be larger than a preview."""
        overlap = len(needle) - 1
        parts = ((at, min(at + _SEARCH_BYTES + overlap, end)) for at in range(begin, end, _SEARCH_BYTES))
        return any(needle in bytes(self._payload.read(*part)).lower() for part in parts)

    def _children(self, at: int) -> Children:
        return self._children_in(self._packed.head(at))

    def _children_in(self, head: Head) -> Children:
        if head.kind in ("array", "map"):
            return Children("list" if head.kind == "array" else "map", head.length, 0, head.body)
        if head.kind == "ext":
            if head.tag in LISTS or head.tag in (Tag.NESTED, Tag.NAMESPACE):
                return self._children(head.body)
            if head.tag == Tag.DEQUE:
                return self._children(self._packed.head(head.body).body)
            if head.tag in PAIRS:
                return self._pairs(head)
            if head.tag == Tag.CODEC and (body := self._instance(head)) is not None:
                return self._children(self._state(body))
        return Children("list", 0, 0, head.body)

    def _pairs(self, head: Head) -> Children:
        keys_at = self._packed.head(head.body).body
        for _ in range(PAIRS[head.tag][1]):
            keys_at = self._packed.end(keys_at)
        keys, values = self._packed.head(keys_at), self._packed.head(self._packed.end(keys_at))
        if keys.kind != "array" or values.kind != "array" or keys.length != values.length:
            raise DecodeError("A dictionary in the value is malformed")
        return Children("pairs", keys.length, keys.body, values.body)

    def _skip(self, children: Children, count: int) -> tuple[int, int]:
        """Where keys and values go on behind the first ``count`` children."""
        layout, _, keys, values = children
        keys = self._packed.skip(keys, count) if layout == "pairs" else keys
        return keys, self._packed.skip(values, count * (2 if layout == "map" else 1))

    def _key(self, at: int) -> dict[str, Any]:
        node = self.node(at)
        value = node.get("value", f"<{node['type']}>")
        return {"type": node["type"], "value": value if isinstance(value, str) else repr(value)}

    def _extension(self, head: Head) -> dict[str, Any]:
        packed, tag = self._packed, head.tag
        names = {**LISTS, **{tag: name for tag, (name, _) in PAIRS.items()}}
        names |= {Tag.NAMESPACE: "SimpleNamespace", Tag.DEQUE: "deque"}
        if tag in PAIRS:  # the lengths of keys and values are compared when it is opened
            first = packed.head(head.body).body
            return {"type": names[tag], "count": packed.head(packed.end(first) if PAIRS[tag][1] else first).length}
        if tag in names:
            return {"type": names[tag], "count": self._children_in(head).total}
        if tag == Tag.NESTED:
            return {**self.node(head.body), "deep": True}
        if tag == Tag.BYTEARRAY:
            return {"type": "bytearray", "length": packed.head(head.body).length}
        if tag == Tag.CODEC:
            return self._other_codec(head)
        if tag == Tag.PART:
            return {"type": "part", "part": packed.head(head.body).value}
        if tag in SCALARS and head.length <= SCALAR_BYTES:
            body = bytes(self._payload.read(head.body, head.body + head.length))
            return {"type": SCALARS[tag], "value": scalar_text(tag, body)}
        return {"type": NAMES.get(tag, f"extension {tag}"), "length": head.length}

    def _other_codec(self, head: Head) -> dict[str, Any]:
        """A small value of another codec, by its codec's id; an instance of a class, by its name."""
        if (body := self._instance(head)) is not None:
            name = self._packed.head(self._packed.end(self._packed.head(body).body))
            class_name = dotted(self._packed.text(name, 200)) if name.kind == "str" else "object"
            return {"type": class_name, "count": self._children(self._state(body)).total, "object": True}
        codec = self._packed.head(self._packed.head(head.body).body)
        name_of_codec = self._packed.text(codec, 100) if codec.kind == "str" else "?"
        if name_of_codec in ("numpy", "pandas") and head.length <= SCALAR_BYTES:
            leaf = scalar_leaf(*self._leaf(head))
            if leaf:
                return leaf
        return {"type": name_of_codec, "length": head.length, "codec": name_of_codec}

    def _instance(self, head: Head) -> int | None:
        """Where the packed ``[kind, class, state]`` of an instance begins, if the value is one."""
        packed = self._packed
        at = packed.head(head.body).body
        codec = packed.head(at)
        if codec.kind != "str" or packed.text(codec, 20) not in ("object", "library", "rows"):
            return None
        payload = packed.head(packed.end(packed.end(at)))
        if payload.kind != "bin":
            return None
        body = packed.head(payload.body)
        return payload.body if body.kind == "array" and body.length in (3, 4) else None

    def _state(self, body: int) -> int:
        """Where in ``[kind, class, state]`` the state begins."""
        return self._packed.end(self._packed.end(self._packed.head(body).body))


def split_parts(payload: Payload, params: Mapping[str, Any]) -> tuple[Payload, list[Any]]:
    """The tree in a payload, and the table of the parts beside it (``codecs.tree``)."""
    size = payload.size_bytes
    tree_bytes, table_bytes = params.get("tree_bytes", size), params.get("table_bytes", 0)
    if type(tree_bytes) is not int or type(table_bytes) is not int:
        raise DecodeError("The lengths of the value's tree and table are no numbers")
    tree = payload.part(size - table_bytes - tree_bytes, size - table_bytes)
    if not table_bytes:
        return tree, []
    try:
        table = json.loads(bytes(payload.part(size - table_bytes, size).read_all()))
    except (RecursionError, ValueError) as error:
        raise DecodeError("The table of the value's parts is malformed") from error
    return tree, table if isinstance(table, list) else []


def text_page(payload: Payload, start: int, max_bytes: int) -> tuple[str, int]:
    """A part of a text of at least four bytes, cut between characters, and where the next one begins."""
    end = min(start + max(max_bytes, 4), payload.size_bytes)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(bytes(payload.read(start, end)), final=end >= payload.size_bytes)
    return text, end - len(decoder.getstate()[0])


def _parse_cursor(cursor: str) -> tuple[int, int, int]:
    try:
        index, keys, values = map(int, cursor.split(":"))
    except ValueError as error:
        raise DecodeError("The cursor is not one of an earlier page") from error
    return index, keys, values


def _browser_number(value: Any) -> Any:
    """A number as JSON carries it to a browser exactly, else as text."""
    if isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) > 2**53):
        return repr(value)
    return value
