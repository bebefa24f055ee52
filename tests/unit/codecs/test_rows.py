"""Named tuples, of classes that can be had and of others."""

from __future__ import annotations

import copy
import logging
import pickle
import shutil
import urllib.parse
from collections import namedtuple
from typing import Any, NamedTuple

import pytest

from tests.unit.codecs.known_classes import KnownClasses
from tests.unit.codecs.test_objects import round_trip
from xcargo.airflow.classes import AirflowClasses
from xcargo.codecs import Registry
from xcargo.errors import DecodeError, UnsupportedTypeError
from xcargo.testing import round_trip_in_fresh_process


class Point(NamedTuple):
    x: int
    y: int = 0

    def length(self) -> int:
        return self.x + self.y


def made_here() -> list[Any]:
    """Rows of classes that nobody can import, as hooks of databases make them."""
    Row = namedtuple("Row", ["id", "class", "_x", "id"], rename=True)  # noqa: PYI024

    class Local(NamedTuple):
        value: Any

    return [Row(1, 2, 3, 4), Local((Row(1, 2, 3, 4), {2})), Local(None)]


@pytest.fixture
def registry() -> Registry:
    """Codecs with a class of this module on the allow-list, and no other."""
    return Registry(classes=KnownClasses(__name__), entry_points=False)


ROWS = [*made_here(), urllib.parse.urlparse("http://a/b?c"), shutil.disk_usage("/")]


def test_a_named_tuple_of_any_class_comes_back_with_its_name_and_fields() -> None:
    """From another process, which has nothing of the class and may import nothing."""
    registry = Registry(classes=KnownClasses(), entry_points=False)
    for row, back in zip(ROWS, round_trip_in_fresh_process(registry.codec("object"), ROWS), strict=True):
        assert (type(back).__name__, back._asdict()) == (type(row).__name__, row._asdict())
        for twin in (pickle.loads(pickle.dumps(back)), copy.deepcopy(back), round_trip([back], registry)[0]):
            assert twin == row
            assert type(twin) is type(back)


def test_an_allowed_class_is_that_class(registry: Registry) -> None:
    """With its methods."""
    back = round_trip([Point(1, 2)], registry)
    assert back[0].length() == 3


def test_a_class_that_may_not_be_rebuilt_is_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Once, with the setting that gives the class back."""
    registry = Registry(classes=AirflowClasses(), entry_points=False)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert round_trip([urllib.parse.urlsplit("http://a/b")], registry) == [("http", "a", "/b", "", "")]
    (line,) = [line for line in caplog.messages if "urllib.parse" in line and "SplitResult" in line]
    assert "ALLOWED_DESERIALIZATION_CLASSES='airflow.* urllib.parse.SplitResult'" in line


def test_a_class_that_has_other_fields_by_now_is_an_error(registry: Registry) -> None:
    payload = registry.tree.pack(["namedtuple", f"{__name__}:Point", {"x": 1}])
    with pytest.raises(DecodeError, match="has changed"):
        registry.decode("object", payload, {})


class Noted(Point):
    """It has a dictionary."""


def test_state_beside_the_fields_needs_the_class_itself() -> None:
    """An equal class has no place for it; without any it is as good."""
    registry = Registry(classes=KnownClasses(), entry_points=False)
    noted: Any = Noted(1)
    assert round_trip(noted, registry) == noted
    noted.note = "x"
    with pytest.raises(DecodeError, match="may not be rebuilt"):
        round_trip(noted, registry)

    class Local(Point):
        pass

    local: Any = Local(1)
    assert round_trip(local, registry) == local
    local.note = "x"
    with pytest.raises(UnsupportedTypeError, match="inside a function"):
        registry.encode(local)


def test_a_class_of_odd_fields_that_nobody_can_import_is_refused(registry: Registry) -> None:
    """When it is pushed: no class of named tuples has such a field."""
    Odd = type("Odd", (tuple,), {"_fields": ("count(*)",), "_make": None})
    with pytest.raises(UnsupportedTypeError, match="Odd cannot be imported"):
        registry.encode(Odd((1,)))


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("import os", {"a": 1}),
        ("Row", {"a b": 1}),
        ("Row", {"__class__": 1}),
        ("Row", {"_fields": 1}),
        ("Row", {"a=print()": 1}),
        ("lambda", {"a": 1}),
        ("Row", {1: 1}),
        ("Row", [1]),
        ("Row", None),
        ("a:b.lambda", {"a": 1}),
        ("Row", {f"f{n}": n for n in range(10_001)}),
    ],
    ids=lambda part: str(part)[:20],
)
def test_a_forged_named_tuple_is_a_decode_error(registry: Registry, name: str, state: Any) -> None:
    payload = registry.tree.pack(["namedtuple", name, state])
    with pytest.raises(DecodeError):
        registry.decode("object", payload, {})
