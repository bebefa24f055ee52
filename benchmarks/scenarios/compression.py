"""What compression costs and saves: each kind of it, and none, in a process that has pushed before."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.scenarios import warm
from benchmarks.trial import Plan, Trial

BASELINE = ("common-io",)
SHOWN = ("push_seconds", "pull_seconds", "push_cpu_seconds", "pull_cpu_seconds")
NOT_QUICK = True

KINDS = ("zstd", "lz4", "none")


def trials(plan: Plan) -> Iterator[Trial]:
    """Common IO's backend compresses nothing but what it makes of a DataFrame, which is Parquet."""
    for name in plan.choose((), ("DataFrame, 1M rows", "records, 10 MB")):
        for kind in KINDS:
            for subject in (*BASELINE, "xcargo"):
                yield Trial(
                    f"{name}, {kind}",
                    subject,
                    f"{warm.__name__}:measure",
                    {"name": name, "repeat": 3},
                    env={"AIRFLOW__XCARGO__COMPRESSION": kind},
                    rounds=None if plan.extent == "full" else 2,
                )
