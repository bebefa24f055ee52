"""A stored value to look into: what can be shown of it, and of each of its parts, by the codec that wrote it.

Pickles and values of codecs that are not ours are described and never decoded.
"""

from __future__ import annotations

import itertools
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from io import BufferedReader
from typing import Any

from xcargo.codecs.source import open_seekable
from xcargo.errors import DecodeError, UnsupportedTypeError, XCargoError
from xcargo.explorer.array import Array
from xcargo.explorer.limits import BlockCache, Budget, Payload
from xcargo.explorer.packed import PANDAS_SCALARS, json_to_packed, scalar_leaf
from xcargo.explorer.table import Table
from xcargo.explorer.tree import Tree, split_parts, text_page
from xcargo.model.envelope import Envelope
from xcargo.types import Buffer

__all__ = ["Download", "StoredValue", "image_type", "looks_like_text"]

_BEGIN_BYTES = 4096
_PART_BYTES = 64 * 1024
_MAX_FILES = 500

_IMAGES = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
    b"BM": "image/bmp",
}
"""How pictures that a browser shows, and that can hold no script, begin."""

_SUFFIXES = {b"%PDF-": ".pdf", b"PK\x03\x04": ".zip", b"\x1f\x8b": ".gz", b"PAR1": ".parquet"}
"""How other files that people open begin, and what their names end with."""


@dataclass(frozen=True)
class Download:
    """A file that is made of a value as it is read. ``name`` is its own, if it has one."""

    suffix: str
    chunks: Iterator[Buffer]
    size_bytes: int | None = None
    name: str = ""


