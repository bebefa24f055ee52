"""Cases of a scenario that differ only in their size or number: the lines of a plot over it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from benchmarks.payloads import bytes_of
from benchmarks.results import Results

__all__ = ["Group", "grouped"]

_LEAST = {"warm": 3, "many": 3, "fanin": 2}
_UNITS = {"warm": "bytes", "many": "values of 5 KB", "fanin": "mapped results"}


@dataclass
class Group:
    """Cases by their size or number."""

    scenario: str
    title: str
    latency_ms: int
    unit: str
    cases: dict[int, str] = field(default_factory=dict)


def grouped(results: Results) -> list[Group]:
    """Those of at least three sizes of a value, or numbers of values; two numbers of mapped results are enough."""
    found: dict[tuple[str, str], Group] = {}
    for scenario, title, latency_ms, place, case in _placed(results):
        group = found.setdefault((scenario, title), Group(scenario, title, latency_ms, _UNITS[scenario]))
        group.cases[place] = case
    return [group for group in found.values() if len(group.cases) >= _LEAST[group.scenario]]


def _placed(results: Results) -> Iterator[tuple[str, str, int, int, str]]:
    for latency_ms, case in results.cases("warm"):
        if not latency_ms:
            kind, _, size = case.partition(", ")
            yield "warm", kind, latency_ms, bytes_of(size), case
    for latency_ms, case in results.cases("many"):
        if not latency_ms:
            yield "many", case.rpartition(", ")[2], latency_ms, _number(case), case
    far = max((latency_ms for latency_ms, _ in results.cases("fanin")), default=0)
    for latency_ms, case in results.cases("fanin"):
        if latency_ms == far:
            way, _, rest = case.partition(" of ")
            yield "fanin", f"{way}, +{far} ms", latency_ms, _number(rest), case


def _number(text: str) -> int:
    match = re.match(r"\d+", text)
    assert match
    return int(match[0])
