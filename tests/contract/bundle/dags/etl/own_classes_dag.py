"""A Dag whose file defines the classes that its tasks return, as people write it first."""

from __future__ import annotations

import dataclasses
import enum
from datetime import datetime
from typing import Any, NamedTuple

import attrs
import pydantic
from own_models import Address

try:
    from airflow.sdk import dag, task
except ImportError:
    from airflow.decorators import dag, task


class Pair(NamedTuple):
    x: int
    y: tuple[int, ...]


class Colour(enum.Enum):
    RED = "r"


@dataclasses.dataclass
class Order:
    @dataclasses.dataclass(frozen=True)
    class Line:
        text: str

    id: int
    lines: list[Line]


@attrs.frozen
class Parcel:
    order: Order


class Invoice(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    order: Order
    address: Address


def values() -> list[Any]:
    order = Order(7, [Order.Line("a"), Order.Line("b")])
    address = Address(street="s")
    line, parcel = order.lines[0], Parcel(order)
    return [order, line, Pair(1, (2,)), Colour.RED, parcel, Invoice(order=order, address=address), address]


@dag(schedule=None, start_date=datetime(2024, 1, 1), catchup=False)
def own_classes() -> None:
    @task
    def give() -> Any:
        return values()

    @task
    def take(value: Any) -> None:
        assert value == values()
        assert [type(one) for one in value] == [type(one) for one in values()]

    take(give())


own_classes()