class StoredValue:
    """One value, or a part inside one. Nothing is read before a method needs it."""

    def __init__(self, type_: str, codec: str, params: Mapping[str, Any], payload: Payload) -> None:
        self.type = type_
        self.codec = codec
        self.params = params
        self.payload = payload

    @classmethod
    def from_envelope(
        cls, envelope: Envelope, opener: Callable[[], BufferedReader], *, cache: BlockCache, budget: Budget
    ) -> StoredValue:
        """The value of an envelope, whose payload ``opener`` opens when something is read."""
        name = f"{envelope.uri} {envelope.checksum} {envelope.size_bytes}" if envelope.uri else ""
        payload = Payload(_LateFile(envelope.size_bytes, opener), name, cache=cache, budget=budget)
        return cls(envelope.type, envelope.codec, envelope.params, payload)

    @property
    def kind(self) -> str:
        """``tree``, ``table``, ``array``, ``bytes``, ``folder``, or ``opaque`` for what is only described."""
        if self.codec in ("msgpack", "object", "library", "rows", "airflow-serde"):
            return "tree"
        if self.codec == "pandas":
            return "tree" if self.params.get("type") in PANDAS_SCALARS else "table"
        if self.codec in ("arrow", "arrow-stream"):
            return "table"
        if self.codec == "numpy" and self.params.get("class") not in ("dtype", "masked"):
            packed = self.params.get("packed") or self.params.get("dtype") in ("|O", "T")
            return "tree" if packed else "array"
        if self.codec == "file" and "directory" in self.params:
            return "folder"
        return "bytes" if self.codec in ("bytes", "stream", "file", "image") else "opaque"

    def inside(self, path: str) -> StoredValue:
        """The part at a path of ``part:number`` and ``leaf:offset`` steps; the value itself for an empty one."""
        value = self
        for step in filter(None, path.split("/")):
            word, _, number = step.partition(":")
            if word not in ("part", "leaf") or not number.isdecimal() or value.kind != "tree":
                raise DecodeError("There is no such part in the value")
            value = value._part(int(number)) if word == "part" else value._leaf(int(number))
        return value

    def describe(self) -> dict[str, Any]:
        """What a page needs first: the kind, and what is known of the value. Reads its beginning."""
        description: dict[str, Any] = {"kind": self.kind, "type": self.type, "size_bytes": self.payload.size_bytes}
        if self.kind == "tree":
            leaf = scalar_leaf(self.codec, self.params, self.payload)
            description["root"] = {"at": 0, **leaf} if leaf else self.tree.node(self.tree.root)
            description["text"] = self.tree.root_text() is not None
        elif self.kind == "table":
            table = self.table()
            description |= {"columns": table.columns, "rows": table.rows.count, "hidden": table.hidden}
        elif self.kind == "array":
            array = self.array()
            description |= {
                "shape": list(array.shape),
                "dtype": str(array.dtype)[:200],
                "npy": array.npy_header() is not None,
            }
        elif self.kind == "folder":
            description |= {"name": str(self.params.get("directory"))[:300], "files": self.params.get("files")}
        elif self.kind == "bytes":
            begin = self.beginning()
            description |= {"image": image_type(begin), "text": looks_like_text(begin)}
            if self.codec == "file":
                description |= {"name": str(self.params.get("name"))[:300], "media_type": self.params.get("media_type")}
        return description

    @cached_property
    def tree(self) -> Tree:
        """The value as a tree."""
        return self._tree_and_parts[0]

    @cached_property
    def _tree_and_parts(self) -> tuple[Tree, list[Any]]:
        self._require("tree")
        payload, params = self.payload, self.params
        if self.codec == "airflow-serde":
            payload.budget.check_size(payload.size_bytes * 4, "The value")
            payload, params = payload.in_memory(json_to_packed(bytes(payload.read_all()))), {}
        packed, parts = split_parts(payload, params)
        return Tree(packed, fields_only=self.codec in ("object", "library", "rows")), parts

    def table(self) -> Table:
        """The value as a table."""
        self._require("table")
        return Table(self.payload, self.params)

    def array(self) -> Array:
        """The value as an array."""
        self._require("array")
        return Array(self.payload, self.params)

    def beginning(self) -> bytes:
        """The first bytes, by which pictures and texts are recognized."""
        return bytes(self.payload.read(0, _BEGIN_BYTES))

    def hexadecimal(self, start: int, count: int) -> dict[str, Any]:
        """Some bytes of a file, a stream or bytes, as hexadecimal digits."""
        self._require("bytes")
        size = self.payload.size_bytes
        start = min(max(start, 0), size)
        data = bytes(self.payload.read(start, start + max(0, min(count, _PART_BYTES))))
        return {"start": start, "size_bytes": size, "hex": data.hex()}

    def text(self, start: int, count: int) -> dict[str, Any]:
        """Some bytes of a file, a stream or bytes as text, cut between characters."""
        self._require("bytes")
        size = self.payload.size_bytes
        start = min(max(start, 0), size)
        text, end = text_page(self.payload, start, min(count, _PART_BYTES))
        return {"start": start, "end": end, "size_bytes": size, "text": text}

    def files(self) -> dict[str, Any]:
        """Names and sizes of the files of a folder, the first 500 of them. Reads the headers of its archive only."""
        self._require("folder")
        entries: list[dict[str, Any]] = []
        try:
            with tarfile.open(fileobj=open_seekable(self.payload), mode="r:") as tar:
                for entry in tar:
                    self.payload.budget.check_time()
                    if len(entries) >= _MAX_FILES:
                        return {"entries": entries, "more": True}
                    kind = "folder" if entry.isdir() else "link" if entry.issym() else "file"
                    entries.append({"name": entry.name[:300], "kind": kind, "size_bytes": entry.size})
        except XCargoError:
            raise
        except (tarfile.TarError, ArithmeticError, ValueError, RecursionError) as error:
            raise DecodeError("The object is not an archive of a folder") from error
        return {"entries": entries, "more": False}

    def download(self, form: str = "raw") -> Download:
        """The value as a file: ``raw`` is its payload as it is stored.

        Trees are made ``json``, texts ``txt``, arrays ``npy``, tables ``csv`` or ``parquet``. A pickle is refused.

        Raises:
            UnsupportedTypeError: There is no such file of the value.
        """
        if self.kind == "opaque" and self.codec == "pickle":
            raise UnsupportedTypeError("A pickle is not handed out here: opening it runs its code")
        payload, size = self.payload, self.payload.size_bytes
        if form == "raw":
            name = str(self.params.get("name") or "file") if self.codec == "file" and self.kind == "bytes" else ""
            return Download(self._suffix(), payload.iter_chunks(), size, name)
        if form == "json":
            document = self.tree.json()
            return Download(".json", iter([document]), len(document))
        if form == "txt" and (text := self.tree.root_text()) is not None:
            return Download(".txt", text.iter_chunks(), text.size_bytes)
        if form == "npy" and (header := self.array().npy_header()) is not None:
            chunks = payload.iter_chunks()  # the first one at once: the error of an object that is gone is the answer
            return Download(".npy", itertools.chain([header, next(chunks, b"")], chunks), len(header) + size)
        if form in ("csv", "parquet"):
            return Download(f".{form}", self.table().export(form))
        raise UnsupportedTypeError(f"A value of type {self.type} has no file of the form {form[:20]!r}")

    def _suffix(self) -> str:
        if self.kind != "bytes":
            return {"table": ".arrow", "tree": ".msgpack", "array": ".npraw", "folder": ".tar"}.get(self.kind, ".bin")
        begin = self.beginning()
        if (image := image_type(begin)) is not None:
            return f".{image.partition('/')[2].replace('jpeg', 'jpg')}"
        suffix = next((suffix for magic, suffix in _SUFFIXES.items() if begin.startswith(magic)), None)
        return suffix or (".txt" if looks_like_text(begin) else ".bin")

    def _require(self, kind: str) -> None:
        if self.kind != kind:
            raise UnsupportedTypeError(f"A value of type {self.type} cannot be shown as {kind}")

    def _part(self, number: int) -> StoredValue:
        try:
            codec, params, start, end = self._tree_and_parts[1][number]
            if type(codec) is not str or type(params) is not dict or not type(start) is type(end) is int:
                raise TypeError
        except (LookupError, TypeError, ValueError) as error:
            raise DecodeError("The value names a part that is not there") from error
        return StoredValue(str(params.get("type") or codec), codec, params, self.payload.part(start, end))

    def _leaf(self, at: int) -> StoredValue:
        leaf = self.tree.leaf(at)
        if leaf is None:
            raise DecodeError("There is no such part in the value")
        codec, params, payload = leaf
        return StoredValue(str(params.get("type") or codec), codec, params, payload)


