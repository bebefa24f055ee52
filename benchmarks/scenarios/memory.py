"""Peak memory of a push and of a pull, beyond what was there before, as a multiple of the value's own size.

The figure of a pull contains the value that it gives. Every measurement is in a process of its own, after a push and
pull of a small value of the same kind: what libraries take once, when they are loaded, is not counted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from benchmarks import hooks
from benchmarks.memory import Peak
from benchmarks.payloads import payload, size_of
from benchmarks.trial import Plan, Trial

BASELINE = ("common-io",)
SHOWN = ("push_extra_of_value", "pull_extra_of_value")

QUICK = ("dict, 100 MB", "DataFrame, 1M rows", "bytes, 100 MB")
RELEASE = (*QUICK, "records, 10 MB", "numpy, 100 MB", "bytes, 1 GB", "numpy, 1 GB", "file, 1 GB")


def trials(plan: Plan) -> Iterator[Trial]:
    """Push and pull of each payload apart."""
    for name in plan.choose(QUICK, RELEASE):
        for subject in (*BASELINE, "xcargo"):
            once = None if plan.extent == "full" else 1
            yield Trial(name, subject, f"{__name__}:push", {"name": name}, rounds=once)
            yield Trial(name, subject, f"{__name__}:pull", {"name": name}, prepare=f"{__name__}:row", rounds=once)


def row(name: str) -> Any:
    """A row to pull."""
    return hooks.push(payload(name))


def _warm_up(name: str) -> None:
    hooks.warm_up()
    kind = name.partition(", ")[0]
    with contextlib.suppress(TypeError):  # what one of the backends does not take
        hooks.whole(hooks.pull(hooks.push(payload(f"{kind}, 10 KB"))))


def push(name: str) -> dict[str, float]:
    """Peak of a push."""
    _warm_up(name)
    value = payload(name)
    peak = Peak()
    pushed = hooks.push(value)
    extra = peak.extra_bytes()
    hooks.purge(pushed)
    return {"push_extra_of_value": extra / size_of(name, value), "push_extra_bytes": extra}


def pull(name: str, carry: Any) -> dict[str, float]:
    """Peak of a pull."""
    _warm_up(name)
    peak = Peak()
    value = hooks.whole(hooks.pull(carry))
    extra = peak.extra_bytes()
    return {"pull_extra_of_value": extra / size_of(name, value), "pull_extra_bytes": extra}
