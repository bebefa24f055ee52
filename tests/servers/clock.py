"""clock: processes whose clock is wrong, by libfaketime. Programs in Go and static ones keep the machine's."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from .processes import StartError

__all__ = ["wrong_clock"]


def wrong_clock(offset: str) -> dict[str, str]:
    """The variables for a process whose clock is off by ``+2h``, ``-10m`` ...; what it measures is not.

    By the package of PyPI, which the group `faults` installs: under Debian's 0.9.10 Python cannot sleep. Raises
    StartError without it.
    """
    spec = importlib.util.find_spec("libfaketime")
    if spec is None or not spec.submodule_search_locations:
        raise StartError("libfaketime is not installed: make faults, make clocks", may_retry=False)
    library = next(Path(spec.submodule_search_locations[0]).rglob("libfaketime.so.1"))
    return {"LD_PRELOAD": str(library), "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