class _LateFile:
    """Source over a file that is opened when something is read."""

    def __init__(self, size_bytes: int, opener: Callable[[], BufferedReader]) -> None:
        self.size_bytes = size_bytes
        self._opener = opener

    @cached_property
    def _file(self) -> BufferedReader:
        return self._opener()

    def read(self, start: int, end: int) -> Buffer:
        self._file.seek(start)
        return self._file.read(max(0, end - start))

    def read_into(self, view: memoryview) -> None:
        self._file.seek(0)
        self._file.readinto(view)

    def iter_chunks(self) -> Iterator[Buffer]:
        self._file.seek(0)
        while chunk := self._file.read(1024 * 1024):
            yield chunk


def image_type(begin: bytes) -> str | None:
    """Media type of a picture by its first bytes; never SVG, which is a document with scripts."""
    if begin[:4] == b"RIFF" and begin[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for magic, kind in _IMAGES.items() if begin.startswith(magic)), None)


def looks_like_text(begin: bytes) -> bool:
    """Whether bytes begin as UTF-8 text does: no control characters but white space."""
    try:
        text = begin.decode()
    except UnicodeDecodeError as error:
        if error.start < len(begin) - 4:
            return False
        text = begin[: error.start].decode()
    return bool(text) and all(char >= " " or char in "\t\n\r\f\x1b" for char in text)
