"""Coordinate: the address of an XCom, and the object key made of it.

An object key is ``dag/run/task[/map index]/<key>[@attempt]~<unique>`` with every segment quoted. The mapping is
injective (two different XComs never meet) and closed (no id, whatever it holds, leaves the root): a segment keeps
``A-Z a-z 0-9 _ . -``, every other byte of its UTF-8 becomes ``%XX``, and the segments ``.`` and ``..`` are quoted too.
A segment longer than 150 bytes keeps its head and ends in ``~`` and 32 hex digits of its SHA-256, so that file systems
(255 bytes a name) and clouds (1,024 bytes a key) both take it; ``~`` never occurs in a quoted id.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote, unquote

__all__ = ["MAX_OBJECT_KEY_BYTES", "Coordinate", "dag_of", "segment"]

MAX_OBJECT_KEY_BYTES = 1024
"""Longest key, with the root's prefix, that S3, GCS and Azure all take."""

_MAX_SEGMENT_BYTES = 150
_HASH_CHARS = 32


@dataclass(frozen=True)
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
        """A fresh object key: two calls never give the same one (64 random bits beside the coordinate itself)."""
        attempt = f"@{segment(self.attempt)}" if self.attempt else ""
        return f"{self.prefix()}/{segment(self.key)}{attempt}~{unique or secrets.token_hex(8)}{suffix}"


_SEGMENT = r"(?:~|[A-Za-z0-9_.%-]+(?:~[0-9a-f]{32})?)"
_SHAPE = re.compile(
    rf"({_SEGMENT})/{_SEGMENT}/{_SEGMENT}(?:/[0-9]+)?/{_SEGMENT}(?:@{_SEGMENT})?~[0-9a-f]{{16}}(?:\.[A-Za-z0-9_.-]*)?"
)


def dag_of(object_key: str) -> str | None:
    """The Dag of an object, to show: a long id is cut, nothing in it moves a terminal. None if the key is not ours."""
    found = _SHAPE.fullmatch(object_key)
    return _unquoted(found[1]) if found else None


@lru_cache(maxsize=1024)
def _unquoted(quoted: str) -> str:
    text = "" if quoted == "~" else unquote(quoted, errors="replace")
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


@lru_cache(maxsize=1024)
def segment(text: str) -> str:
    """An id as a segment of an object key."""
    quoted = quote(text.encode("utf-8", "surrogatepass"), safe="").replace("~", "%7E")
    if quoted in ("", ".", ".."):  # these mean something else to a path
        quoted = quoted.replace(".", "%2E") or "~"
    if len(quoted) <= _MAX_SEGMENT_BYTES:
        return quoted
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_CHARS]
    return f"{quoted[: _MAX_SEGMENT_BYTES - _HASH_CHARS - 1]}~{digest}"
