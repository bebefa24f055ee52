"""Envelope: the JSON that stands in an XCom row when the value itself cannot; and the note on one that expired.

A value that JSON, Airflow's transport and every metadata database carry unchanged (`is_plain`) and that is small
stands in the row as it is. Anything else is an envelope: a JSON object whose ``__id__`` is ``xcargo/1``. With ``uri``
it refers to an object below a configured root; with ``data`` it holds the payload itself (base64).

``__id__`` is a key that Airflow reserves: its REST API refuses to write it (3.2 on), its serializers leave the object
alone, and its XCom tab shows it as a tree. Envelopes stay readable: fields are only added, and a change that
an older reader must not ignore gets a new number behind ``xcargo/``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from json.encoder import encode_basestring
from typing import Any

from xcargo.errors import UPGRADE_HINT, EnvelopeError, ErrorKind, ObjectExpiredError, XCargoError
from xcargo.model.version import __version__
from xcargo.types import Json

__all__ = [
    "RESERVED_KEYS",
    "TOMBSTONE_BYTES",
    "Envelope",
    "Json",
    "expired",
    "is_envelope",
    "is_plain",
    "is_utf8",
    "plain_bytes",
    "tombstone",
    "upgrade_hint",
]


MARKER = "__id__"
FORMAT = "xcargo"
VERSION = 1

RESERVED_KEYS = frozenset(
    ("__classname__", "__version__", "__data__", "__id__", "__cache__", "__type", "__source", "__var")
)
"""Keys to which some Airflow reader gives a meaning of its own; a dict that holds one is never plain."""

_MAX_PLAIN_DEPTH = 64


@dataclass(frozen=True)
class Envelope:
    """What is known of a stored value without reading it."""

    type: str
    """Name of the value's type, to show; it is never imported."""
    codec: str
    size_bytes: int
    """Length of the payload, before compression. Bounds what decompression may yield."""
    stored_bytes: int
    """Length of the object (or of the inline data), after compression."""
    compression: str = "none"
    params: Mapping[str, Any] = field(default_factory=dict)
    """What the codec needs to decode, and what it knows of the value (shape, schema)."""
    uri: str | None = None
    data: str | None = None
    checksum: str | None = None
    """``algorithm:hex`` over the stored bytes, or over the table of ``chunks``; always there beside a ``uri``."""
    chunks: Mapping[str, Any] = field(default_factory=dict)
    """The table of the object's chunks (`xcargo.transfer.chunks`), if it has several."""
    preview: str | None = None
    created_at: str | None = None
    """ISO 8601, UTC."""
    created_by: str | None = None
    """The release that wrote the envelope, such as ``xcargo 0.1.0``."""
    encryption: Mapping[str, Any] = field(default_factory=dict)
    """How the stored bytes are encrypted (`xcargo.transfer.encryption`), if they are."""
    dag: str | None = None
    """The Dag whose value it is, in a signed envelope without a ``uri``."""
    reused: Mapping[str, Any] = field(default_factory=dict)
    """Which task instance computed the value, and when, if another one reused it."""
    signature: str | None = None
    """``hmac-sha256:key name:hex`` over all other fields (`xcargo.model.keys`)."""

    def to_row(self) -> dict[str, Json]:
        """JSON for the row; fields without content are left out."""
        row: dict[str, Json] = {MARKER: f"{FORMAT}/{VERSION}"}
        values = vars(self)
        for name in _ORDER:
            value = values[name]
            if value is not None and value != {}:
                row[name] = dict(value) if _TYPES[name] is dict else value
        return row

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Envelope:
        """Read a row for which `is_envelope` holds. Raises EnvelopeError on anything but a well-formed one."""
        version = str(row[MARKER]).partition("/")[2]
        if version != str(VERSION):
            if version.isdigit() and int(version) > VERSION:
                raise EnvelopeError(
                    f"The value was stored by a newer xcargo (envelope version {version}, this one reads {VERSION})",
                    hint=upgrade_hint(row.get("created_by")) or UPGRADE_HINT,
                )
            raise EnvelopeError("The row claims to be an envelope of xcargo, of an unknown version")
        known = {name: row[name] for name in _TYPES if row.get(name) is not None}
        for name, value in known.items():
            if type(value) is not _TYPES[name] or (type(value) is int and not 0 <= value < 2**63):
                raise EnvelopeError(f"The envelope's {name!r} is not a valid {_TYPES[name].__name__}")
        missing = sorted(_REQUIRED - known.keys())
        if missing or ("uri" in known) == ("data" in known) or ("uri" in known and "checksum" not in known):
            raise EnvelopeError(f"The envelope is incomplete: {', '.join(missing) or 'uri and checksum'}")
        return cls(**known)

    def explain(self, error: XCargoError) -> None:
        """Let an error name both releases if a newer one stored the value in a form that this one does not know.

        Where the bytes of a value that was reused are damaged, it says how to have it computed again.
        """
        forms = (ErrorKind.DECODE, ErrorKind.ENVELOPE, ErrorKind.MISSING_DEPENDENCY)
        if error.kind in forms and error.hint in (None, UPGRADE_HINT):
            error.hint = upgrade_hint(self.created_by) or error.hint
        if error.kind is ErrorKind.INTEGRITY and self.reused:
            error.hint = (
                "A task reused it as it is: trigger a run with {'xcargo_recompute': true} as its configuration, "
                "or delete the entry with xcargo memo clear."
            )


