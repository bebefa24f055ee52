"""A nested value as plain JSON values: nothing is imported for it, and no class of a user is called."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import orjson

from xcargo.codecs.base import importable
from xcargo.codecs.builtin import Tag
from xcargo.errors import DecodeError
from xcargo.explorer.tree import PAIRED, SCALARS, restored_text
from xcargo.types import Buffer

__all__ = ["as_json", "plain"]

_LISTED = (Tag.TUPLE, Tag.SET, Tag.FROZENSET, Tag.NESTED, Tag.NAMESPACE)
_MOST_LEVELS = 200


def plain(data: Buffer) -> Any:
    """The packed value out of dicts with text keys, lists, text, numbers, booleans and None.

    What JSON has no word for is told as text, in the way Python writes it. Takes about ten times ``data`` in memory.
    Raises DecodeError.
    """
    try:
        value = _unpacked(bytes(data))
    except (ValueError, TypeError, LookupError, RecursionError, _msgpack().UnpackException) as error:
        raise DecodeError("The object does not hold a packed value") from error
    return _jsonable(value, 0)


def as_json(data: Buffer) -> bytes:
    """The same as indented JSON."""
    return orjson.dumps(plain(data), option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS)


@cache
def _msgpack() -> Any:
    return importable("msgpack", "to be looked into", extra="ui")


def _unpacked(data: bytes) -> Any:
    return _msgpack().unpackb(data, ext_hook=_extension, strict_map_key=False, unicode_errors="replace")


def _extension(tag: int, data: bytes) -> Any:
    if tag in SCALARS:
        return restored_text(tag, data)
    if tag == Tag.PART:
        return "<a part stored beside the value>"
    body = _unpacked(data)
    if tag in _LISTED:
        return body
    if tag == Tag.DEQUE:
        return body[0]
    if tag in PAIRED:
        keys, values = body[PAIRED[tag][1] : PAIRED[tag][1] + 2]
        return {_key(key): value for key, value in zip(keys, values, strict=True)}
    if tag == Tag.BYTEARRAY:
        return body
    if tag == Tag.CODEC:
        codec, _, payload = body
        if codec == "object":
            return _unpacked(payload)[2]
        return f"<{codec}, {len(payload)} bytes>"
    return f"<extension {tag}>"


def _key(key: Any) -> str:
    return key if isinstance(key, str) else repr(key)


def _jsonable(value: Any, level: int) -> Any:
    kind = type(value)
    if kind is dict:
        if level > _MOST_LEVELS:
            return "{…}"
        return {_key(key): _jsonable(part, level + 1) for key, part in value.items()}
    if kind in (list, tuple):
        return "[…]" if level > _MOST_LEVELS else [_jsonable(part, level + 1) for part in value]
    if kind is float and not math.isfinite(value):
        return repr(value)
    if kind in (bytes, bytearray):
        return value[:64].hex() + ("…" if len(value) > 64 else "")
    return value
