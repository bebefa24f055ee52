"""A folder below the root where a sweep lays objects instead of deleting them, and the way back.

The copy is made, and looked at, before the object goes: a sweep that is killed in between leaves both, and the next one
finishes. A copy lies under ``~xcargo/quarantine/`` and its own key, so doing it twice is as good as once.
"""

from __future__ import annotations

from collections.abc import Iterator

from xcargo.errors import IntegrityError, ObjectNotFoundError
from xcargo.lifecycle.plan import BOOKKEEPING
from xcargo.stores.base import ObjectInfo, Store
from xcargo.types import Buffer

__all__ = ["QUARANTINE", "key_in_quarantine", "move_back", "move_there"]

QUARANTINE = f"{BOOKKEEPING}quarantine"

_PIECE_BYTES = 8 * 1024 * 1024


def key_in_quarantine(key: str) -> str:
    """Where the copy of an object lies."""
    return f"{QUARANTINE}/{key}"


def move_there(store: Store, info: ObjectInfo) -> None:
    """Copy an object into quarantine, then delete it. Its bytes travel through this machine, 8 MiB at a time."""
    _copy(store, info.key, key_in_quarantine(info.key), info.size_bytes)
    store.delete([info.key])


def move_back(store: Store, info: ObjectInfo) -> bool:
    """Copy an object (``info`` is of its copy) back to where it was, then delete the copy.

    Returns whether it was missing there; one that is there is left as it is. A copy is never deleted unless an object
    of its length is there.
    """
    key = info.key.removeprefix(f"{QUARANTINE}/")
    try:
        missing = store.head(key).size_bytes != info.size_bytes
    except ObjectNotFoundError:
        missing = True
    if missing:
        _copy(store, info.key, key, info.size_bytes)
    store.delete([info.key])
    return missing


def _copy(store: Store, source: str, target: str, size_bytes: int) -> None:
    def pieces() -> Iterator[Buffer]:
        for start in range(0, size_bytes, _PIECE_BYTES):
            piece = store.get(source, start=start, end=min(start + _PIECE_BYTES, size_bytes))
            if len(piece) != min(_PIECE_BYTES, size_bytes - start):
                raise IntegrityError("The object changed while it was copied", where=source)
            yield piece

    store.put(target, pieces(), expected_bytes=size_bytes)
    copied = store.head(target).size_bytes
    if copied != size_bytes:
        raise IntegrityError(f"The copy has {copied} bytes, the object {size_bytes}", where=target)
