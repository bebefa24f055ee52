"""Time and memory of a sweep's plan over a listing of many objects, which are made up as they are listed.

    python -m benchmarks.sweep 10000000

Every other object has a row. Prints seconds, peak memory in MiB, and that of the process before, as JSON.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any, cast

from xcargo.lifecycle.plan import SweepOptions, Verdict
from xcargo.lifecycle.references import EVERYTHING, Reference, Run, XComFilter
from xcargo.lifecycle.sweep import Sweep
from xcargo.model.coordinate import Coordinate
from xcargo.model.root import Root
from xcargo.stores.base import ObjectInfo
from xcargo.stores.local import MemoryStore

ROOT = Root.parse("memory://listing/xcom")
OLD = datetime.now(timezone.utc) - timedelta(days=30)


def key(n: int) -> str:
    """Of the n-th object: a thousand objects a run, a thousand runs a Dag."""
    return f"dag_{n // 1_000_000}/scheduled__{n // 1000 % 1000}/task/{n % 1000}/return_value~{n:016x}.msgpack.zst"


class Listing(MemoryStore):
    """A store that lists what was never put."""

    def __init__(self, number: int) -> None:
        super().__init__(ROOT)
        self._number = number

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        for n in range(self._number):
            yield ObjectInfo(key(n), 1000, OLD, f"{n:x}")


class Rows:
    """A row for each of some URIs."""

    hides_attempts = hides_dags = hides_state = False
    origin = {"database": "made up"}  # noqa: RUF012

    def __init__(self, uris: Callable[[], Iterable[str]]) -> None:
        self._uris = uris

    def iterate(self, where: XComFilter = EVERYTHING) -> Iterator[Reference]:
        where_from = Coordinate("dag", "run", "task", "return_value")
        for uri in self._uris():
            yield Reference(where_from, uri, 1000, 5000, OLD, "xcom")

    def runs(self, where: XComFilter = EVERYTHING) -> Iterator[Run]:
        yield from ()


def peak_mib() -> float:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(number: int) -> dict[str, float]:
    """Plan a sweep of so many objects."""
    before, started = peak_mib(), time.monotonic()
    rows = cast("Any", Rows(lambda: (ROOT.uri(key(n)) for n in range(0, number, 2))))
    with Sweep(Listing(number), rows, root=ROOT, options=SweepOptions(max_share=None)) as sweep:
        report = sweep.plan()
    assert report.total[Verdict.ORPHAN].objects == number // 2
    assert report.total[Verdict.LIVE].objects == (number + 1) // 2
    seconds = time.monotonic() - started
    return {"objects": number, "seconds": seconds, "peak_mib": peak_mib(), "before_mib": before}


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]))))
