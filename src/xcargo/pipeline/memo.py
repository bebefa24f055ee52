"""Reused results: what a result depends on -> the key of its entry, and the entry, a small object that has its rows.

An entry is stored below ``~xcargo/memo/`` of the root that holds the results, in the folder of its Dag and task. The
objects belong to the rows of the run that computed them, and go with these; then the entry leads nowhere, and the
result is computed again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timedelta, timezone
from itertools import islice
from typing import Any, Literal

from blake3 import blake3

from xcargo.codecs.base import Handle
from xcargo.codecs.registry import Registry
from xcargo.errors import (
    ConfigurationError,
    EnvelopeError,
    ObjectNotFoundError,
    SizeLimitError,
    UnsupportedTypeError,
    XCargoError,
)
from xcargo.model.coordinate import Coordinate, segment
from xcargo.model.envelope import Envelope, is_envelope
from xcargo.model.keys import Signer
from xcargo.model.version import __version__
from xcargo.pipeline.handle import Lazy
from xcargo.pipeline.pipeline import Pipeline
from xcargo.stores.base import PutMode, Store
from xcargo.types import Json

__all__ = [
    "FOLDER",
    "Claim",
    "Entries",
    "Entry",
    "Fingerprint",
    "Scope",
    "changes",
    "entries_for",
    "reuse",
    "value_digest",
]

FOLDER = "~xcargo/memo"
_FORMAT = "xcargo-memo/1"
_CLAIM_FORMAT = "xcargo-memo-claim/1"
_MAX_BYTES = 4 * 1024 * 1024
"""Of an entry: whoever may write to the bucket may have put anything in its place."""
_SUFFIX = ".json"
_LOOKED_AT, _READ = 1000, 10
_MAX_SECONDS = 1e12
_CONTAINERS = (list, tuple, dict)

Scope = Literal["task", "dag", "global"]


@dataclass(frozen=True)
class Fingerprint:
    """All that a result depends on, each part by its name and a digest of it."""

    scope: Scope
    dag_id: str
    task_id: str
    digests: Mapping[str, str]

    @property
    def folder(self) -> str:
        """Where entries are that may stand for one another."""
        dag = "" if self.scope == "global" else self.dag_id
        return f"{FOLDER}/{segment(dag)}/{segment(self.task_id if self.scope == 'task' else '')}"

    @property
    def key(self) -> str:
        """Object key of the entry: equal for equal parts in the same scope."""
        text = json.dumps([self.folder, dict(self.digests)], sort_keys=True)
        return f"{self.folder}/{blake3(text.encode()).hexdigest(16)}{_SUFFIX}"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A result that was computed: its rows, and where they are from."""

    key: str
    """Its own object key, so that none passes for another."""
    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    rows: Mapping[str, Any] = field(repr=False)
    """XCom key -> row."""
    digests: Mapping[str, str] = field(repr=False)
    seconds: float
    """How long it took to compute."""
    created_at: str
    """ISO 8601, UTC."""
    expires_at: str | None = None
    created_by: str = f"xcargo {__version__}"

    def is_expired(self, expires: timedelta | None = None) -> bool:
        """Whether its time is over: that which it was given, or ``expires`` after it was computed, if that is less."""
        now = datetime.now(timezone.utc)
        if expires is not None and now - datetime.fromisoformat(self.created_at) >= expires:
            return True
        return self.expires_at is not None and datetime.fromisoformat(self.expires_at) <= now

    @property
    def lifetime(self) -> timedelta | None:
        """For how long it was to be used; None if without an end."""
        ends = self.expires_at and datetime.fromisoformat(self.expires_at)
        return ends - datetime.fromisoformat(self.created_at) if ends else None

    @property
    def objects(self) -> dict[str, int]:
        """URIs of the objects that its rows refer to, and their lengths."""
        return {row["uri"]: row["stored_bytes"] for row in self.rows.values() if is_envelope(row) and row.get("uri")}

    @property
    def stored_bytes(self) -> int:
        """Length of these objects."""
        return sum(self.objects.values())

    @classmethod
    def from_json(cls, data: Any) -> Entry:
        """Read an entry. Raises EnvelopeError on anything but a well-formed one of this version."""
        try:
            if data.pop("__id__") != _FORMAT:
                raise ValueError("it is of another version")
            entry = cls(**{name.name: data[name.name] for name in fields(cls) if name.name in data})
            texts = [entry.key, entry.dag_id, entry.run_id, entry.task_id, entry.created_by, entry.created_at]
            if type(entry.rows) is not dict or type(entry.digests) is not dict:
                raise ValueError("a field is of a wrong type")
            texts += entry.digests.values()
            if not all(type(text) is str for text in texts) or type(entry.map_index) is not int:
                raise ValueError("a field is of a wrong type")
            if type(entry.seconds) not in (int, float) or not 0 <= entry.seconds < _MAX_SECONDS:
                raise ValueError("its seconds are not a number of seconds")
            if "return_value" not in entry.rows:
                raise ValueError("it has no result")
            for row in entry.rows.values():
                if is_envelope(row):
                    Envelope.from_row(row)
            times = [entry.created_at] if entry.expires_at is None else [entry.created_at, entry.expires_at]
            if any(datetime.fromisoformat(time).tzinfo is None for time in times):
                raise ValueError("a time has no zone")
        except EnvelopeError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise EnvelopeError(f"The entry is malformed, or a newer xcargo wrote it: {error}") from None
        return entry


