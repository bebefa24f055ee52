"""The tables of docs/types.md, of what the probes found."""

from __future__ import annotations

import json
from pathlib import Path

from .examples import examples
from .probe import NOT_THERE

__all__ = ["FORMER", "LIBRARIES", "RESULTS", "VERSIONS", "Outcomes", "page", "renewed", "results"]

RESULTS = Path(__file__).parent / "results"
LIBRARIES = RESULTS / "libraries.json"
FORMER = RESULTS / "lowest-rows.json"
"""Rows that the lowest versions of libraries wrote."""
VERSIONS = ("2.11.2", "3.3.2", "3.4.0b2")
Outcomes = dict[str, dict[str, dict[str, str]]]
"""Type -> backend -> place -> what came back."""


def results() -> dict[str, Outcomes]:
    """What was found, by release."""
    return {version: json.loads((RESULTS / f"{version}.json").read_text("utf-8")) for version in VERSIONS}


def page(current: str) -> str:
    """The page with its tables renewed."""
    for name, table in (("airflow", _airflow()), ("libraries", _libraries())):
        current = renewed(current, f"tests/roundtrips {name}", table)
    return current


def renewed(page: str, writer: str, text: str) -> str:
    """The page with what stands between the marks of a writer replaced."""
    begin, end = f"<!-- written by {writer}: begin -->", f"<!-- written by {writer}: end -->"
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"


def _airflow() -> str:
    found = results()
    lines = [
        "| Type | xcargo, everywhere | Airflow's in the row | as an object | nested in the row | nested in an object |",
        "|---|---|---|---|---|---|",
    ]
    for kind in examples():
        ours = {v: " / ".join(dict.fromkeys(found[v][kind]["xcargo"].values())) for v in VERSIONS}
        if set(ours.values()) == {NOT_THERE}:
            continue
        theirs = [
            {v: found[v][kind]["common_io"][place] for v in VERSIONS}
            for place in ("row", "object", "nested row", "nested object")
        ]
        lines.append(f"| {kind} | {' | '.join(map(_cell, [ours, *theirs]))} |")
    return "\n".join(lines)


def _libraries() -> str:
    """The sets of versions, and a row for each type that is not exact between all of them."""
    found = json.loads(LIBRARIES.read_text("utf-8"))
    lines = [f"- {name}: {versions}" for name, versions in found["versions"].items()]
    lines += ["", "| Type | Pushed → pulled with | Result |", "|---|---|---|"]
    for kind in examples():
        ways: dict[str, list[str]] = {}
        for way, outcome in found["changes"].get(kind, {}).items():
            ways.setdefault(outcome, []).append(way)
        lines += [f"| {kind} | {', '.join(those)} | {outcome} |" for outcome, those in ways.items()]
    return "\n".join(lines)


def _cell(by_version: dict[str, str]) -> str:
    """One word if all releases agree, else each with its own."""
    if len(set(by_version.values())) == 1:
        return next(iter(by_version.values()))
    versions: dict[str, list[str]] = {}
    for version, outcome in by_version.items():
        versions.setdefault(outcome, []).append(version[: version.index(".", 2)])
    return "; ".join(f"{', '.join(those)}: {outcome}" for outcome, those in versions.items())
