"""Classes of the golden rows: their names and fields stay as they are."""

from __future__ import annotations

import enum
import sqlite3
from collections import namedtuple
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import attrs
import pydantic
import sklearn.base

T = TypeVar("T")

Point = namedtuple("Point", "x y")  # noqa: PYI024


class Colour(enum.Enum):
    RED = "red"


class Access(enum.Flag):
    READ = 1
    WRITE = 2


@dataclass(frozen=True)
class Order:
    number: str
    place: Point
    parts: list[Any] = field(default_factory=list)


@attrs.define
class Parcel:
    order: Order
    weight: float = 0.0


class Scaler(sklearn.base.BaseEstimator):  # type: ignore[misc]
    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor


class Page(pydantic.BaseModel, Generic[T]):
    model_config = pydantic.ConfigDict(extra="allow", arbitrary_types_allowed=True)
    items: list[T]
    _seen: bool = pydantic.PrivateAttr(default=False)


def page() -> Page[Parcel]:
    """A model with a private attribute and an extra one."""
    page = Page[Parcel](items=[Parcel(Order("A-1", Point(1, (2,)), [Colour.RED]), 2.5)], more={1: 2})  # type: ignore[call-arg]
    page._seen = True
    return page


def sqlite_rows() -> list[sqlite3.Row]:
    """Two rows whose columns have one name."""
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    rows = connection.execute("SELECT 1 AS a, 'x' AS a UNION SELECT 2, NULL").fetchall()
    connection.close()
    return rows