@dataclass(frozen=True)
class Claim:
    """In place of an entry: who computes the result."""

    key: str
    by: tuple[str, str, str, int]
    """Ids of Dag, run and task, and map index."""
    created_at: str

    def is_older_than(self, age: timedelta) -> bool:
        """Whether it was made longer ago, by the clock of who asks."""
        return datetime.now(timezone.utc) - datetime.fromisoformat(self.created_at) > age

    @classmethod
    def from_json(cls, data: Any) -> Claim:
        """Read a claim. Raises EnvelopeError on anything but a well-formed one."""
        try:
            claim = cls(data["key"], tuple(data["by"]), data["created_at"])
            claim.is_older_than(timedelta())
            if [type(part) for part in claim.by] != [str, str, str, int]:
                raise ValueError("a field is of a wrong type")
        except (KeyError, TypeError, ValueError) as error:
            raise EnvelopeError(f"The claim is malformed: {error}") from None
        return claim


class Entries:
    """The entries below one root, signed where there is a key."""

    def __init__(self, store: Store, signer: Signer) -> None:
        self._store = store
        self._signer = signer

    def get(self, key: str) -> Entry | None:
        """The entry of a key, if there is one, whether it has expired or not. As `find` otherwise."""
        entry = self.find(key)
        return entry if isinstance(entry, Entry) else None

    def find(self, key: str) -> Entry | Claim | None:
        """The entry of a key, or who computes it. One request.

        Raises:
            SignatureError: It is not signed as it should be.
            EnvelopeError: It is malformed, of a later version, or that of another key.
        """
        try:
            data = bytes(self._store.get(key, end=_MAX_BYTES))
        except ObjectNotFoundError:
            return None
        try:
            read = json.loads(data)
        except (ValueError, RecursionError):
            raise EnvelopeError("The entry is not JSON", where=key) from None
        if type(read) is not dict:
            raise EnvelopeError("The entry is no JSON object", where=key)
        try:
            self._signer.verify(read)
        except XCargoError as error:
            error.at(key)
            raise
        read.pop("signature", None)
        entry = Claim.from_json(read) if read.get("__id__") == _CLAIM_FORMAT else Entry.from_json(read)
        if entry.key != key:
            raise EnvelopeError("The entry is that of another key", where=key)
        return entry

    def put(self, entry: Entry) -> None:
        """Store an entry in place of one of the same key. One request. Raises SizeLimitError if it is too large."""
        self._put({"__id__": _FORMAT, **asdict(entry)})

    def claim(self, key: str, by: tuple[str, str, str, int], *, overtakes: bool = False) -> None:
        """Say who computes the result of a key. One request.

        Raises:
            ObjectExistsError: There is an entry or a claim, and this one does not overtake it.
        """
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        data = {"__id__": _CLAIM_FORMAT, "key": key, "by": list(by), "created_at": now}
        self._put(data, mode="overwrite" if overtakes else "create")

    def release(self, key: str, by: tuple[str, str, str, int]) -> None:
        """Delete a claim, if it still is that of ``by``. Two requests."""
        claim = self.find(key)
        if isinstance(claim, Claim) and claim.by == by:
            self._store.delete([key])

    def _put(self, data: dict[str, Any], mode: PutMode = "overwrite") -> None:
        signed = json.dumps(self._signer.signed(data), separators=(",", ":")).encode()
        if len(signed) > _MAX_BYTES:
            raise SizeLimitError(f"The entry has {len(signed):,} bytes, and is read only up to {_MAX_BYTES:,}")
        self._store.put(data["key"], [signed], mode=mode)

    def latest(self, folder: str) -> Entry | None:
        """The newest entry of a folder, if it has not expired. A listing, and a request for it and each later claim."""
        infos = [info for info in islice(self._store.list(folder), _LOOKED_AT) if info.last_modified is not None]
        for info in sorted(infos, key=lambda info: (info.last_modified, info.key), reverse=True)[:_READ]:
            entry = self.find(info.key)
            if isinstance(entry, Entry):
                return None if entry.is_expired() else entry
        return None


