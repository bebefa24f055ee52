"""Programs of the system. Where one is missing and this is root on a Debian, its package is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

__all__ = ["program", "provide"]

_T = TypeVar("_T")
_SECONDS = 300


def program(*names: str, package: str) -> Path | None:
    """The first of these programs on PATH, perhaps out of the package; None where there is none and none may come."""
    return provide(lambda: next((Path(path) for path in map(shutil.which, names) if path), None), package)


def provide(look: Callable[[], _T | None], package: str) -> _T | None:
    """What ``look`` finds, at once or after the package has been installed."""
    found = look()
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        env = {"DEBIAN_FRONTEND": "noninteractive", "PATH": os.environ.get("PATH", "")}
        for command in (["update"], ["install", "-y", "--no-install-recommends", package]):
            try:
                subprocess.run(["apt-get", "-q", *command], env=env, check=True, capture_output=True, timeout=_SECONDS)
            except (subprocess.SubprocessError, OSError):
                break
        found = look()
    return found
