"""Variables of the environment that look as if they should configure something, and do not."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from xcargo.airflow.provider_info import OPTIONS, SECTION

__all__ = ["COMMON_IO", "misspelt"]

COMMON_IO = ("xcom_objectstorage_path", "xcom_objectstorage_threshold", "xcom_objectstorage_compression")

_RIGHT = (
    *(f"AIRFLOW__{SECTION.upper()}__{option.upper()}" for option in OPTIONS),
    *(f"AIRFLOW__COMMON_IO__{option.upper()}" for option in COMMON_IO),
    "AIRFLOW__CORE__XCOM_BACKEND",
)
_CONCERNS_US = re.compile(r"xcargo|xcom_?(objectstorage|object_storage|backend)|common[._]?io", re.IGNORECASE)
_SUFFIXES = ("_CMD", "_SECRET")
_NEAR = 0.84
"""So alike is a name that misses an underscore, doubles a letter, or has a dot for an underscore."""


def misspelt(names: Iterable[str]) -> dict[str, str]:
    """Name of a variable without effect -> the name that was probably meant.

    Looks at what begins like a variable of Airflow, or forgot to, and concerns us; other applications' names are left
    alone.
    """
    by_bare = {_bare(name): name for name in _RIGHT}
    found = {}
    for name in names:
        if name in _RIGHT or name.startswith(("AIRFLOW_CONN_", "AIRFLOW_VAR_")) or not _CONCERNS_US.search(name):
            continue
        if _known_elsewhere(name):
            continue
        meant = by_bare.get(_bare(name))
        if meant is None and re.match(r"_*AIRFLOW|XCARGO_", name, re.IGNORECASE):
            close = difflib.get_close_matches(name.upper(), _RIGHT, n=1, cutoff=_NEAR)
            meant = close[0] if close else None
        if meant is not None:
            found[name] = meant
    return found


def _known_elsewhere(name: str) -> bool:
    """Names with an effect, or whose want of one is told elsewhere: the settings refuse an unknown option of ours."""
    if name.startswith(f"AIRFLOW__{SECTION.upper()}__"):
        return True
    for suffix in _SUFFIXES:
        if name.endswith(suffix) and name.removesuffix(suffix) in _RIGHT:
            return True
    return name.startswith("AIRFLOW__COMMON_IO__STATE_STORE_")


def _bare(name: str) -> str:
    """A name without what people get wrong most: case, dots, how many underscores, the word Airflow."""
    return re.sub(r"[^a-z0-9]", "", name.lower()).removeprefix("airflow")