_ORDER = (
    "type",
    "preview",
    "size_bytes",
    "stored_bytes",
    "uri",
    "data",
    "codec",
    "params",
    "compression",
    "checksum",
    "created_at",
    "created_by",
    "encryption",
    "chunks",
    "dag",
    "reused",
    "signature",
)
_TYPES: dict[str, type] = dict.fromkeys(_ORDER, str) | {
    "size_bytes": int,
    "stored_bytes": int,
    "params": dict,
    "chunks": dict,
    "encryption": dict,
    "reused": dict,
}
_REQUIRED = {"type", "codec", "size_bytes", "stored_bytes"}

_RELEASE = re.compile(r"xcargo ((\d{1,5})\.(\d{1,5})\.(\d{1,5})[a-z0-9.+]{0,20})")


def upgrade_hint(created_by: object) -> str | None:
    """What to do about a row that a newer release of xcargo wrote. None if it is not known to be newer."""
    release = _RELEASE.fullmatch(created_by) if isinstance(created_by, str) else None
    if release is None or [*map(int, release.groups()[1:])] <= [*map(int, re.findall(r"\d+", __version__)[:3])]:
        return None
    return (
        f"xcargo {release[1]} stored it, and this is xcargo {__version__}: "
        f"run pip install 'airflow-provider-xcargo>={release[1]}' on this worker."
    )


def is_envelope(row: object) -> bool:
    """Whether a row is (or claims to be) one of our envelopes."""
    if type(row) is not dict:
        return False
    marker = row.get(MARKER)
    return type(marker) is str and marker.startswith(f"{FORMAT}/")


def is_plain(value: object) -> bool:
    """Whether the row can hold ``value`` as it is and give it back equal and of the same type, on every transport.

    Exact types only (a subclass would lose its class). Refused: NaN and infinities (no JSON), floats from 1e16 and
    -0.0 (PostgreSQL's jsonb gives an integer, or drops the sign), integers beyond 64 bits (the task's socket), NUL
    (jsonb) and lone surrogates (UTF-8) in text, keys with a meaning to Airflow, nesting beyond 64 levels.
    """
    return plain_bytes(value, math.inf) is not None


def plain_bytes(value: object, limit: float) -> float | None:
    """Length of a plain value's compact JSON; infinity as soon as it is known to be above ``limit``; None if not plain.

    Looks at no more of the value than ``limit`` bytes of JSON could hold, and whatever exceeds it as JSON does so as
    the payload of any codec too. So the size of a large value costs next to nothing to find.
    """
    try:
        return _walk((value,), limit, 0)[0] - 2
    except _NotPlainError:
        return None
    except _AboveLimitError:
        return math.inf


