"""The examples of docs/types.md: their text, and the names that they are written with."""

from __future__ import annotations

import atexit
import enum
import importlib
import os
import re
import shutil
import sqlite3
import sys
import tempfile
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, NamedTuple, TypedDict, TypeVar

import attrs
import pydantic

import xcargo

__all__ = ["HEADINGS", "PAGE", "examples", "names"]

_MODULES = {
    "bigquery": "google.cloud.bigquery",
    "np": "numpy",
    "pa": "pyarrow",
    "pd": "pandas",
    "pl": "polars",
    "xr": "xarray",
}
_PACKAGES = ("PIL.Image", "pendulum", "pytz", "scipy.sparse", "sqlalchemy.engine")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "types.md"
HEADINGS = (
    "Built-in and standard types",
    "numpy",
    "Tables",
    "Scientific libraries",
    "Rows of databases",
    "Classes of your own",
    "Files, folders and streams",
)


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


@attrs.define
class Parcel:
    place: Point
    orders: list[Order]


class Invoice(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    order: Order | None
    total: Decimal
    _sent: bool = pydantic.PrivateAttr(default=False)


Item = TypeVar("Item")


class Page(pydantic.BaseModel, Generic[Item]):
    items: list[Item]


class Label(TypedDict):
    text: str
    count: int


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
    classes = (Colour, Level, Point, Order, Parcel, Invoice, Page, Label)
    found: dict[str, Any] = {"re": re, "xcargo": xcargo} | {cls.__name__: cls for cls in classes}
    found["folder"] = _folder()
    found["path"] = found["folder"] / "a.csv"
    for name, module in _MODULES.items():
        found[name] = importlib.import_module(module)
    for module in _PACKAGES:
        importlib.import_module(module)
        found[module.partition(".")[0]] = sys.modules[module.partition(".")[0]]
    if find_spec("torch"):  # too large for each environment
        found["torch"] = importlib.import_module("torch")
    found["StandardScaler"] = importlib.import_module("sklearn.preprocessing").StandardScaler
    found["connection"] = _connection()
    all_of = ("array", "collections", "datetime", "decimal", "fractions", "ipaddress", "pathlib", "uuid", "zoneinfo")
    for module in (*all_of, "dateutil.tz", "types"):
        public = {name: part for name, part in vars(importlib.import_module(module)).items() if name[0] != "_"}
        found |= {name: part for name, part in public.items() if not isinstance(part, ModuleType)}
    return found


@cache
def _connection() -> sqlite3.Connection:
    """One for all examples: since 3.13, Python warns of each that nobody closes."""
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    return connection


@cache
def _folder() -> Path:
    """A folder with a file and a folder in it, alike in every process."""
    above = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, above, ignore_errors=True)
    folder = above / "folder"
    (folder / "deep").mkdir(parents=True)
    for path in (folder / "a.csv", folder / "deep" / "b.bin"):
        path.write_bytes(b"1,2\n" * 1000)
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    return folder
