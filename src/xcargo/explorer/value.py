"""A stored value to look into: what can be shown of it, and each of its parts, by the codec that wrote it.

Pickles and values of codecs that are not ours are described and never decoded.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import cached_property
from io import BufferedReader
from typing import Any

import orjson

from xcargo.codecs.base import importable
from xcargo.codecs.source import BytesSource, SliceSource, Source
from xcargo.errors import DecodeError, UnsupportedTypeError
from xcargo.explorer.array import Array
from xcargo.explorer.bounds import Budget
from xcargo.explorer.content import image_type, looks_like_text
from xcargo.explorer.msgpack import Packed
from xcargo.explorer.payload import Blocks, Payload
from xcargo.explorer.table import Table
from xcargo.explorer.tree import Tree, tree_source
from xcargo.model.envelope import Envelope
from xcargo.types import Buffer

__all__ = ["Opened", "Shelf", "Value"]

_BEGIN_BYTES = 4096
_MOST_COUNTS = 500_000
"""Batches whose rows are remembered, of all tables."""

_SCALARS = ("Timestamp", "Timedelta", "NaTType", "NAType", "Period", "Interval", "DateOffset")


class Shelf:
    """What looks leave for the next ones, in bounded memory: blocks of payloads, and where large parts end."""

    def __init__(self, max_bytes: int) -> None:
        self.blocks = Blocks(max_bytes)
        self.ends: OrderedDict[Any, int] = OrderedDict()
        self.orders: OrderedDict[Any, Any] = OrderedDict()
        """Sorted and filtered rows of tables, the last few."""
        self._counts: OrderedDict[str, dict[int, int]] = OrderedDict()
        self._lock = threading.Lock()

    def counts_of(self, name: str) -> dict[int, int]:
        """Rows of each batch of a table, as far as they are known; the last few tables'."""
        if not name:
            return {}
        with self._lock:
            counts = self._counts.setdefault(name, {})
            self._counts.move_to_end(name)
            while len(self._counts) > 1 and sum(map(len, self._counts.values())) + len(self._counts) > _MOST_COUNTS:
                self._counts.popitem(last=False)
            return counts

    def keep_order(self, name: Any, order: Any) -> None:
        """Keep an order of rows for the pages that follow."""
        with self._lock:
            self.orders[name] = order
            while len(self.orders) > 8 or sum(o.nbytes for o in self.orders.values()) > 64 * 1024 * 1024:
                if len(self.orders) == 1:
                    break
                self.orders.popitem(last=False)


class Opened:
    """Source over a file that reads from where a value lies; opened when something is read."""

    def __init__(self, size_bytes: int, opener: Callable[[], BufferedReader]) -> None:
        self._size_bytes = size_bytes
        self._opener = opener

    @cached_property
    def _file(self) -> BufferedReader:
        return self._opener()

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    def read(self, start: int, end: int) -> Buffer:
        self._file.seek(start)
        return self._file.read(max(0, end - start))

    def read_into(self, view: memoryview) -> None:
        self._file.seek(0)
        self._file.readinto(view)

    def iter_chunks(self) -> Any:
        self._file.seek(0)
        while piece := self._file.read(1024 * 1024):
            yield piece


