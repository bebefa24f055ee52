"""clock: processes whose clock is wrong, by libfaketime. Programs in Go and static ones keep the machine's."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from .debian import provide
from .processes import StartError

__all__ = ["wrong_clock"]


def wrong_clock(offset: str) -> dict[str, str]:
    """The variables for a process whose clock is off by ``+2h``, ``-10m`` ...; what it measures is not.

    Out of the package of either name, Debian's or PyPI's. Raises StartError where there is none and none may come.
    """
    library = provide(_library, "libfaketime")
    if library is None:
        raise StartError("libfaketime is not installed: apt-get install libfaketime", may_retry=False)
    return {"LD_PRELOAD": str(library), "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def _library() -> Path | None:
    spec = importlib.util.find_spec("libfaketime")
    folders = [Path(folder) for folder in (spec.submodule_search_locations or [] if spec else [])]
    places = (*(f.rglob("libfaketime.so.1") for f in folders), Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    return next((path for place in places for path in place), None)