class _NotPlainError(Exception):
    pass


class _AboveLimitError(Exception):
    pass


def _walk(items: Collection[Any], left: float, depth: int) -> tuple[int, float]:
    """Bytes of the JSON of an array of ``items``, and what is left of the limit after them.

    Of the limit each part takes a byte at least, a text its length. In one loop, since every value passes here.
    """
    if depth > _MAX_PLAIN_DEPTH:
        raise _NotPlainError
    size = len(items) + 1 if items else 2
    for item in items:
        if left <= 0:
            raise _AboveLimitError
        kind = type(item)
        if kind is str:
            chars = len(item)
            if chars > left:
                raise _AboveLimitError
            # Letters and digits need no escape: most texts are measured without being written out.
            size += chars + 2 if item.isascii() and item.isalnum() else _text_bytes(item)
            left -= chars + 1
        elif kind is dict:
            names, left = _walk_names(item, left - 1)
            parts, left = _walk(item.values(), left, depth + 1)
            size += names + parts
        elif kind is list:
            parts, left = _walk(item, left - 1, depth + 1)
            size += parts
        else:
            left -= 1
            if kind is int:
                if not -(2**63) <= item < 2**64:
                    raise _NotPlainError
                size += len(repr(item))
            elif kind is float:
                if not _is_plain_float(item):
                    raise _NotPlainError
                size += len(repr(item))
            elif item is None or item is True:
                size += 4
            elif item is False:
                size += 5
            else:
                raise _NotPlainError
    return size, left


def _walk_names(names: Mapping[Any, Any], left: float) -> tuple[int, float]:
    """The same of the keys of an object, each with its colon."""
    size = len(names)
    for name in names:
        if type(name) is not str or name in RESERVED_KEYS:
            raise _NotPlainError
        chars = len(name)
        if chars > left:
            raise _AboveLimitError
        size += chars + 2 if name.isascii() and name.isidentifier() else _text_bytes(name)
        left -= chars + 1
    return size, left


def _text_bytes(text: str) -> int:
    if "\0" in text:
        raise _NotPlainError
    quoted = encode_basestring(text)
    if text.isascii():
        return len(quoted)
    try:
        return len(quoted.encode())
    except UnicodeEncodeError:
        raise _NotPlainError from None


def _is_plain_float(number: float) -> bool:
    return -1e16 < number < 1e16 and (number != 0.0 or math.copysign(1.0, number) > 0)


def is_utf8(text: str) -> bool:
    """Whether the text can be written as UTF-8: it holds no lone surrogate."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


_EXPIRED = b'{"__id__":"xcargo/expired"'
TOMBSTONE_BYTES = 512
"""Length of a tombstone, or one less."""


def tombstone(rule: str, at: datetime, stored_bytes: int) -> bytes:
    """What replaces an object of ``stored_bytes`` bytes, whose value expired; it never has that length.

    It takes the object's own key, so that one put both frees the bytes and lets a pull say, without another request,
    that the value expired and did not get lost. It goes when its row goes: then it is an orphan like any other.
    """
    note = {"__id__": "xcargo/expired", "at": at.isoformat(timespec="seconds"), "rule": _clipped(rule)}
    text = json.dumps(note, separators=(",", ":")).encode()
    return text.ljust(TOMBSTONE_BYTES - (stored_bytes == TOMBSTONE_BYTES))


def _clipped(rule: str) -> str:
    return "".join(c if c.isascii() and c.isprintable() and c not in '"\\\\' else "?" for c in rule[:300])


def expired(start: bytes) -> ObjectExpiredError | None:
    """The error to raise for an object that begins like this, if it is a tombstone."""
    if not start.startswith(_EXPIRED):
        return None
    try:
        note = json.loads(start)
    except ValueError:  # a part of one
        note = {}
    return ObjectExpiredError(
        f"The value expired at {note.get('at', 'some time')}, by the retention rule {note.get('rule', '')!r}",
        hint="Run the task that pushed it again, or keep such values for longer: [xcargo] retention.",
    )
