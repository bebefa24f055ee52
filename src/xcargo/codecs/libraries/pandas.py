"""What pandas has beside its tables: ``NamedAgg``, a named tuple in pandas 2 and a class of its own in pandas 3."""

from __future__ import annotations

from typing import Any

__all__ = ["restore", "state"]


def state(value: Any) -> dict[str, Any]:
    """Column, function and its arguments."""
    arguments = {"args": list(getattr(value, "args", ())), "kwargs": dict(getattr(value, "kwargs", {}))}
    return {"column": value.column, "aggfunc": value.aggfunc, **arguments}


def restore(cls: Any, state: dict[str, Any]) -> Any:
    """The same again. Raises TypeError for arguments that pandas 2 does not take."""
    column, function, arguments, keywords = (state[name] for name in ("column", "aggfunc", "args", "kwargs"))
    return cls(column, function, *arguments, **keywords)
