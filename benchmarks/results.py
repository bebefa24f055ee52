"""Results on disk and what they come to: medians, their spread, and ratios."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.trial import Sample

__all__ = ["FOLDER", "Figure", "Results", "header", "latest", "load"]

FOLDER = Path(__file__).resolve().parent / "results"
_PACKAGES = (
    *("airflow-provider-xcargo", "apache-airflow-core", "apache-airflow-providers-common-io", "s3fs", "obstore"),
    *("boto3", "pyarrow", "pandas", "numpy"),
)


@dataclass(frozen=True)
class Figure:
    """What the rounds of one metric came to."""

    median: float
    least: float
    most: float
    rounds: int


class Results:
    """The samples of one run or of several, and what the machine was."""

    def __init__(self, about: dict[str, Any], samples: Iterable[Sample]) -> None:
        self.about = about
        self.samples = list(samples)

    def rounds(self, scenario: str, case: str, latency_ms: int, subject: str, metric: str) -> list[float]:
        """One number a round: the median of its operations."""
        found = [
            sample.metrics[metric]
            for sample in self._of(scenario, case, latency_ms, subject)
            if metric in sample.metrics
        ]
        return [statistics.median(value) if isinstance(value, list) else value for value in found]

    def figure(self, *place: Any) -> Figure | None:
        """Median, least and most of the rounds."""
        numbers = self.rounds(*place)
        return Figure(statistics.median(numbers), min(numbers), max(numbers), len(numbers)) if numbers else None

    def best(self, scenario: str, case: str, latency_ms: int, subjects: Sequence[str], metric: str) -> str | None:
        """Of several subjects the one with the least median."""
        figures = {subject: self.figure(scenario, case, latency_ms, subject, metric) for subject in subjects}
        known = {subject: figure.median for subject, figure in figures.items() if figure}
        return min(known, key=known.__getitem__) if known else None

    def ratio(
        self,
        scenario: str,
        case: str,
        latency_ms: int,
        baseline: str,
        metric: str,
        subject: str = "xcargo",
        baseline_case: str = "",
    ) -> Figure | None:
        """Baseline over subject, ratio of the medians; least and most are of the rounds, pair by pair."""
        above = self.rounds(scenario, baseline_case or case, latency_ms, baseline, metric)
        below = self.rounds(scenario, case, latency_ms, subject, metric)
        if not above or not below or not all(below):
            return None
        pairs = [a / b for a, b in zip(above, below, strict=False)]
        return Figure(statistics.median(above) / statistics.median(below), min(pairs), max(pairs), len(pairs))

    def difference(
        self, scenario: str, case: str, latency_ms: int, baseline: str, metric: str, subject: str = "xcargo"
    ) -> Figure | None:
        """Subject minus baseline, of the medians; least and most are of the rounds, pair by pair."""
        less = self.rounds(scenario, case, latency_ms, baseline, metric)
        more = self.rounds(scenario, case, latency_ms, subject, metric)
        if not less or not more:
            return None
        pairs = [b - a for a, b in zip(less, more, strict=False)]
        return Figure(statistics.median(more) - statistics.median(less), min(pairs), max(pairs), len(pairs))

    def note(self, scenario: str, case: str, latency_ms: int, subject: str) -> str:
        """Why there is no figure."""
        return next((sample.note for sample in self._of(scenario, case, latency_ms, subject) if sample.note), "")

    def cases(self, scenario: str) -> list[tuple[int, str]]:
        """(latency in milliseconds, case) in order of appearance, near before far."""
        found = dict.fromkeys(
            (sample.latency_ms, sample.case) for sample in self.samples if sample.scenario == scenario
        )
        return sorted(found, key=lambda place: place[0])

    def subjects(self, scenario: str) -> list[str]:
        """Who was measured."""
        return list(dict.fromkeys(sample.subject for sample in self.samples if sample.scenario == scenario))

    def stores(self) -> list[str]:
        """The stores they ran over."""
        return list(dict.fromkeys(sample.store for sample in self.samples))

    def on(self, store: str) -> Results:
        """What was measured over one store."""
        return Results({**self.about, "store": store}, [sample for sample in self.samples if sample.store == store])

    def scenarios(self) -> list[str]:
        """The scenarios that ran."""
        return list(dict.fromkeys(sample.scenario for sample in self.samples))

    def _of(self, scenario: str, case: str, latency_ms: int, subject: str) -> Iterator[Sample]:
        wanted = scenario, case, latency_ms, subject
        for sample in self.samples:
            if (sample.scenario, sample.case, sample.latency_ms, sample.subject) == wanted:
                yield sample


def header(command: Sequence[str]) -> dict[str, Any]:
    """What was measured, on what and when: the first line of a results file."""
    return {
        "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": list(command),
        "python": platform.python_version(),
        "machine": f"{_processor()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.release()}",
        "packages": dict(filter(None, map(_version, _PACKAGES))),
    }


def load(paths: Sequence[Path]) -> Results:
    """What lies in these files, as if from one run; the header is the last one's."""
    about: dict[str, Any] = {}
    samples: list[Sample] = []
    for path in paths:
        first, *lines = path.read_text("utf-8").splitlines()
        about = json.loads(first)
        samples += [Sample(**json.loads(line)) for line in lines]
    return Results(about, samples)


def latest() -> Path:
    """The youngest results file."""
    files = sorted(FOLDER.glob("*.jsonl"))
    if not files:
        sys.exit(f"There are no results in {FOLDER}: run make bench")
    return files[-1]


def _version(package: str) -> tuple[str, str] | None:
    try:
        return package, version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
