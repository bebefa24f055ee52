"""Finding a Python that an Airflow release supports, among those that this machine has."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from .releases import Minor, Release

__all__ = ["Interpreter", "find_interpreter", "find_minor"]


@dataclass(frozen=True)
class Interpreter:
    """A Python to make an environment with."""

    path: str
    minor: Minor


def find_interpreter(release: Release) -> Interpreter | None:
    """The running Python if the release supports it, else the newest supported one on PATH or under pyenv."""
    running = Interpreter(sys.executable, sys.version_info[:2])
    if release.runs_on(running.minor):
        return running
    major, newest = release.newest_python
    for minor in range(newest, release.oldest_python[1] - 1, -1):
        found = find_minor((major, minor))
        if found:
            return found
    return None


@cache
def find_minor(minor: Minor) -> Interpreter | None:
    """The Python of this version, if the machine has one."""
    for path in _candidates(minor):
        if _minor_of(path) == minor:
            return Interpreter(path, minor)
    return None


def _candidates(minor: Minor) -> Iterator[str]:
    name = f"python{minor[0]}.{minor[1]}"
    on_path = shutil.which(name)
    if on_path:
        yield on_path
    # A pyenv shim on PATH runs only the versions that are switched on; pyenv itself tells of all.
    for version in _output("pyenv", "versions", "--bare").split():
        if version.startswith(f"{minor[0]}.{minor[1]}."):
            yield f"{_output('pyenv', 'prefix', version).strip()}/bin/python"


def _minor_of(path: str) -> Minor | None:
    parts = _output(path, "-c", "import sys; print(*sys.version_info[:2])").split()
    return (int(parts[0]), int(parts[1])) if len(parts) == 2 else None


def _output(*command: str) -> str:
    """What a command prints, or nothing if it fails or is not there."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
