"""Values that must come back as they were, and what that means."""

from __future__ import annotations

import math
import threading
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from importlib.util import find_spec
from typing import Any, ClassVar
from uuid import UUID

import airflow

__all__ = ["LARGE", "PLAIN", "TABLES", "VALUES", "Probe", "alike", "large"]

PLAIN: dict[str, Any] = {
    "none": None,
    "true": True,
    "integer": 42,
    "float": 0.1,
    "text": "grüße, 世界",
    "text_like_json": '{"a": 1}',
    "text_like_number": "123",
    "text_like_path": "s3://bucket/prefix/object.json",
    "empty_list": [],
    "nested": {"a": [1, 2.5, None, {"b": ["c", {}]}]},
}
"""What a row holds as it is."""

VALUES: dict[str, Any] = {
    "tuple": (1, (2, [3, (4,)])),
    "set": {1, 2, 3},
    "frozenset": frozenset(("a", "b")),
    "not_a_number": math.nan,
    "infinities": [math.inf, -math.inf],
    "minus_zero": -0.0,
    "beyond_64_bits": [2**70, -(2**70)],
    "lone_surrogate": "a\ud800b",
    "nul": "a\0b",
    "bytes": b"\x00\xff",
    "naive_datetime": datetime(2026, 1, 2, 3, 4, 5, 678901),
    "aware_datetime": datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
    "offset_datetime": datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2))),
    "date": date(2026, 1, 2),
    "timedelta": timedelta(days=1, microseconds=1),
    "decimal": Decimal("3.14159265358979323846"),
    "uuid": UUID(int=1),
    "integer_keys": {1: "a", "1": "b"},
    "none_key": {None: 1},
    "all_nested": {"a": [(1, {2}), {"b": b"c", "d": math.inf, "e": [datetime(2026, 1, 1), "\0", 2**64]}]},
}
"""What JSON, the transport or a metadata database would change or refuse."""

TABLES: dict[str, Any] = {}
"""Tables, where there is a library for them: pandas registers what these need only when it is used."""

if find_spec("pandas") is not None and find_spec("pyarrow") is not None:
    import pandas as pd

    days = pd.date_range("2026-01-01", periods=2, tz="Europe/Paris")
    TABLES |= {
        "periods": pd.DataFrame({"p": pd.period_range("2026-01", periods=2, freq="M"), "n": [1, 2]}),
        "zoned_intervals": pd.Series(pd.interval_range(days[0], periods=2), index=days),
        "labels_twice": pd.DataFrame([[9, 1, 2], [8, 3, 4]], columns=["a", "b", "b"]).groupby("a").describe(),
    }

if airflow.__version__.startswith("3.0."):
    VALUES["none"] = PLAIN.pop("none")  # 3.0's client posts a row of None without a body, which its API refuses

LARGE = "x" * 5_000


def large(number: int) -> dict[str, Any]:
    """A value far above the threshold, told apart by its number."""
    return {"number": number, "padding": LARGE}


def alike(one: Any, other: Any) -> bool:
    """Whether two values are equal and of the same type, at every depth; NaN is alike to NaN, 0.0 not to -0.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return (math.isnan(one) and math.isnan(other)) or (
            one == other and math.copysign(1.0, one) == math.copysign(1.0, other)
        )
    if hasattr(one, "equals"):  # of pandas
        return bool(one.equals(other)) and str(one) == str(other)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, dict):
        return len(one) == len(other) and all(
            alike(key, other_key) and alike(item, other_item)
            for (key, item), (other_key, other_item) in zip(one.items(), other.items())
        )
    if isinstance(one, datetime):
        return one == other and one.utcoffset() == other.utcoffset()
    if isinstance(one, (set, frozenset)):
        return one == other and {type(item) for item in one} == {type(item) for item in other}
    return bool(one == other)


class Probe:
    """A user's class that remembers on which threads it was taken apart and put together."""

    __version__: ClassVar[int] = 1
    serialized_on: ClassVar[list[int]] = []
    deserialized_on: ClassVar[list[int]] = []

    def __init__(self, number: int) -> None:
        self.number = number

    def serialize(self) -> dict[str, Any]:
        self.serialized_on.append(threading.get_ident())
        return large(self.number)

    @staticmethod
    def deserialize(data: dict[str, Any], version: int) -> Probe:
        Probe.deserialized_on.append(threading.get_ident())
        return Probe(data["number"])
