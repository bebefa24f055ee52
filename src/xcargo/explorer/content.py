"""Bytes: what they look like, a part of them, and the names in a folder's archive."""

from __future__ import annotations

import tarfile
from typing import Any

from xcargo.codecs.source import Source, open_seekable
from xcargo.errors import DecodeError
from xcargo.explorer.bounds import Budget

__all__ = ["IMAGES", "archive", "image_type", "looks_like_text", "part", "text_part"]

IMAGES = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
    b"BM": "image/bmp",
}
"""How pictures that a browser shows, and that can hold no script, begin."""

_MOST_BYTES = 64 * 1024
_MOST_NAMES = 500


def image_type(begin: bytes) -> str | None:
    """Media type of a picture by its first bytes; never SVG, which is a document with scripts."""
    if begin[:4] == b"RIFF" and begin[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for magic, kind in IMAGES.items() if begin.startswith(magic)), None)


def looks_like_text(begin: bytes) -> bool:
    """Whether bytes begin as UTF-8 text does: no control characters but white space."""
    if not begin:
        return False
    try:
        text = begin.decode()
    except UnicodeDecodeError as error:
        if error.start < len(begin) - 4:
            return False
        text = begin[: error.start].decode()
    return bool(text) and all(char >= " " or char in "\t\n\r\f\x1b" for char in text)


def part(source: Source, start: int, count: int) -> dict[str, Any]:
    """Some bytes, as hexadecimal digits."""
    start = min(max(start, 0), source.size_bytes)
    data = bytes(source.read(start, start + max(0, min(count, _MOST_BYTES))))
    return {"start": start, "size_bytes": source.size_bytes, "hex": data.hex()}


def text_part(source: Source, start: int, count: int) -> dict[str, Any]:
    """Some bytes as text, cut between characters."""
    start = min(max(start, 0), source.size_bytes)
    end = min(start + max(0, min(count, _MOST_BYTES)), source.size_bytes)
    data = bytes(source.read(start, end))
    if end < source.size_bytes:
        whole = data.decode("utf-8", "ignore").encode()
        if 0 < len(data) - len(whole) < 4:
            end -= len(data) - len(whole)
            data = whole
    return {"start": start, "end": end, "size_bytes": source.size_bytes, "text": data.decode("utf-8", "replace")}


def archive(source: Source, budget: Budget) -> dict[str, Any]:
    """Names and sizes in a folder's archive, the first 500 of them. Reads their headers only."""
    entries: list[dict[str, Any]] = []
    try:
        with tarfile.open(fileobj=open_seekable(source), mode="r:") as tar:
            for entry in tar:
                budget.check()
                if len(entries) >= _MOST_NAMES:
                    return {"entries": entries, "more": True}
                kind = "folder" if entry.isdir() else "link" if entry.issym() else "file"
                entries.append({"name": entry.name[:300], "kind": kind, "size_bytes": entry.size})
    except (tarfile.TarError, UnicodeDecodeError, ValueError) as error:
        raise DecodeError("The object is not an archive of a folder") from error
    return {"entries": entries, "more": False}
