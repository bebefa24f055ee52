"""The contract between the codecs and whoever knows which classes may be rebuilt from stored values."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from xcargo.errors import DecodeError, UnsupportedTypeError

__all__ = ["ClassNames", "allowed_class", "are_joined", "attribute", "dotted", "import_name", "joining_refusals"]


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


_refused: ContextVar[dict[str, None] | None] = ContextVar("xcargo_refused_classes", default=None)
"""Names of classes that the value being decoded holds and that may not be rebuilt, in order."""

_MOST_REFUSED = 50
"""How many of them are looked for."""


def are_joined() -> bool:
    """Whether this is within a block of `joining_refusals`."""
    return _refused.get() is not None


@contextmanager
def joining_refusals(classes: ClassNames) -> Iterator[None]:
    """Raise one error at the end of the block for all classes that `allowed_class` refused in it.

    The value that was decoded meanwhile lacks them, and is lost.
    """
    names: dict[str, None] = {}
    token = _refused.set(names)
    try:
        yield
    except Exception as error:
        if names:
            raise classes.refusal(names) from error
        raise
    finally:
        _refused.reset(token)
    if names:
        raise classes.refusal(names)


def allowed_class(classes: ClassNames, name: str) -> type | None:
    """The class of a stored name. If it may not be rebuilt: None within `joining_refusals`, else DecodeError."""
    names = _refused.get()
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


def dotted(name: str) -> str:
    """A stored name as people read it: ``my_package.models.Order``, or ``etl/my_dag.py:Order``."""
    return name.removeprefix("./") if name.startswith("./") else name.replace(":", ".")
