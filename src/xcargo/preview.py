"""What a row may tell of a value that lies elsewhere: the name of its type, and a short preview."""

from __future__ import annotations

import reprlib
from fractions import Fraction
from typing import Any

__all__ = ["preview", "type_name"]

_PLAIN = (str, int, float, bool, complex, type(None), list, dict, tuple, set, frozenset)
_STANDARD = ("datetime", "decimal", "fractions", "ipaddress", "pathlib", "uuid", "zoneinfo")


def type_name(value: object) -> str:
    """Name of the type as a user would write it: ``dict``, ``pandas.DataFrame``, ``my_package.models.Order``."""
    cls = type(value)
    module = cls.__module__
    if module == "builtins":
        return cls.__qualname__
    if module.partition(".")[0] in ("xcargo", "pandas", "polars", "pyarrow", "numpy", "pendulum"):
        module = module.partition(".")[0]
    return f"{module}.{cls.__qualname__}"


def preview(value: Any, chars: int) -> str | None:
    """The beginning of the value in ``chars`` characters, or None for ``chars`` = 0 or a type that has no safe one.

    Looks at the first few items only and calls no ``__repr__`` of a user's class.
    """
    if chars <= 0:
        return None
    text = _Short(chars).repr(value)
    text = text.encode("utf-8", "replace").decode().replace("\0", "\\x00")
    return text if len(text) <= chars else text[: chars - 1] + "…"


class _Short(reprlib.Repr):
    def __init__(self, chars: int) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxstring = self.maxlong = min(chars, 60)
        self.maxdict = self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = 5
        self.fillvalue = "…"

    def repr1(self, x: Any, level: int) -> str:
        kind = type(x)
        if kind is int and x.bit_length() > 512:
            return f"<int of {x.bit_length()} bits>"  # Python refuses to write out very long ones
        if kind in _PLAIN:
            return super().repr1(x, level)
        if kind.__module__ in _STANDARD and not (kind is Fraction and max(abs(x.numerator), x.denominator) >> 512):
            return repr(x)[: self.maxstring]
        if kind.__module__.startswith("xcargo."):
            return repr(x)
        if kind in (bytes, bytearray):
            return f"<{kind.__name__}, {len(x)} bytes>"
        shape = getattr(x, "shape", None)
        columns = getattr(x, "columns", None) if kind.__module__.startswith(("pandas", "polars")) and shape else None
        size = f" of shape {tuple(shape)}" if isinstance(shape, tuple) else ""
        names = "" if columns is None else f", columns {', '.join(str(c) for c in list(columns)[:20])}"
        return f"<{type_name(x)}{size}{names}>"

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        if level <= 0:
            return "{…}"
        items = [
            f"{self.repr1(key, level - 1)}: {self.repr1(item, level - 1)}"
            for _, (key, item) in zip(range(self.maxdict), x.items(), strict=False)
        ]
        return "{" + ", ".join([*items, *(["…"] if len(x) > self.maxdict else [])]) + "}"

    def repr_set(self, x: Any, level: int) -> str:
        return self._repr_unsorted("set", x, level)

    def repr_frozenset(self, x: Any, level: int) -> str:
        return self._repr_unsorted("frozenset", x, level)

    def _repr_unsorted(self, name: str, x: Any, level: int) -> str:
        items = (
            [self.repr1(item, level - 1) for _, item in zip(range(self.maxset), x, strict=False)] if level > 0 else []
        )
        more = ["…"] if len(x) > len(items) else []
        return f"{name}({{{', '.join([*items, *more])}}})"
