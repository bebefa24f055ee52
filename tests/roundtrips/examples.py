"""The examples of docs/types.md: their text, and the names that they are written with."""

from __future__ import annotations

import enum
import importlib
import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

__all__ = ["HEADINGS", "PAGE", "examples", "names", "same"]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "types.md"
HEADINGS = ("Built-in and standard types", "numpy", "Tables", "Classes of your own")


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Point(NamedTuple):
    x: int
    y: Any


@dataclass
class Order:
    number: str
    place: Point
    colours: set[Colour]


def examples() -> dict[str, str]:
    """Type, as the page names it -> example, as Python."""
    found = {}
    for heading in HEADINGS:
        text = PAGE.read_text("utf-8").partition(f"## {heading}\n")[2].partition("\n## ")[0]
        for line in text.splitlines():
            if line.startswith("| ") and not line.startswith("| Type "):
                kind, example = (cell.strip() for cell in line[1:-1].split(" | "))
                found[kind] = re.findall(r"`([^`]+)`", example)[0]
    return found


def names() -> dict[str, Any]:
    """Modules and classes for the examples."""
    found: dict[str, Any] = {"re": re, "Colour": Colour, "Level": Level, "Point": Point, "Order": Order}
    for short, module in (("np", "numpy"), ("pd", "pandas"), ("pl", "polars"), ("pa", "pyarrow")):
        found[short] = importlib.import_module(module)
    for module in ("pendulum", "pytz"):
        found[module] = importlib.import_module(module)
    all_of = ("array", "collections", "datetime", "decimal", "fractions", "ipaddress", "pathlib", "uuid", "zoneinfo")
    for module in (*all_of, "dateutil.tz", "types"):
        public = {name: part for name, part in vars(importlib.import_module(module)).items() if name[0] != "_"}
        found |= {name: part for name, part in public.items() if not isinstance(part, ModuleType)}
    return found


def same(left: Any, right: Any) -> bool:
    """Equality in type too, of arrays and tables as of other values."""
    if type(left) is not type(right):
        return False
    if type(left) in (list, tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if type(left) is dict:
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if type(left).__module__.startswith("numpy"):
        same_bytes = left.dtype.kind == "O" or left.tobytes() == right.tobytes()
        return bool(
            left.dtype == right.dtype and left.shape == right.shape and same_bytes and repr(left) == repr(right)
        )
    if hasattr(left, "equals"):  # pandas, polars, pyarrow
        return bool(left.equals(right)) and str(left) == str(right)
    if type(left) is memoryview:
        return bool(left == right)
    return bool(left == right) and repr(left) == repr(right)
