"""The table of docs/types.md, of what the probes found."""

from __future__ import annotations

import json
from pathlib import Path

from .examples import examples

__all__ = ["RESULTS", "VERSIONS", "page", "results"]

RESULTS = Path(__file__).parent / "results"
VERSIONS = ("2.11.2", "3.3.2", "3.4.0b2")
BEGIN = "<!-- written by tests/roundtrips: begin -->"
END = "<!-- written by tests/roundtrips: end -->"

Outcomes = dict[str, dict[str, dict[str, str]]]
"""Type -> backend -> place -> what came back."""


def results() -> dict[str, Outcomes]:
    """What was found, by release."""
    return {version: json.loads((RESULTS / f"{version}.json").read_text("utf-8")) for version in VERSIONS}


def page(current: str) -> str:
    """The page with its table renewed."""
    before, _, rest = current.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{_table()}\n\n{END}{after}"


def _table() -> str:
    found = results()
    lines = [
        "| Type | xcargo, everywhere | Airflow's in the row | as an object | nested in the row | nested in an object |",
        "|---|---|---|---|---|---|",
    ]
    for kind in examples():
        ours = {v: " / ".join(dict.fromkeys(found[v][kind]["xcargo"].values())) for v in VERSIONS}
        theirs = [
            {v: found[v][kind]["common_io"][place] for v in VERSIONS}
            for place in ("row", "object", "nested row", "nested object")
        ]
        lines.append(f"| {kind} | {' | '.join(map(_cell, [ours, *theirs]))} |")
    return "\n".join(lines)


def _cell(by_version: dict[str, str]) -> str:
    """One word if all releases agree, else each with its own."""
    if len(set(by_version.values())) == 1:
        return next(iter(by_version.values()))
    versions: dict[str, list[str]] = {}
    for version, outcome in by_version.items():
        versions.setdefault(outcome, []).append(version[: version.index(".", 2)])
    return "; ".join(f"{', '.join(those)}: {outcome}" for outcome, those in versions.items())
