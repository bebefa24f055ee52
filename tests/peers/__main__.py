"""Push and pull what others wrote to test themselves; print a table, and every fault by its smallest value.

python -m tests.peers [SOURCE ...] [--scale 0.1]

Fails if a value came back changed, if an error that is not ours left a push or any error a pull, or if less than 99.5 %
came back. What is refused is listed by kind in docs/types.md.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.peers.sources import SOURCES
from tests.roundtrips.examples import PAGE
from tests.roundtrips.table import renewed

_OUTCOMES = ("exact", "refused", "changed", "error")
_LEAST_PERCENT = 99.5

Outcome = dict[str, Any]


def main(arguments: list[str]) -> int:
    """Run the command; returns an exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.peers")
    parser.add_argument("sources", nargs="*", metavar="SOURCE", help=f"of {', '.join(SOURCES)}")
    parser.add_argument("--scale", type=float, default=1, help="of the time for each source (1)")
    options = parser.parse_args(arguments)
    names = options.sources or list(SOURCES)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        outcomes = dict(zip(names, pool.map(lambda name: _run(name, SOURCES[name][1] * options.scale), names)))
    print(f"{'':30}{'exact':>9}{'refused':>9}{'changed':>9}{'error':>9}{'own':>9}{'exact %':>9}")
    for name, found in (*outcomes.items(), ("all", [one for found in outcomes.values() for one in found])):
        counts = Counter("own" if one["own"] and one["outcome"] != "exact" else one["outcome"] for one in found)
        share = 100 * counts["exact"] / max(1, len(found) - counts["own"])
        print(f"{name:30}" + "".join(f"{counts[kind]:>9,}" for kind in (*_OUTCOMES, "own")) + f"{share:>9.2f}")
    kinds = _kinds(one for found in outcomes.values() for one in found)
    for (outcome, _), those in kinds.items():
        smallest = min(those, key=lambda one: len(one["shown"]))
        print(f"\n{outcome} {len(those)}: {smallest['what'][:300]}\n  {smallest['shown'][:300]!r}")
    failed = share < _LEAST_PERCENT or any(outcome != "refused" for outcome, _ in kinds)
    if options.sources or options.scale < 1:
        return int(failed)
    refused = [f"| {kind} | {len(those):,} |" for (outcome, kind), those in kinds.items() if outcome == "refused"]
    text = f"Of {len(found):,} values, {counts['exact']:,} came back exactly. {counts['own']:,} of the others are of "
    text += f"classes that the suites made up for their own tests; without those, {share:.2f} % came back. "
    table = "\n".join([f"{text}The rest was refused:", "", "| Reason | Values |", "|---|---|", *refused])
    PAGE.write_text(renewed(PAGE.read_text("utf-8"), "tests/peers", table), "utf-8")
    return int(failed)


def _kinds(outcomes: Iterable[Outcome]) -> dict[tuple[str, str], list[Outcome]]:
    """What did not come back exactly, by outcome and kind; the worst last, the most frequent first."""
    kinds: defaultdict[tuple[str, str], list[Outcome]] = defaultdict(list)
    for one in outcomes:
        if one["outcome"] != "exact" and not one["own"]:
            kinds[one["outcome"], _kind(one["what"])].append(one)
    return dict(sorted(kinds.items(), key=lambda item: (_OUTCOMES.index(item[0][0]), -len(item[1]))))


def _run(name: str, seconds: float) -> list[Outcome]:
    """What became of each value of a source."""
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder, "values"))
        push = [sys.executable, "-m", "tests.peers.push", name, str(seconds), file]
        output = subprocess.run(push, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if output.returncode or not Path(file).stat().st_size:
            sys.exit(f"{name}: the push failed:\n{output.stdout[-3000:]}")
        pull = [sys.executable, "-m", "tests.peers.pull", file]
        lines = subprocess.run(pull, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
        return [json.loads(line) for line in lines]


def _kind(what: str) -> str:
    """The message without what differs between values of one kind."""
    what = re.sub(r"^(At value.*?|Column '[^']*'|The values): ?", "", what)
    what = re.sub(r"^(Column '[^']*'|The values) of dtype", "values of dtype", what)
    return re.sub(r"\d{3,}", "…", re.sub(r"(?<!\w)'[^']*'", "…", what))[:200].replace("|", "/")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
