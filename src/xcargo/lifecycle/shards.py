"""Parts of a root that can be swept apart from each other."""

from __future__ import annotations

from collections.abc import Iterable

from xcargo.lifecycle.plan import BOOKKEEPING
from xcargo.stores.base import Store

__all__ = ["folders", "shards"]


def folders(store: Store) -> list[str]:
    """The folders at the top of a root, which are its Dags, in order; not that of sweeps' own notes.

    One request for a thousand of them on S3, GCS and Azure; other stores list everything.
    """
    directly = getattr(store, "folders", None)
    found: Iterable[str] = directly() if directly else (info.key.partition("/")[0] for info in store.list())
    return sorted(set(found) - {BOOKKEEPING.rstrip("/")})


def shards(store: Store, number: int) -> list[list[str]]:
    """The folders at the top of a root in at most ``number`` parts of about as many folders."""
    found = folders(store)
    return [found[n::number] for n in range(min(number, len(found)))]