def changes(now: Mapping[str, str], before: Mapping[str, str]) -> list[str]:
    """Names of the parts that differ, in order."""
    return sorted(name for name in {*now, *before} if now.get(name) != before.get(name))


def entries_for(pipeline: Pipeline, coordinate: Coordinate) -> Entries:
    """The entries below the root to which a value of this coordinate goes.

    Raises:
        ConfigurationError: There is no root.
    """
    settings = pipeline.settings_for(coordinate)
    if settings.root is None:
        raise ConfigurationError(f"There is no root, since {settings.no_root_reason}")
    return Entries(pipeline.roots.store(settings.root), pipeline.signer)


def reuse(pipeline: Pipeline, row: Any, coordinate: Coordinate, *, dag_id: str, origin: Mapping[str, Json]) -> Json:
    """The row of a copy of another row's value, which says where the value is from. Costs what a push of it does.

    Args:
        pipeline: Makes the copy.
        row: Of a result that was computed before.
        coordinate: Of the copy.
        dag_id: The Dag whose row it is.
        origin: Which task instance computed it, and when.
    """
    if not is_envelope(row):
        return row  # type: ignore[no-any-return]
    handle = pipeline.handle(row, dag_id)
    handle.origin = origin
    return pipeline.push(handle, coordinate)


def value_digest(pipeline: Pipeline, value: Any) -> str:
    """A digest that is equal only for equal values, and for nearly all that are.

    That of a handle is of its envelope, and needs no request. All other values are encoded, sets in order. Where values
    are encrypted, nobody without the key can find a value by its digest.

    Args:
        pipeline: Its codecs encode the value.
        value: Of any type that a push takes; lists, tuples and dictionaries may hold handles.

    Raises:
        UnsupportedTypeError: A part of the value, which is named, cannot be encoded or can be read only once.
    """
    key = pipeline.settings.encryption_keys[0].secret if pipeline.settings.encryption_keys else None
    digest = blake3(key=key) if key else blake3()
    try:
        _update(digest, value, pipeline.codecs)
    except RecursionError:
        raise UnsupportedTypeError("The value refers to itself or is nested too deeply", hint="Flatten it.") from None
    return digest.hexdigest(16)


def _update(digest: Any, value: Any, codecs: Registry) -> None:
    if isinstance(value, Lazy):
        _add(digest, "stored", value.identity)
    elif _holds_handle(value):
        items: Sequence[Any] = [*value.items()] if type(value) is dict else value
        _add(digest, type(value).__name__, len(items))
        for item in items:
            _update(digest, item, codecs)
    else:
        encoded = codecs.encode(value, for_digest=True)
        payload = blake3()
        for part in encoded.parts:
            payload.update(part)
        _add(digest, "value", encoded.codec, dict(encoded.params), payload.hexdigest())


def _add(digest: Any, *parts: Any) -> None:
    digest.update(json.dumps(parts, sort_keys=True).encode() + b"\n")


def _holds_handle(value: Any) -> bool:
    """Whether a list, tuple or dictionary holds a handle, at any depth."""
    if type(value) not in _CONTAINERS:
        return False
    todo, seen = [value], {id(value)}
    for container in todo:
        for part in container.values() if type(container) is dict else container:
            if isinstance(part, Handle):
                return True
            if type(part) in _CONTAINERS and id(part) not in seen:
                seen.add(id(part))
                todo.append(part)
    return False