class Value:
    """One value, or a part inside one. Nothing is read before a method needs it."""

    def __init__(
        self, type_: str, codec: str, params: Mapping[str, Any], source: Source, name: str, shelf: Shelf, budget: Budget
    ) -> None:
        self.type = type_
        self.codec = codec
        self.params = params
        self.source = source
        self.name = name
        self.shelf = shelf
        self.budget = budget

    @classmethod
    def of(cls, envelope: Envelope, opener: Callable[[], BufferedReader], shelf: Shelf, budget: Budget) -> Value:
        """The value of an envelope, whose payload ``opener`` opens."""
        name = f"{envelope.uri} {envelope.checksum} {envelope.size_bytes}" if envelope.uri else ""
        source = Payload(Opened(envelope.size_bytes, opener), name or None, shelf.blocks, budget)
        return cls(envelope.type, envelope.codec, envelope.params, source, name, shelf, budget)

    @property
    def kind(self) -> str:
        """``tree``, ``table``, ``array``, ``bytes``, ``folder``, or ``opaque`` for what is only described."""
        if self.codec in ("msgpack", "object", "airflow-serde"):
            return "tree"
        if self.codec == "pandas":
            return "tree" if str(self.params.get("type", "")).rpartition(".")[2] in _SCALARS else "table"
        if self.codec in ("arrow", "arrow-stream"):
            return "table"
        if self.codec == "numpy":
            return "tree" if self.params.get("dtype") in ("|O", "T") else "array"
        if self.codec == "file" and "directory" in self.params:
            return "folder"
        return "bytes" if self.codec in ("bytes", "stream", "file") else "opaque"

    def inside(self, way: str) -> Value:
        """The part at a way of ``part:number`` and ``leaf:offset`` steps; the value itself for an empty one."""
        value = self
        for step in filter(None, way.split("/")):
            word, _, number = step.partition(":")
            if word not in ("part", "leaf") or not number.isdecimal() or value.kind != "tree":
                raise DecodeError("There is no such part in the value")
            value = value._part(int(number)) if word == "part" else value._leaf(int(number))
        return value

    def described(self) -> dict[str, Any]:
        """What the page needs first: the kind, and what is to be known of the value. Reads its beginning."""
        told: dict[str, Any] = {"kind": self.kind, "type": self.type, "size_bytes": self.source.size_bytes}
        if self.kind == "tree":
            _, _, root = self.tree
            told["root"] = self.tree[0].node(root)
        elif self.kind == "table":
            table = self.table()
            told |= {"columns": table.columns, "rows": table.rows.count, "hidden": len(table.hidden)}
        elif self.kind == "array":
            told |= {"shape": list(self.array().shape), "dtype": str(self.array().dtype)[:200]}
        elif self.kind == "folder":
            told |= {"name": str(self.params.get("directory"))[:300], "files": self.params.get("files")}
        elif self.kind == "bytes":
            begin = bytes(self.source.read(0, _BEGIN_BYTES))
            told |= {"image": image_type(begin), "text": looks_like_text(begin)}
            if self.codec == "file":
                told |= {"name": str(self.params.get("name"))[:300], "media_type": self.params.get("media_type")}
        return told

    @cached_property
    def tree(self) -> tuple[Tree, Packed, int]:
        """The value as a tree, its bytes, and the offset of the root."""
        if self.kind != "tree":
            raise UnsupportedTypeError(f"A value of type {self.type} is no tree")
        source, params = self.source, self.params
        if self.codec == "airflow-serde":
            self.budget.fits(source.size_bytes * 4, "The value")
            source, params = BytesSource(_packed_json(bytes(source.read(0, source.size_bytes)))), {}
        elif self.codec == "numpy":
            params = {}
        place, self._table = tree_source(source, params if self.codec != "pandas" else {}, self.budget)
        packed = Packed(place, self.budget, self.shelf.ends, self.name) if self.name else _unnamed(place, self.budget)
        tree = Tree(packed, self.budget)
        return tree, packed, tree.state(0) if self.codec == "object" else 0

    def table(self) -> Table:
        """The value as a table."""
        if self.kind != "table":
            raise UnsupportedTypeError(f"A value of type {self.type} is no table")
        shape = self.params.get("shape")
        total = shape[0] if isinstance(shape, list) and shape and type(shape[0]) is int else None
        counts, batches = self.shelf.counts_of(self.name), self.params.get("batches")
        return Table(self._payload, total=total, counts=counts, batches=batches)

    def array(self) -> Array:
        """The value as an array."""
        if self.kind != "array":
            raise UnsupportedTypeError(f"A value of type {self.type} is no array")
        return Array(self._payload, self.params)

    @property
    def _payload(self) -> Payload:
        if isinstance(self.source, Payload):
            return self.source
        return Payload(self.source, self.name or None, self.shelf.blocks, self.budget)

    def _part(self, number: int) -> Value:
        _ = self.tree
        try:
            codec, params, start, end = self._table[number]
            if type(codec) is not str or type(params) is not dict or not type(start) is type(end) is int:
                raise TypeError
        except (LookupError, TypeError, ValueError) as error:
            raise DecodeError("The value names a part that is not there") from error
        name = f"{self.name} part {number}" if self.name else ""
        kind = str(params.get("type") or codec)
        return Value(kind, codec, params, SliceSource(self.source, start, end), name, self.shelf, self.budget)

    def _leaf(self, at: int) -> Value:
        leaf = self.tree[0].leaf(at)
        if leaf is None:
            raise DecodeError("There is no such part in the value")
        codec, params, source = leaf
        return Value(str(params.get("type") or codec), codec, params, source, "", self.shelf, self.budget)


def _unnamed(source: Source, budget: Budget) -> Packed:
    return Packed(source, budget, OrderedDict(), "")


def _packed_json(data: bytes) -> bytes:
    msgpack = importable("msgpack", "to be looked into", extra="ui")
    try:
        packed: bytes = msgpack.packb(orjson.loads(data))
        return packed
    except (ValueError, TypeError) as error:
        raise DecodeError("The object is not JSON") from error
