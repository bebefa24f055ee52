"""What others use instead (Dagster, Prefect, Metaflow, ZenML, Flyte, pickle, pandas), by their public interfaces.

Each runs in an environment of its own, made at the first run below ``.venv-peers``. (``make peers`` is another thing:
it pushes and pulls the values of other projects' test suites.)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.payloads import bytes_of
from benchmarks.peers import report
from benchmarks.peers.environments import PEERS
from benchmarks.trial import Plan, Trial

BASELINE = (*PEERS, "common-io")
SHOWN = ("push_seconds", "pull_seconds")
ONLY_BY_NAME = True

VALUES = (
    *("dict, 1 KB", "dict, 1 MB", "records, 5750 KB", "DataFrame, 100k rows", "DataFrame, 1M rows", "numpy, 100 MB"),
)
MANY = 1000
SMALL = "records, 5 KB"
KINDS = {"pandas-s3fs": ("DataFrame",), "flyte": ("DataFrame", "numpy")}
"""Of those that do not store everything: what they do."""

table = report.markdown


def trials(plan: Plan) -> Iterator[Trial]:
    """Each case with each peer: push and pull every round, damage once."""
    for name in plan.payloads or VALUES:
        size = bytes_of(name.partition(", ")[2])
        repeat = 20 if size <= 10_000 else 5 if size <= 1_000_000 else 2 if size < 50_000_000 else 1
        verbs = ("push", "pull") if name == "DataFrame, 1M rows" else ("push", "pull", "damage")
        yield from _case(name, {"name": name, "many": 1, "repeat": repeat}, verbs)
    if not plan.payloads:
        arguments = {"name": SMALL, "many": MANY, "repeat": 1}
        yield from _case(report.MANY_VALUES, arguments, ("push", "pull"), rounds=1)
        yield from _case(report.FAN_IN, arguments, ("gather",), rounds=1)


def _case(case: str, arguments: dict[str, Any], verbs: tuple[str, ...], rounds: int | None = None) -> Iterator[Trial]:
    kind = arguments["name"].partition(",")[0]
    for verb in verbs:
        for subject in (*BASELINE, "xcargo"):
            if kind in KINDS.get(subject, (kind,)):
                yield Trial(
                    case,
                    subject,
                    f"benchmarks.peers.measure:{verb}",
                    {"subject": subject, **arguments},
                    prepare=None if verb == "push" else "benchmarks.peers.measure:pushed",
                    rounds=1 if verb == "damage" else rounds,
                )
