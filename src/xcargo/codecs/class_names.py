"""The contract between the codecs and whoever knows which classes may be rebuilt from stored values."""

from __future__ import annotations

import sys
from typing import Any, Protocol

from xcargo.errors import UnsupportedTypeError

__all__ = ["ClassNames", "import_name"]


class ClassNames(Protocol):
    """Names of users' classes, which payloads hold, and the classes that may be rebuilt from them."""

    def name_of(self, cls: type) -> str:
        """The name to store. Raises UnsupportedTypeError for a class that no other process could find.

        Called for every instance that is encoded, so it must be cheap.
        """

    def class_of(self, name: str) -> type:
        """The class of a stored name, which may be anyone's. Raises DecodeError unless it may be rebuilt here."""


def import_name(cls: type) -> str:
    """``module:qualified name``, as one would import the class. Raises UnsupportedTypeError if nobody could."""
    if "<locals>" in cls.__qualname__:
        raise UnsupportedTypeError(
            f"{cls.__qualname__} is defined inside a function, so no other task can import it",
            hint="Define the class at the top of a module.",
        )
    module = sys.modules.get(cls.__module__)
    if module is not None and not isinstance(attribute(module, cls.__qualname__), type):
        raise UnsupportedTypeError(
            f"The module {cls.__module__} has no class {cls.__qualname__}, so no other task can import it",
            hint="Define the class at the top of a module. Of named tuples that a hook returns as rows, return "
            "[row._asdict() for row in rows].",
        )
    return f"{cls.__module__}:{cls.__qualname__}"


def attribute(value: Any, path: str) -> Any:
    """What a dotted path below ``value`` leads to; None if there is nothing."""
    for name in path.split("."):
        value = getattr(value, name, None)
    return value
