"""A folder below the root to which a sweep moves objects instead of deleting them, and the way back.

The copy is made, and checked, before the object is deleted: a sweep that is killed in between leaves both, and the next
one finishes. A copy is stored under ``~xcargo/quarantine/`` and its own key, so copying twice does no harm.
"""

from __future__ import annotations

from collections.abc import Iterator

from xcargo.errors import IntegrityError, ObjectNotFoundError
from xcargo.lifecycle.plan import BOOKKEEPING
from xcargo.stores.base import ObjectInfo, Store
from xcargo.types import Buffer

__all__ = ["QUARANTINE", "move_to_quarantine", "restore"]

QUARANTINE = f"{BOOKKEEPING}quarantine"

_RANGE_BYTES = 8 * 1024 * 1024


def move_to_quarantine(store: Store, info: ObjectInfo) -> None:
    """Copy an object into quarantine, then delete it. Its bytes travel through this machine, 8 MiB at a time."""
    _copy(store, info.key, f"{QUARANTINE}/{info.key}", info.size_bytes)
    store.delete([info.key])


def restore(store: Store, info: ObjectInfo) -> None:
    """Copy an object back to where it was, unless it is there, then delete the copy (which ``info`` is of).

    A copy is never deleted unless an object of its length is there.
    """
    key = info.key.removeprefix(f"{QUARANTINE}/")
    try:
        is_there = store.head(key).size_bytes == info.size_bytes
    except ObjectNotFoundError:
        is_there = False
    if not is_there:
        _copy(store, info.key, key, info.size_bytes)
    store.delete([info.key])


def _copy(store: Store, source: str, target: str, size_bytes: int) -> None:
    def ranges() -> Iterator[Buffer]:
        for start in range(0, size_bytes, _RANGE_BYTES):
            end = min(start + _RANGE_BYTES, size_bytes)
            data = store.get(source, start=start, end=end)
            if len(data) != end - start:
                raise IntegrityError("The object changed while it was copied", where=source)
            yield data

    store.put(target, ranges(), expected_bytes=size_bytes)
    copied = store.head(target).size_bytes
    if copied != size_bytes:
        raise IntegrityError(f"The copy has {copied} bytes, the object {size_bytes}", where=target)
