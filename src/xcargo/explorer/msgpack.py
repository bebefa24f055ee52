"""MessagePack read in place: what begins at an offset, and where it ends, without making objects of it."""

from __future__ import annotations

import io
import struct
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from xcargo.codecs.base import importable
from xcargo.codecs.source import Source
from xcargo.errors import DecodeError
from xcargo.explorer.bounds import Budget, TooLargeError

__all__ = ["Head", "Packed", "file_from"]

_READ_BYTES = 256 * 1024
_KEPT_ENDS = 50_000

_SIZED = {  # first byte -> kind, bytes of its length, fixed length
    0xC4: ("bin", 1), 0xC5: ("bin", 2), 0xC6: ("bin", 4),
    0xD9: ("str", 1), 0xDA: ("str", 2), 0xDB: ("str", 4),
    0xDC: ("array", 2), 0xDD: ("array", 4), 0xDE: ("map", 2), 0xDF: ("map", 4),
    0xC7: ("ext", 1), 0xC8: ("ext", 2), 0xC9: ("ext", 4),
}  # fmt: skip
_NUMBERS = {0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q",
            0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q"}  # fmt: skip
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
_FIXED_EXT = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}


@dataclass(frozen=True)
class Head:
    """What begins at an offset."""

    kind: str
    """``value`` (a number or constant), ``str``, ``bin``, ``array``, ``map`` or ``ext``."""
    length: int
    """Bytes of text, binary or extension; items of an array; pairs of a map."""
    body: int
    """Where the bytes, or the first item, begin."""
    value: Any = None
    tag: int = 0


class Packed:
    """A packed value in a source. Offsets may come from anyone: what does not parse raises DecodeError."""

    def __init__(self, source: Source, budget: Budget, ends: OrderedDict[Any, int], name: str) -> None:
        self.source = source
        self.budget = budget
        self._ends = ends
        self._name = name

    def head(self, at: int) -> Head:
        """What begins at ``at``."""
        if not 0 <= at < self.source.size_bytes:
            raise DecodeError("The place asked for lies outside the value")
        data = bytes(self.source.read(at, at + 10))
        first = data[0]
        try:
            if first < 0x80:
                return Head("value", 0, at + 1, first)
            if first >= 0xE0:
                return Head("value", 0, at + 1, first - 256)
            if first < 0x90:
                return Head("map", first & 15, at + 1)
            if first < 0xA0:
                return Head("array", first & 15, at + 1)
            if first < 0xC0:
                return Head("str", first & 31, at + 1)
            if first in _CONSTANTS:
                return Head("value", 0, at + 1, _CONSTANTS[first])
            if first in _NUMBERS:
                form = _NUMBERS[first]
                (number,) = struct.unpack_from(form, data, 1)
                return Head("value", 0, at + 1 + struct.calcsize(form), number)
            if first in _FIXED_EXT:
                return Head("ext", _FIXED_EXT[first], at + 2, tag=data[1])
            kind, width = _SIZED[first]
            length = int.from_bytes(data[1 : 1 + width], "big")
            if kind == "ext":
                return Head(kind, length, at + 2 + width, tag=data[1 + width])
            return Head(kind, length, at + 1 + width)
        except (KeyError, IndexError, struct.error) as error:
            raise DecodeError("The object does not hold a packed value there") from error

    def end(self, at: int) -> int:
        """Where what begins at ``at`` ends. Reads it all, in bounded memory, if it holds other things."""
        head = self.head(at)
        if head.kind == "value":
            return head.body
        if head.kind in ("str", "bin", "ext"):
            return head.body + head.length
        known = self._ends.get((self._name, at))
        if known is None:
            known = self.skip(at, 1)
            if known - at > _READ_BYTES:
                self._ends[self._name, at] = known
                while len(self._ends) > _KEPT_ENDS:
                    self._ends.popitem(last=False)
        return known

    def skip(self, at: int, count: int) -> int:
        """Where the ``count`` values that begin at ``at``, one after another, end."""
        msgpack = importable("msgpack", "to be looked into", extra="ui")
        unpacker = msgpack.Unpacker(
            _From(self.source, at, self.budget),
            read_size=_READ_BYTES,
            max_buffer_size=max(self.budget.max_bytes, _READ_BYTES),
            strict_map_key=False,
        )
        try:
            for _ in range(count):
                unpacker.skip()
        except msgpack.exceptions.BufferFull as error:
            raise TooLargeError(
                f"A single text or binary of more than {self.budget.max_bytes} bytes lies in the way",
                hint="Download the value.",
            ) from error
        except (ValueError, msgpack.UnpackException) as error:
            raise DecodeError("The object does not hold a packed value there") from error
        return at + int(unpacker.tell())

    def text(self, head: Head, most_bytes: int) -> str:
        """The beginning of a text."""
        data = bytes(self.source.read(head.body, head.body + min(head.length, most_bytes)))
        return data.decode("utf-8", "ignore" if head.length > most_bytes else "replace")


def file_from(packed: Packed, at: int) -> io.RawIOBase:
    """The bytes of a packed value from an offset on, as a file."""
    return _From(packed.source, at, packed.budget)


class _From(io.RawIOBase):
    """A source as a file, from an offset on; for msgpack, which asks for a piece at a time."""

    def __init__(self, source: Source, at: int, budget: Budget) -> None:
        self._source, self._at, self._budget = source, at, budget

    def read(self, size: int = -1) -> bytes:
        self._budget.check()
        data = bytes(self._source.read(self._at, self._at + (size if size > 0 else _READ_BYTES)))
        self._at += len(data)
        return data
