"""Names in settings that this release does not know: misspelt, or of a newer release."""

from __future__ import annotations

import logging
from collections.abc import Collection
from functools import cache

from xcargo.errors import ConfigurationError
from xcargo.model.version import __version__

__all__ = ["check_unknown", "nearest"]

log = logging.getLogger(__name__)

_TYPOS = 2
"""Letters by which a misspelt name differs at most. Names of options are further apart, those of later releases too."""

_PROTECTIVE = (
    "Without it, values would be stored elsewhere or with less protection: "
    "if it is of a newer release, upgrade xcargo on this worker."
)


def check_unknown(name: str, described: str, known: Collection[str], *, protective: Collection[str]) -> None:
    """Ignore a name that may be of a newer release, with one warning in the log of this process.

    So a worker of an older release keeps working while workers are upgraded one by one.

    Args:
        name: The unknown name.
        described: What it is the name of and where that is set, for a message.
        known: The names that there are.
        protective: Names that no release may ignore, nor one that resembles them.

    Raises:
        ConfigurationError: The name is misspelt, or resembles a protective one.
    """
    meant = nearest(name, [*known, *protective])
    question = f"Did you mean {meant!r}?" if meant and meant != name else ""
    if meant in protective:
        raise ConfigurationError(
            f"xcargo {__version__} does not know {described}",
            hint=f"{question} {_PROTECTIVE}".lstrip(),
        )
    if meant is not None and _letters_apart(name, meant) <= _TYPOS:
        raise ConfigurationError(f"xcargo {__version__} does not know {described}", hint=question)
    _warn_once(f"xcargo {__version__} ignores {described}, which it does not know. {question}".rstrip())


def nearest(name: str, known: Collection[str]) -> str | None:
    """The known name that resembles a name most, if any does."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(name, known, n=1)), None)


def _letters_apart(one: str, other: str) -> int:
    """Letters that are in only one of two texts; one in another place counts twice."""
    from difflib import SequenceMatcher

    same = sum(block.size for block in SequenceMatcher(None, one, other).get_matching_blocks())
    return len(one) + len(other) - 2 * same


@cache
def _warn_once(message: str) -> None:
    log.warning("%s", message)
