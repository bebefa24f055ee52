"""Fuzz decoders with atheris (libFuzzer), each for some time, in a process of its own.

    python -m tests.fuzz                    every target for a minute
    python -m tests.fuzz pandas --seconds 600

What crashes a target, hangs it for 20 s, takes more than 2 GiB or raises an error that no decoder may, is left in
``.fuzz/<target>/`` and fails the run. ``.fuzz`` also keeps what was found to reach new code, for the next run.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import warnings
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / ".fuzz"


def main(arguments: list[str]) -> int:
    """Fuzz the named targets; returns an exit status."""
    from .targets import TARGETS

    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}")
    parser.add_argument("--seconds", type=int, default=60, help="time for each (60)")
    options = parser.parse_args(arguments)
    unknown = set(options.targets) - set(TARGETS)
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    failed = [name for name in options.targets or TARGETS if not _fuzz(name, options.seconds)]
    print(f"\nfailed: {', '.join(failed)}" if failed else "\nnothing found")
    return len(failed)


def _fuzz(name: str, seconds: int) -> bool:
    from .targets import TARGETS

    corpus = FOLDER / name / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for n, seed in enumerate(TARGETS[name].seeds()):
        (corpus / f"seed{n}").write_bytes(seed)
    print(f"\n=== {name}, {seconds} s", flush=True)
    options = ("rss_limit_mb=2048", "timeout=20", f"artifact_prefix={FOLDER / name}/", "print_final_stats=1")
    limits = (f"max_total_time={seconds}", "max_len=65536", "verbosity=0")
    command = [sys.executable, "-m", "tests.fuzz.run", name, *(f"-{option}" for option in (*options, *limits))]
    return subprocess.run([*command, str(corpus)], check=False).returncode == 0


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.exit(main(sys.argv[1:]))
