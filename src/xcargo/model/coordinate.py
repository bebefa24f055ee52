"""Coordinate: the address of an XCom or of a key of the state store, and the object key made of it.

An object key is ``dag/run/task[/map index]/<key>[~-attempt]~<unique>`` and holds ``A-Z a-z 0-9 - . _ ~ /`` alone, so
nothing on the way to a store quotes or unquotes it. The mapping is injective (two XComs never share a key) and closed
(no id leaves the root): a segment keeps ``A-Z a-z 0-9 - . _``, every other byte of its UTF-8 becomes ``~XX``, and the
segments ``.`` and ``..`` are escaped too. A segment longer than 144 bytes keeps its head and ends in ``~.`` and 32 hex
digits of its SHA-256, so that file systems (255 bytes a name) and clouds (1,024 bytes a key) both take it.

A key of the state store has a folder of its own, since Airflow deletes one without saying what its row held:
``dag/run/~state[-region]/task/map index/<key>/~<unique>`` for the state of a task, and for that of an asset
``~asset-names/<name>/<key>/~<unique>``, or ``~asset-uris/<URI>``. No id is spelled like these folders.

Pre-releases wrote ``%XX`` for ``~XX``, ``@`` for ``~-`` and ``~`` for ``~.`` (at 150 bytes). Such keys are still read,
swept and deleted; none of them is the spelling of another id in the present scheme.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal
from urllib.parse import quote, unquote_to_bytes

__all__ = [
    "MAX_OBJECT_KEY_BYTES",
    "RE2_DOTS",
    "RE2_KEY",
    "Coordinate",
    "State",
    "dag_of",
    "has_attempt",
    "segment",
    "shown_id",
    "spellings",
    "state_of",
    "text_of",
]

MAX_OBJECT_KEY_BYTES = 1024
"""Longest key, with the root's prefix, that S3, GCS and Azure all take."""

_MAX_SEGMENT_BYTES = 144
_OLD_MAX_SEGMENT_BYTES = 150
"""Longer than any segment of today that is not cut, so a cut one of old equals none."""
_HASH_CHARS = 32


@dataclass(frozen=True, slots=True)
class State:
    """Which state store a key belongs to (Airflow 3.3 on): that of a task, or of an asset."""

    region: str | None = None
    """The region of a loop that the task instance is in, a UUID (Airflow 3.4 on)."""
    asset: str | None = None
    asset_by: str = "name"
    """What ``asset`` is of it: its ``name``, ``uri`` or ``id``."""
    uri: str | None = field(default=None, compare=False)
    """The asset's URI beside its name, where both are known."""

    @property
    def folder(self) -> str:
        """The segment of object keys that marks them."""
        if self.asset is not None:
            return f"~asset-{self.asset_by}s"
        return f"~state-{self.region}" if self.region else "~state"

    def has_object(self, object_key: str) -> bool:
        """Whether an object is one of the state of a task, whichever it is, or of this asset; an empty name is any."""
        if self.asset is None:
            return state_of(object_key) == "task"
        folders = [f"{self.folder}/{segment(self.asset)}/"] if self.asset else [""]
        if self.uri:
            folders.append(f"~asset-uris/{segment(self.uri)}/")
        return state_of(object_key) == "asset" and object_key.startswith(tuple(folders))


