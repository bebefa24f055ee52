"""A sweep that kills its process with SIGKILL right before its n-th call of the store.

    python -m tests.unit.lifecycle.killed_sweep ROOT ROWS N QUARANTINE_SECONDS

ROWS is a JSON file with the URIs that rows refer to.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from xcargo.lifecycle.plan import SweepOptions
from xcargo.lifecycle.references import EVERYTHING, Reference, Run, XComFilter
from xcargo.lifecycle.sweep import Sweep
from xcargo.model.coordinate import Coordinate
from xcargo.model.root import Root
from xcargo.stores.local import LocalStore


class Dying(LocalStore):
    """Counts its calls, and dies at one of them."""

    def __init__(self, root: Root, fatal: int) -> None:
        super().__init__(root)
        self.calls, self._fatal = 0, fatal

    def _count(self) -> None:
        self.calls += 1
        if self.calls == self._fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    def put(self, key: str, parts: Iterable[Any], **options: Any) -> None:
        self._count()
        super().put(key, parts, **options)

    def head(self, key: str) -> Any:
        self._count()
        return super().head(key)

    def delete(self, keys: Iterable[str]) -> None:
        self._count()
        super().delete(keys)


class Rows:
    """References out of a file."""

    hides_attempts = hides_dags = False
    origin: ClassVar = {"database": "a file"}

    def __init__(self, uris: list[str]) -> None:
        self._uris = uris

    def iterate(self, where: XComFilter = EVERYTHING) -> Iterator[Reference]:
        for uri in self._uris:
            yield Reference(Coordinate("d", "r", "t", "k"), uri, 1, 1, None, "xcom")

    def runs(self, where: XComFilter = EVERYTHING) -> Iterator[Run]:
        yield from ()


def sweep(url: str, uris: list[str], *, fatal: int = 0, quarantine_seconds: float | None = None) -> int:
    """Sweep, whatever the share. Returns how many calls it made, if it comes to its end."""
    root = Root.parse(url)
    store = Dying(root, fatal)
    source: Any = Rows(uris)
    options = SweepOptions(grace_seconds=3600, max_share=None, quarantine_seconds=quarantine_seconds, workers=1)
    with Sweep(store, source, root=root, options=options) as sweep:
        sweep.apply(sweep.plan())
    return store.calls


if __name__ == "__main__":
    url, rows, fatal, seconds = sys.argv[1:]
    uris = json.loads(Path(rows).read_text())
    sweep(url, uris, fatal=int(fatal), quarantine_seconds=float(seconds) if seconds else None)
