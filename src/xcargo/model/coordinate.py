"""Coordinate: the address of an XCom, and the object key made of it.

An object key is ``dag/run/task[/map index]/<key>[~-attempt]~<unique>`` and holds ``A-Z a-z 0-9 - . _ ~ /`` alone, so
nothing on the way to a store quotes or unquotes it. The mapping is injective (two XComs never share a key) and closed
(no id leaves the root): a segment keeps ``A-Z a-z 0-9 - . _``, every other byte of its UTF-8 becomes ``~XX``, and the
segments ``.`` and ``..`` are escaped too. A segment longer than 144 bytes keeps its head and ends in ``~.`` and 32 hex
digits of its SHA-256, so that file systems (255 bytes a name) and clouds (1,024 bytes a key) both take it.

Pre-releases wrote ``%XX`` for ``~XX``, ``@`` for ``~-`` and ``~`` for ``~.`` (at 150 bytes). Such keys are still read,
swept and deleted; none of them is the spelling of another id in the present scheme.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote, unquote_to_bytes

__all__ = ["MAX_OBJECT_KEY_BYTES", "Coordinate", "dag_of", "has_attempt", "segment", "spellings", "text_of"]

MAX_OBJECT_KEY_BYTES = 1024
"""Longest key, with the root's prefix, that S3, GCS and Azure all take."""

_MAX_SEGMENT_BYTES = 144
_OLD_MAX_SEGMENT_BYTES = 150
"""Longer than any segment of today that is not cut, so a cut one of old equals none."""
_HASH_CHARS = 32


@dataclass(slots=True, unsafe_hash=True)  # frozen would make it slower than the push of a small value
class Coordinate:
    """Address of one XCom. ``map_index`` is -1 for an unmapped task; ``attempt`` is known from Airflow 3.4 on."""

    dag_id: str
    run_id: str
    task_id: str
    key: str
    map_index: int = -1
    attempt: str | None = None

    def __str__(self) -> str:
        mapped = f"[{self.map_index}]" if self.map_index >= 0 else ""
        return f"dag {self.dag_id!r}, run {self.run_id!r}, task {self.task_id!r}{mapped}, key {self.key!r}"

    def prefix(self) -> str:
        """Folder of all objects of this task instance, below a root, without a trailing slash."""
        segments = [self.dag_id, self.run_id, self.task_id]
        if self.map_index >= 0:
            segments.append(str(self.map_index))
        return "/".join(segment(s) for s in segments)

    def object_key(self, *, suffix: str = "", unique: str | None = None) -> str:
        """A new object key: two calls never return the same one.

        Args:
            suffix: Appended as it is: the extensions of codec and compression.
            unique: Sets writes of the same coordinate apart; 64 random bits by default.
        """
        attempt = f"~-{segment(self.attempt)}" if self.attempt else ""
        return f"{self.prefix()}/{segment(self.key)}{attempt}~{unique or secrets.token_hex(8)}{suffix}"


_SEGMENT = r"(?!\.{1,2}/)(?:~|(?:[A-Za-z0-9_.%-]|~[0-9A-F]{2})+(?:~\.?[0-9a-f]{32})?)"
_KEY = re.compile(
    rf"(?P<dag>{_SEGMENT})/{_SEGMENT}/{_SEGMENT}(?:/[0-9]+)?/{_SEGMENT}(?P<attempt>(?:~-|@){_SEGMENT})?"
    r"~[0-9a-f]{16}(?:\.[A-Za-z0-9_.-]*)?"
)
_ESCAPE = re.compile("~([0-9A-F]{2})")
_CUT = re.compile(r"(.*)(~\.[0-9a-f]{32}|(?<=^.{117})~[0-9a-f]{32})")


def dag_of(object_key: str) -> str | None:
    """The Dag of an object, to show: a long id is cut, nothing in it moves a terminal. None if the key is not ours."""
    key = _KEY.fullmatch(object_key)
    return _printable(key["dag"]) if key else None


def has_attempt(object_key: str) -> bool:
    """Whether an object belongs to one attempt of its task."""
    key = _KEY.fullmatch(object_key)
    return key is not None and key["attempt"] is not None


@lru_cache(maxsize=1024)
def segment(text: str) -> str:
    """An id as a segment of an object key."""
    escaped = _escaped(text).replace("%", "~")
    if len(escaped) <= _MAX_SEGMENT_BYTES:
        return escaped
    head = escaped[: _MAX_SEGMENT_BYTES - _HASH_CHARS - 2]
    return f"{re.sub('~.?$', '', head)}~.{_digest(text)}"


def spellings(text: str) -> tuple[str, ...]:
    """All segments that stand for an id, that of `segment` first, then the one that pre-releases wrote."""
    old = _escaped(text)
    if len(old) > _OLD_MAX_SEGMENT_BYTES:
        old = f"{old[: _OLD_MAX_SEGMENT_BYTES - _HASH_CHARS - 1]}~{_digest(text)}"
    return tuple(dict.fromkeys((segment(text), old)))


def text_of(segment: str) -> str | None:
    """The id that a segment stands for; None if it was cut, or is no segment of ours."""
    if _CUT.fullmatch(segment):
        return None
    try:
        return _decoded(segment).decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return None


@lru_cache(maxsize=1024)
def _printable(segment: str) -> str:
    cut = _CUT.fullmatch(segment)
    head, end = cut.groups() if cut else (segment, "")
    text = _decoded(head).decode("utf-8", "replace") + end
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _escaped(text: str) -> str:
    quoted = quote(text.encode("utf-8", "surrogatepass"), safe="").replace("~", "%7E")
    if quoted in ("", ".", ".."):  # these mean something else to a path
        return quoted.replace(".", "%2E") or "~"
    return quoted


def _decoded(escaped: str) -> bytes:
    return b"" if escaped == "~" else unquote_to_bytes(_ESCAPE.sub(r"%\1", escaped))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_CHARS]
