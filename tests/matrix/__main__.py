"""Run the contract tests on every Airflow of the matrix, one after the other, the newest first.

    python -m tests.matrix                  all releases
    python -m tests.matrix 2.9 3.3          these only
    python -m tests.matrix --list           what there is, and which environments are made
    python -m tests.matrix 3.4 -- -k purge  what follows -- goes to pytest

Exits with 1 when any release failed; a release for which this machine has no Python is skipped, or with --strict
counts as failed.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .environments import CHECKOUT, clean_environ, environment_of, is_ready, make
from .interpreters import Interpreter, find_interpreter
from .releases import Release, select

TESTS = "tests/contract"
RUN_LIMIT_SECONDS = 1800


@dataclass(frozen=True)
class Outcome:
    """What became of one release."""

    release: Release
    python: str
    verdict: str
    detail: str = ""
    seconds: float = 0.0


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit status."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    pytest_arguments = arguments[at + 1 :]
    options = _parser().parse_args(arguments[:at])
    try:
        releases = select(options.versions)
    except LookupError as error:
        print(error.args[0], file=sys.stderr)
        return 2
    if options.list:
        _print_releases(releases)
        return 0
    newest_first = reversed(releases)  # it takes longest: as the last one it would leave a core idle
    outcomes = [_run(release, pytest_arguments) for release in newest_first if _claim(release, options.claims)]
    _print_table(
        ("Airflow", "Python", "Result", "Seconds"),
        [(o.release.airflow, o.python, f"{o.verdict}: {o.detail}", f"{o.seconds:.0f}") for o in outcomes],
    )
    bad = ("failed", "skipped") if options.strict else ("failed",)
    return int(any(outcome.verdict in bad for outcome in outcomes))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.matrix",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("versions", nargs="*", metavar="VERSION", help="an Airflow release, or the beginning of one")
    parser.add_argument("--list", action="store_true", help="show the matrix and run nothing")
    parser.add_argument("--strict", action="store_true", help="a release without a Python counts as failed")
    parser.add_argument("--claims", type=Path, metavar="FOLDER", help="run none that another run with it has begun")
    return parser


def _claim(release: Release, claims: Path | None) -> bool:
    """Take a release for this run. Returns whether no other run with this folder was first."""
    try:
        if claims:
            (claims / release.airflow).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _run(release: Release, pytest_arguments: list[str]) -> Outcome:
    interpreter = find_interpreter(release)
    if interpreter is None:
        return Outcome(release, "-", "skipped", f"needs Python {release.pythons}")
    python = ".".join(map(str, interpreter.minor))
    print(f"\n=== Airflow {release.airflow}, Python {python}", flush=True)
    started = time.monotonic()
    try:
        executable = make(release, interpreter)
    except (OSError, subprocess.CalledProcessError) as error:
        return Outcome(release, python, "failed", f"no environment: {error}", time.monotonic() - started)
    status, summary = _pytest(str(executable), pytest_arguments)
    verdict = "failed" if status else "passed"
    return Outcome(release, python, verdict, summary, time.monotonic() - started)


def _pytest(executable: str, pytest_arguments: list[str]) -> tuple[int, str]:
    """Exit status of pytest, and its closing line."""
    command = [executable, "-m", "pytest", TESTS, *pytest_arguments]
    summary = "no summary"
    with subprocess.Popen(
        command,
        cwd=CHECKOUT,
        env=clean_environ(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        timer = threading.Timer(RUN_LIMIT_SECONDS, process.kill)
        timer.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                print(line, end="", flush=True)
                closing = re.search(r"((?:\d+ \w+(?:, )?)+) in [\d.]+s", line)
                summary = closing[1] if closing else summary
        finally:
            timer.cancel()
    return process.returncode, summary


def _print_releases(releases: list[Release]) -> None:
    rows = []
    for release in releases:
        interpreter = find_interpreter(release)
        rows.append((release.airflow, release.pythons, *_state(release, interpreter), ", ".join(release.pins) or "-"))
    _print_table(("Airflow", "Supports", "Runs on", "Environment", "Pins"), rows)


def _state(release: Release, interpreter: Interpreter | None) -> tuple[str, str]:
    if interpreter is None:
        return "-", "-"
    made = environment_of(release, interpreter).relative_to(CHECKOUT)
    return ".".join(map(str, interpreter.minor)), str(made) if is_ready(release, interpreter) else "not made"


def _print_table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    print()
    for row in (header, tuple("-" * width for width in widths), *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