@dataclass(slots=True, unsafe_hash=True)  # frozen would make it slower than the push of a small value
class Coordinate:
    """Address of one XCom, or of a key of the state store.

    ``map_index`` is -1 for an unmapped task; ``attempt`` is known from Airflow 3.4 on. Dag, run and task of the state
    of an asset are empty.
    """

    dag_id: str
    run_id: str
    task_id: str
    key: str
    map_index: int = -1
    attempt: str | None = None
    state: State | None = None

    def __str__(self) -> str:
        if self.state is not None and self.state.asset is not None:
            return f"asset {self.state.asset!r}, state {self.key!r}"
        mapped = f"[{self.map_index}]" if self.map_index >= 0 else ""
        kind = "key" if self.state is None else "state"
        return f"dag {self.dag_id!r}, run {self.run_id!r}, task {self.task_id!r}{mapped}, {kind} {self.key!r}"

    @property
    def kind(self) -> str:
        """What it is the address of, for people."""
        return "XCom" if self.state is None else "state"

    def shown(self, field: str) -> str:
        """A part of it as tables have it: the state of an asset has no Dag, and a key of state is marked."""
        text: str = getattr(self, field)
        if self.state is not None and self.state.asset is not None and field == "dag_id":
            return f"asset {self.state.asset}"
        return f"{text} (state)" if self.state is not None and field == "key" else text

    def prefix(self, *, all_map_indexes: bool = False) -> str:
        """Folder of all objects of this task instance or asset, below a root, without a trailing slash.

        Args:
            all_map_indexes: For the state of a task: that of all instances of the task in its region.
        """
        state = self.state
        if state is not None:
            if state.asset is not None:
                return f"{state.folder}/{segment(state.asset)}"
            task = f"{segment(self.dag_id)}/{segment(self.run_id)}/{state.folder}/{segment(self.task_id)}"
            return task if all_map_indexes else f"{task}/{self.map_index}"
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
        end = attempt if self.state is None else "/"
        return f"{self.prefix()}/{segment(self.key)}{end}~{unique or secrets.token_hex(8)}{suffix}"


_NO_DOTS = r"(?!\.{1,2}/)"
_SEGMENT = _NO_DOTS + r"(?:~|(?:[A-Za-z0-9_.%-]|~[0-9A-F]{2})+(?:~\.?[0-9a-f]{32})?)"
_KEY = re.compile(
    rf"(?:(?P<dag>{_SEGMENT})/(?P<run>{_SEGMENT})/(?:"
    rf"(?P<task>{_SEGMENT})(?:/(?P<index>[0-9]+))?/(?P<key>{_SEGMENT})(?P<attempt>(?:~-|@){_SEGMENT})?"
    rf"|(?P<state>~state(?:-[0-9a-f-]{{36}})?/(?P<state_task>{_SEGMENT})/(?P<state_index>-1|[0-9]+)/"
    rf"(?P<state_key>{_SEGMENT})/))|(?P<assets>~asset-(?:name|uri|id)s)/{_SEGMENT}/(?P<asset_key>{_SEGMENT})/)"
    r"~[0-9a-f]{16}(?:\.[A-Za-z0-9_.-]*)?"
)
RE2_KEY = f"^(?:{_KEY.pattern.replace(_NO_DOTS, '')})$"
"""The same for whole columns of keys, which RE2 matches; it cannot look ahead, so `RE2_DOTS` must not match."""
RE2_DOTS = r"(?:^|/)\.{1,2}/"
_ESCAPE = re.compile("~([0-9A-F]{2})")
_CUT = re.compile(r"(.*)(~\.[0-9a-f]{32}|(?<=^.{117})~[0-9a-f]{32})")


def dag_of(object_key: str) -> str | None:
    """The Dag of an object, to show: a long id is cut, nothing in it moves a terminal. None if the key is not ours.

    Of the state of an asset, it is the folder of all of them.
    """
    key = _KEY.fullmatch(object_key)
    return key and (key["assets"] or shown_id(key["dag"]))


def has_attempt(object_key: str) -> bool:
    """Whether an object belongs to one attempt of its task."""
    key = _KEY.fullmatch(object_key)
    return key is not None and key["attempt"] is not None


def state_of(object_key: str) -> Literal["task", "asset"] | None:
    """Whose state store an object belongs to; None if it belongs to none."""
    key = _KEY.fullmatch(object_key)
    if key is None:
        return None
    return "asset" if key["assets"] else "task" if key["state"] else None


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
    if _CUT.fullmatch(segment) or not re.fullmatch(_SEGMENT, segment):
        return None
    try:
        return _decoded(segment).decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return None


@lru_cache(maxsize=1024)
def shown_id(segment: str) -> str:
    """The id that a segment stands for, to show: a long one is cut, nothing in it moves a terminal."""
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
