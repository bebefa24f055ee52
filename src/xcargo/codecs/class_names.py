"""The contract between the codecs and whoever knows which classes may be rebuilt from stored values."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from xcargo.errors import DecodeError, UnsupportedTypeError

__all__ = [
    "ClassBudget",
    "ClassNames",
    "allowed_class",
    "are_joined",
    "attribute",
    "dotted",
    "import_name",
    "is_named_tuple",
    "joining_refusals",
    "may_make",
]


class ClassNames(Protocol):
    """Names of users' classes, which payloads hold, and the classes that may be rebuilt from them.

    A codec asks for every instance, so both ways must be cheap for a class that was asked for before.
    """

    def name_of(self, cls: type) -> str:
        """The name to store: ``module:qualified name`` or ``./path/of/file.py:qualified name``.

        Raises UnsupportedTypeError for a class that no other process could find.
        """

    def class_of(self, name: str) -> type | None:
        """The class of a stored name, which may be anyone's; None if it may not be rebuilt here.

        Raises DecodeError if it may be, but is not there.
        """

    def refusal(self, names: Iterable[str]) -> DecodeError:
        """The error for names of which `class_of` gave None: why, and what to do."""


class ClassBudget:
    """How many classes of named tuples may be made for one value: 20,000 fields, a class counts as 100 at least.

    A class takes a hundred times the bytes of its fields' names.
    """

    def __init__(self) -> None:
        self._counted: set[Hashable] = set()
        self._left = 20_000

    def admits(self, cls: Hashable, fields: int) -> bool:
        """Count a class, if it was not counted before. Whether it and all before it are within the bound."""
        if cls not in self._counted:
            self._counted.add(cls)
            self._left -= max(100, fields)
        return self._left >= 0


class _Decoding:
    """What is known of the value being decoded.

    Attributes:
        refused: Names of classes in it that may not be rebuilt, in order.
        made: Classes that were made for it, if any were.
    """

    made: ClassBudget | None = None

    def __init__(self) -> None:
        self.refused: dict[str, None] = {}


_decoding: ContextVar[_Decoding | None] = ContextVar("xcargo_decoding", default=None)

_MOST_REFUSED = 50
"""How many refused classes are looked for."""


def are_joined() -> bool:
    """Whether this is within a block of `joining_refusals`."""
    return _decoding.get() is not None


@contextmanager
def joining_refusals(classes: ClassNames) -> Iterator[None]:
    """Raise one error at the end of the block for all classes that `allowed_class` refused in it.

    The value that was decoded meanwhile lacks them, and is lost.
    """
    decoding = _Decoding()
    token = _decoding.set(decoding)
    try:
        yield
    except Exception as error:
        if decoding.refused:
            raise classes.refusal(decoding.refused) from error
        raise
    finally:
        _decoding.reset(token)
    if decoding.refused:
        raise classes.refusal(decoding.refused)


def may_make(cls: Hashable, fields: int) -> bool:
    """Whether one more class, of so many fields, may be made for the value being decoded."""
    decoding = _decoding.get()
    if decoding is None:
        return True
    decoding.made = decoding.made or ClassBudget()
    return decoding.made.admits(cls, fields)


def allowed_class(classes: ClassNames, name: str) -> type | None:
    """The class of a stored name. If it may not be rebuilt: None within `joining_refusals`, else DecodeError."""
    decoding = _decoding.get()
    names = None if decoding is None else decoding.refused
    if names and name in names:
        return None
    cls = classes.class_of(name)
    if cls is None:
        if names is None or len(names) == _MOST_REFUSED:
            raise classes.refusal(names or [name])
        names[name] = None
    return cls


def import_name(cls: type) -> str:
    """``module:qualified name``, as one would import the class. Raises UnsupportedTypeError if nobody could."""
    if "<locals>" in cls.__qualname__:
        raise UnsupportedTypeError(
            f"{cls.__qualname__} is defined inside a function, so no other task can import it",
            hint="Define the class at the top of a module.",
        )
    module = sys.modules.get(cls.__module__)
    if not isinstance(attribute(module, cls.__qualname__), type):
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


def dotted(name: str) -> str:
    """A stored name as people read it: ``my_package.models.Order``, or ``etl/my_dag.py:Order``."""
    return name.removeprefix("./") if name.startswith("./") else name.replace(":", ".")


def is_named_tuple(cls: type) -> bool:
    """Whether instances are tuples with a name for each field."""
    return issubclass(cls, tuple) and hasattr(cls, "_fields") and hasattr(cls, "_make")
