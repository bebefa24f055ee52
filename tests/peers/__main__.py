"""Push and pull what others wrote to test themselves; print a table, and every fault by its smallest value.

python -m tests.peers [SOURCE ...] [--scale 0.1]

Fails if a value came back changed, or if an error that is not ours left a push or any error a pull. What is refused is
listed by kind in docs/types.md.
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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.peers.sources import SOURCES

_OUTCOMES = ("exact", "refused", "changed", "error")

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
        counts = Counter("own" if one["own"] and one["outcome"] == "refused" else one["outcome"] for one in found)
        share = 100 * counts["exact"] / max(1, len(found) - counts["own"])
        print(f"{name:30}" + "".join(f"{counts[kind]:>9,}" for kind in (*_OUTCOMES, "own")) + f"{share:>9.2f}")
    faults = 0
    for outcome in ("refused", "changed", "error"):
        kinds: defaultdict[str, list[Outcome]] = defaultdict(list)
        for one in (one for found in outcomes.values() for one in found if one["outcome"] == outcome):
            if not (one["own"] and outcome == "refused"):
                kinds[_kind(one["what"])].append(one)
        for kind, those in sorted(kinds.items(), key=lambda item: -len(item[1])):
            smallest = min(those, key=lambda one: len(one["shown"]))
            print(f"\n{outcome} {len(those)}: {smallest['what'][:300]}\n  {smallest['shown'][:300]!r}")
            faults += outcome != "refused"
    return int(faults > 0)


def _run(name: str, seconds: float) -> list[Outcome]:
    """What became of each value of a source."""
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder, "values"))
        push = [sys.executable, "-m", "tests.peers.push", name, str(seconds), file]
        output = subprocess.run(push, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if output.returncode:
            sys.exit(f"{name}: the push failed:\n{output.stdout[-3000:]}")
        pull = [sys.executable, "-m", "tests.peers.pull", file]
        lines = subprocess.run(pull, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
        return [json.loads(line) for line in lines]


def _kind(what: str) -> str:
    """The message without what differs between values of one kind."""
    what = re.sub(r"^At value[^:]*: ", "", what)
    return re.sub(r"\d+", "N", re.sub(r"'[^']*'|\[[^\]]*\]", "…", what))[:60]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
