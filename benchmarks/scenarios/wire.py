"""Requests and bytes on the wire of a first push, pull and purge, counted by a relay before the server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks import hooks
from benchmarks.payloads import payload
from benchmarks.trial import Plan, Trial

BASELINE = ("common-io",)
SHOWN = ("requests", "sent_bytes", "received_bytes")

QUICK = ("dict, 1 KB", "DataFrame, 100k rows")
RELEASE = (
    "dict, 1 KB",
    "dict, 1 MB",
    "records, 10 MB",
    "dict, 100 MB",
    "DataFrame, 1M rows",
    "table, 1M rows",
    "bytes, 100 MB",
)


def trials(plan: Plan) -> Iterator[Trial]:
    """Each verb in a process of its own, once: counts do not vary."""
    for name in plan.choose(QUICK, RELEASE):
        for verb in ("push", "pull", "purge"):
            for subject in (*BASELINE, "xcargo"):
                yield Trial(
                    f"{verb}, {name}",
                    subject,
                    f"{__name__}:{verb}",
                    {"name": name},
                    prepare=None if verb == "push" else f"{__name__}:row",
                    count=True,
                    rounds=1,
                )


def row(name: str) -> Any:
    """A row to pull or purge."""
    return hooks.push(payload(name))


def push(name: str) -> dict[str, Any]:
    """Push it."""
    hooks.push(payload(name))
    return {}


def pull(carry: Any, **_: Any) -> dict[str, Any]:
    """Pull it."""
    hooks.whole(hooks.pull(carry))
    return {}


def purge(carry: Any, **_: Any) -> dict[str, Any]:
    """Have it deleted."""
    hooks.purge(carry)
    return {}
