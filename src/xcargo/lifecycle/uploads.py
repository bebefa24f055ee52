"""Uploads in parts that nobody finished: those of killed tasks lie in the bucket, unseen by a listing, and are billed.

An upload that is older than the grace was given up: a push completes or aborts its own. No row is asked: a row refers
to an object, and aborting an upload never touches one.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from xcargo.errors import MissingDependencyError, StoreError, SweepRefusedError, XCargoError
from xcargo.lifecycle.bookkeeping import QUARANTINE, SweepLock
from xcargo.lifecycle.plan import is_ours
from xcargo.stores.base import Store, Upload, Uploads, uploads_of

__all__ = ["UploadCounts", "UploadSweep", "upload_folders"]


@dataclass
class UploadCounts:
    """How many unfinished uploads a sweep found, and what became of them. The names are those of the report."""

    unfinished: int = 0
    """Older than the grace, and of a key that xcargo writes: they go if the plan is applied."""
    too_young: int = 0
    not_ours: int = 0
    aborted: int = 0
    failed: int = 0
    unknown: str | None = None
    """Why they could not be listed, and what to do."""


class UploadSweep:
    """The unfinished uploads of a store: listed by `plan`, aborted by `abort`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._uploads: Uploads | None = None
        self._unfinished: list[Upload] = []

    def plan(self, prefixes: tuple[str, ...], newest: datetime) -> UploadCounts | None:
        """Count them; those that began before ``newest`` are to be aborted. One request a prefix, or for a thousand.

        None if the store keeps no such uploads. If they cannot be listed, the counts say why: they cost money, and no
        value depends on them.
        """
        counts, self._unfinished = UploadCounts(), []
        try:
            self._uploads = uploads_of(self._store)
            if self._uploads is None:
                return None
            for prefix in prefixes or ("",):
                for folder in {prefix, f"{QUARANTINE}/{prefix}".rstrip("/") if prefix else ""}:
                    for upload in self._uploads.list(folder):
                        self._judge(upload, newest, counts)
        except (StoreError, MissingDependencyError) as error:
            self._unfinished = []
            return UploadCounts(unknown=str(error))
        return counts

    def _judge(self, upload: Upload, newest: datetime, counts: UploadCounts) -> None:
        if not is_ours(upload.key.removeprefix(f"{QUARANTINE}/")):
            counts.not_ours += 1
        elif upload.started_at >= newest:
            counts.too_young += 1
        else:
            counts.unfinished += 1
            self._unfinished.append(upload)

    def abort(self, counts: UploadCounts | None, lock: SweepLock, pool: ThreadPoolExecutor) -> Iterator[XCargoError]:
        """Abort what was planned, and count it. One request each. Yields the errors of those that stay.

        Raises:
            SweepRefusedError: The lock was lost.
        """
        uploads = self._uploads
        if counts is None or uploads is None:
            return

        def one(upload: Upload) -> XCargoError | None:
            try:
                lock.check()
                uploads.abort(upload)
            except XCargoError as error:
                return error
            return None

        for error in pool.map(one, self._unfinished):
            if isinstance(error, SweepRefusedError):
                raise error
            if error is None:
                counts.aborted += 1
            else:
                counts.failed += 1
                yield error


def upload_folders(store: Store) -> set[str]:
    """Folders at the top of a root in which there are unfinished uploads, as far as they can be listed."""
    try:
        uploads = uploads_of(store)
        return {upload.key.partition("/")[0] for upload in uploads.list()} if uploads else set()
    except (StoreError, MissingDependencyError):
        return set()
