"""Errors of values that cannot be stored: the path to the part, a loop, a depth that no pull could follow."""

from __future__ import annotations

import types
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Any, NamedTuple

import attrs
import numpy as np
import pandas as pd
import pydantic
import pytest

from tests.unit.codecs.known_classes import KnownClasses
from xcargo.codecs import Registry
from xcargo.codecs.base import contiguous
from xcargo.errors import UnsupportedTypeError


@dataclass
class Box:
    v: Any


@attrs.define
class Slots:
    v: Any


class Model(pydantic.BaseModel):
    v: Any
    _hidden: Any = pydantic.PrivateAttr(default=None)


class Pair(NamedTuple):
    x: Any
    y: Any


REGISTRY = Registry(classes=KnownClasses(__name__), entry_points=False)


def odd() -> None:
    """What no codec takes."""


def hiding(value: Any) -> Model:
    model = Model(v=1)
    model._hidden = value
    return model


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"rows": [1, 2, 3, odd]}, "value['rows'][3]"),
        ([{"a": (1, {2: odd})}], "value[0]['a'][1][2]"),
        ({"big": [0] * 300, "x": {"y": odd}}, "value['x']['y']"),
        (Box([1, odd]), "value.v[1]"),
        ({"k": [Box(Slots({"z": odd}))]}, "value['k'][0].v.v['z']"),
        (Model(v=[odd]), "value.v[0]"),
        (hiding(odd), "value._hidden"),
        ([Pair(1, odd)], "value[0].y"),
        ({"d": pd.DataFrame({"a": [1, 2], "o": [1, odd]})}, "value['d'], column 'o', row 1"),
        (pd.Series([1, 2, odd]), "value, row 2"),
        (pd.DataFrame({"q": [Box(odd)]}), "value, column 'q', row 0.v"),
        ([np.array([1, odd])], "value[0][1]"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_path_is_written_as_in_python(value: Any, path: str) -> None:
    """Through instances, frames and arrays, without a word of how they are packed."""
    with pytest.raises(UnsupportedTypeError) as caught:
        REGISTRY.encode(value)
    assert str(caught.value).startswith(f"At {path}: No codec takes a value of type function")


def looped(make: Any, fill: Any) -> Any:
    value = make()
    fill(value)
    return value


@pytest.mark.parametrize(
    ("value", "paths"),
    [
        (looped(list, lambda v: v.extend([1, {"a": v}])), "value[1]['a'] is value again"),
        ({"x": looped(lambda: Box(None), lambda v: setattr(v, "v", (v,)))}, "value['x'].v[0] is value['x'] again"),
        (looped(lambda: Model(v=1), lambda v: setattr(v, "v", {"x": v})), "value.v['x'] is value again"),
        (looped(types.SimpleNamespace, lambda v: setattr(v, "a", v)), "value.a is value again"),
        (looped(deque, lambda v: v.append(v)), "value[0] is value again"),
        (looped(OrderedDict, lambda v: v.update(a=[v])), "value['a'][0] is value again"),
    ],
    ids=str,
)
def test_a_value_that_refers_to_itself_is_refused_with_both_paths(value: Any, paths: str) -> None:
    """Both ends of the loop."""
    with pytest.raises(UnsupportedTypeError, match="refers to itself") as caught:
        REGISTRY.encode(value)
    assert paths in str(caught.value)


def array_of(value: Any) -> Any:
    array = np.empty(1, object)
    array[0] = value
    return array


def frame_of(value: Any) -> Any:
    frame = pd.DataFrame({"o": pd.Series([None], dtype=object)})
    frame.attrs["inner"] = value
    return frame


@pytest.mark.parametrize("wrap", [Box, Slots, lambda v: Pair(v, 1), lambda v: Model.model_construct(v=v), array_of])
def test_what_can_be_pushed_can_be_pulled(wrap: Any) -> None:
    """Instances and arrays in one another: 64 levels there and back, more are refused when they are pushed."""
    value: Any = 0
    for _ in range(64):
        value = wrap(value)
    encoded = REGISTRY.encode(value)
    back = REGISTRY.decode(encoded.codec, bytes(contiguous(encoded)), dict(encoded.params))
    assert type(back) is type(value)
    for levels in (65, 150, 500 if wrap is array_of else 10_000):  # numpy itself dies of freeing so many
        value = 0
        for _ in range(levels + 1):
            value = wrap(value)
        with pytest.raises(UnsupportedTypeError, match="nested too deeply"):
            REGISTRY.encode(value)


@pytest.mark.parametrize("make", [lambda: looped(lambda: frame_of(0), lambda v: v.attrs.update(inner=[v])), None])
def test_a_loop_through_a_frame_or_an_array_is_refused(make: Any) -> None:
    """Whatever the way round, it is an error of ours."""
    value = make() if make else looped(lambda: array_of(0), lambda v: v.fill([v]))
    with pytest.raises(UnsupportedTypeError, match=r"refers to itself|too deeply"):
        REGISTRY.encode(value)
