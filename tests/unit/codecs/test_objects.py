"""Instances of users' classes, and what may be rebuilt."""

from __future__ import annotations

import dataclasses
import enum
import functools
import operator
import typing
from collections import namedtuple
from collections.abc import Sequence
from typing import Any, Generic, Literal, NamedTuple, Optional, TypeVar

import attrs
import pydantic
import pytest
from airflow.exceptions import AirflowException

from tests.unit.codecs.known_classes import KnownClasses
from xcargo.airflow.classes import AirflowClasses
from xcargo.airflow.serde_codec import SerdeCodec
from xcargo.codecs import Codec, Registry
from xcargo.codecs.base import contiguous
from xcargo.errors import DecodeError, UnsupportedTypeError
from xcargo.model.settings import Settings
from xcargo.testing import CodecTests


class Color(enum.Enum):
    RED = "r"
    ROSE = "r"  # noqa: PIE796 - an alias is what is tested


class Level(str, enum.Enum):
    LOW = "low"


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: int
    y: tuple[int, ...] = ()


Pair = namedtuple("Pair", "a b")  # noqa: PYI024


@dataclasses.dataclass(frozen=True)
class Inner:
    when: Any
    hidden: list[int] = dataclasses.field(default_factory=list, init=False)


@dataclasses.dataclass(slots=True)
class Outer:
    inner: Inner
    color: Color = Color.RED


@attrs.frozen
class Part:
    name: str
    size: int | None = None


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    name: str
    items: tuple[int, ...] = ()
    _secret: int = pydantic.PrivateAttr(default=0)


def a_model() -> Model:
    model = Model.model_validate({"name": "n", "items": (1, 2), "more": {"k": (1,)}})
    model._secret = 7
    return model


VALUES: tuple[Any, ...] = (
    Color.ROSE,
    Level.LOW,
    Access.READ | Access.WRITE,
    Point(1, (2, 3)),
    Pair({1: 2}, b"x"),
    Outer(Inner((1, {2})), Color.RED),
    Part("p", None),
    a_model(),
)


class TestObjects(CodecTests):
    """Every kind of class, state and nesting."""

    VALUES: Sequence[Any] = VALUES

    @pytest.fixture
    def codec(self) -> Codec:
        return Registry(classes=KnownClasses(__name__)).codec("object")


def round_trip(value: Any, registry: Registry) -> Any:
    encoded = registry.encode(value)
    return registry.decode(encoded.codec, contiguous(encoded), encoded.params)


@pytest.fixture
def registry() -> Registry:
    """Codecs as Airflow gets them."""
    return Registry(classes=AirflowClasses(), fallbacks=[SerdeCodec])


@pytest.fixture
def allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow's allow-list admits this module's classes."""
    monkeypatch.setenv("AIRFLOW__CORE__ALLOWED_DESERIALIZATION_CLASSES", "airflow.* tests.unit.codecs.test_objects.*")


@pytest.mark.usefixtures("allowed")
def test_instances_live_anywhere_in_a_value(registry: Registry) -> None:
    """Nested instances keep their class: lists, keys, fields of others."""
    value = {"all": list(VALUES), Point(1): {Part("k"): Outer(Inner(Point(5)))}}
    assert round_trip(value, registry) == value


@pytest.mark.usefixtures("allowed")
def test_fields_that_a_constructor_does_not_take_come_back(registry: Registry) -> None:
    """State is restored, not computed again."""
    inner = Inner(1)
    inner.hidden.append(5)
    assert round_trip(inner, registry).hidden == [5]
    assert round_trip(a_model(), registry)._secret == 7


def test_a_class_outside_the_allow_list_is_refused_with_the_value_to_add(registry: Registry) -> None:
    """The error holds the exact setting, what was there included."""
    with pytest.raises(DecodeError) as caught:
        round_trip(Part("p"), registry)
    assert "AIRFLOW__CORE__ALLOWED_DESERIALIZATION_CLASSES='airflow.* tests.unit.codecs.test_objects.Part'" in str(
        caught.value
    )


def test_an_allow_list_by_regular_expression_counts(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow's second setting admits too."""
    monkeypatch.setenv("AIRFLOW__CORE__ALLOWED_DESERIALIZATION_CLASSES_REGEXP", r"tests\.unit\..*\.Part")
    assert round_trip(Part("p"), registry) == Part("p")


@pytest.mark.usefixtures("allowed")
@pytest.mark.parametrize("name", ["Gone", "pytest", "VALUES", "a_model"])
def test_a_name_without_a_class_is_an_error(registry: Registry, name: str) -> None:
    """A vanished class, a module, a value or a function under the name is refused."""
    payload = registry.codec("msgpack").encode(["dataclass", f"tests.unit.codecs.test_objects:{name}", {}])
    with pytest.raises(DecodeError, match=name):
        registry.decode("object", contiguous(payload), {})


@pytest.mark.usefixtures("allowed")
def test_a_class_that_changed_its_fields_is_an_error(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Old state is not poured into a new class."""
    encoded = registry.encode(Part("p"))

    @attrs.frozen
    class Part2:
        name: str
        weight: float

    monkeypatch.setitem(globals(), "Part", Part2)
    with pytest.raises(DecodeError, match="changed"):
        registry.decode(encoded.codec, contiguous(encoded), encoded.params)


def test_a_class_that_no_other_process_can_import_is_refused_when_it_is_pushed(registry: Registry) -> None:
    """A local class."""

    @dataclasses.dataclass
    class Local:
        x: int

    with pytest.raises(UnsupportedTypeError, match="inside a function"):
        registry.encode(Local(1))


@dataclasses.dataclass
class Growing:
    size: int

    def __post_init__(self) -> None:
        self.history = [("made", self.size)]

    @functools.cached_property
    def double(self) -> int:
        return 2 * self.size


class Slotted:
    __slots__ = ("__inner", "outer")

    def fill(self) -> None:
        self.__inner, self.outer = (1,), {2}

    def content(self) -> Any:
        return self.__inner, self.outer


@dataclasses.dataclass
class OnSlots(Slotted):
    size: int = 0


class Place(Point):
    """A named tuple with a dictionary."""


@attrs.define(cache_hash=True, frozen=True)
class Hashed:
    name: str


T = TypeVar("T")


@dataclasses.dataclass
class Box(Generic[T]):
    content: T


class Computing(pydantic.BaseModel):
    size: int

    @functools.cached_property
    def double(self) -> int:
        return 2 * self.size


class Page(pydantic.BaseModel, Generic[T]):
    items: list[T]
    total: int = 0


class Orders(Page[Point]):
    pass


class Function(enum.Enum):
    FIRST = operator.itemgetter(0)


@pytest.mark.usefixtures("allowed")
def test_state_beyond_the_fields_comes_back(registry: Registry) -> None:
    """What a method set, slots of a base class, the dictionary of a named tuple's subclass."""
    growing = Growing(2)
    growing.history.append(("grown", 3))
    assert vars(round_trip(growing, registry)) == vars(growing)
    slotted = OnSlots()
    slotted.fill()
    assert round_trip(slotted, registry).content() == slotted.content()
    place: Any = Place(1)
    place.note = {"a": (1,)}
    assert vars(round_trip(place, registry)) == {"note": {"a": (1,)}}


@pytest.mark.usefixtures("allowed")
def test_what_a_class_computes_is_computed_again(registry: Registry) -> None:
    """Cached properties and hashes are no state, nor are type arguments."""
    for value in (Growing(2), Computing(size=2)):
        assert value.double == 4
        back = round_trip(value, registry)
        assert back == value
        assert "double" not in vars(back)
        assert back.double == 4
    hashed = Hashed("x")
    assert hash(round_trip(hashed, registry)) == hash(hashed)
    assert round_trip(Box[int](1), registry) == Box(1)


@pytest.mark.usefixtures("allowed")
@pytest.mark.parametrize(
    "model",
    [
        Page[int](items=[1]),
        Page[Point](items=[Point(1)]),
        Page[Page[list[Point]]](items=[Page[list[Point]](items=[[Point(1)]], total=1)]),
        Page[dict[str, Color]](items=[{"a": Color.RED}]),
        Page[typing.List[Point]](items=[[Point(1)]]),  # noqa: UP006 - another class than that of list[Point]
        Page[typing.Mapping[str, typing.Sequence[int]]](items=[{"a": [1]}]),
        Page[int | None](items=[None]),
        Page[Optional[Point]](items=[None, Point(1)]),  # noqa: UP045 - another class than that of Point | None
        Page[Any](items=[1, Point(1)]),
        Page(items=[1, "a"]),
        Orders(items=[Point(2)]),
    ],
    ids=str,
)
def test_a_generic_model_is_of_the_same_class_again(registry: Registry, model: Any) -> None:
    """Page[Point], whose name no module knows, and its like."""
    encoded = registry.encode(model)
    back = registry.decode(encoded.codec, bytes(contiguous(encoded)), dict(encoded.params))
    assert back == model
    assert type(back) is type(model)


def test_a_generic_model_of_what_is_no_class_is_refused(registry: Registry) -> None:
    """When it is pushed, with a way out: no pull could make it again."""
    with pytest.raises(UnsupportedTypeError, match="not a class") as caught:
        registry.encode(Page[Literal["yes"]](items=["yes"]))
    assert "class Answers(" in str(caught.value)


@pytest.mark.usefixtures("allowed")
def test_the_arguments_of_a_generic_model_have_to_be_allowed_too(registry: Registry) -> None:
    """Each is a class that is imported."""
    body = ["pydantic", f"{__name__}:Page", {}, ["os:PathLike"]]
    payload = registry.tree.pack(body)
    with pytest.raises(DecodeError, match=r"os\.PathLike may not be rebuilt"):
        registry.decode("object", payload, {})


def test_what_airflow_writes_and_would_not_read_is_refused(registry: Registry) -> None:
    """Its exceptions and triggers have a method by which they are serialized, and none for the way back."""
    with pytest.raises(UnsupportedTypeError, match=r"a value of type airflow\..*AirflowException. Return str\(value\)"):
        registry.encode(AirflowException("no orders"))


@pytest.mark.usefixtures("allowed")
def test_a_member_is_found_by_its_name_when_its_value_is_no_data(registry: Registry) -> None:
    """An enumeration of functions."""
    assert round_trip({"f": Function.FIRST}, registry) == {"f": Function.FIRST}


@dataclasses.dataclass
class Late:
    def __new__(cls, size: int) -> Any:
        return super().__new__(cls)

    size: int


class Unusual(enum.Enum):
    ONE = 1

    @property
    def value(self) -> int:
        raise RuntimeError


class Long(Point):
    __slots__ = ()

    def __len__(self) -> int:
        return 9


@pytest.mark.usefixtures("allowed")
@pytest.mark.parametrize("value", [Late(5), Unusual.ONE, Long(1)], ids=lambda value: type(value).__name__)
def test_what_a_class_does_with_its_instances_does_not_matter(registry: Registry, value: Any) -> None:
    """To what is stored of them and how they are made again. (A packer ends the process for such an enum.)"""
    for wrapped in ([value], {1: value, "b": bytearray(b"x")}, [{"a": value, "b": b"x"}]):
        back = round_trip(wrapped, registry)
        assert repr(back) == repr(wrapped)


class Shy:
    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


class Hidden:
    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise RuntimeError


class Strange(type):
    def __hash__(cls) -> int:
        raise RuntimeError


class OfStrange(metaclass=Strange):
    pass


def numbered() -> Growing:
    growing = Growing(1)
    growing.__dict__[5] = 1  # type: ignore[index]
    return growing


def homeless() -> Any:
    return type("Homeless", (Growing,), {"__module__": "a_module_that_is_gone"})(1)


@pytest.mark.parametrize(
    "make",
    [
        *(Shy, Hidden, OfStrange, numbered, homeless),
        *(lambda: tuple.__new__(Point, (1,)), lambda: tuple.__new__(Point, (1, 2, 3))),
    ],
    ids=["attributes", "class", "hash", "number", "module", "short", "long"],
)
@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: [1, value], lambda value: {1: value, 2: b"x"}])
def test_what_a_class_raises_is_a_refusal(registry: Registry, make: Any, wrap: Any) -> None:
    """And so is what no class could take back."""
    with pytest.raises(UnsupportedTypeError):
        registry.encode(wrap(make()))


@dataclasses.dataclass
class Both(dict):  # type: ignore[type-arg]
    size: int = 1


@dataclasses.dataclass
class Failure(Exception):
    size: int = 1


@pytest.mark.parametrize("value", [Both(), Failure()], ids=["dict", "exception"])
def test_a_class_whose_content_is_no_attribute_is_refused(registry: Registry, value: Any) -> None:
    """Its fields alone would come back, and Airflow would do no better."""
    with pytest.raises(UnsupportedTypeError, match="is also a"):
        registry.encode([value])


@pytest.mark.usefixtures("allowed")
def test_a_model_that_has_got_a_field_since_is_an_error(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather than left without it."""
    encoded = registry.encode(Computing(size=1))

    class More(pydantic.BaseModel):
        size: int
        weight: float = 0

    monkeypatch.setitem(globals(), "Computing", More)
    with pytest.raises(DecodeError, match="changed"):
        registry.decode(encoded.codec, contiguous(encoded), encoded.params)


@pytest.mark.usefixtures("allowed")
@pytest.mark.parametrize(
    "body",
    [
        ["dataclass", "tests.unit.codecs.test_objects:Box", {"content": 1}, ["x"]],
        ["enum", "tests.unit.codecs.test_objects:Color", ["RED", "r"], {"a": 1}],
        ["enum", "tests.unit.codecs.test_objects:Color", 5],
        ["pydantic", "tests.unit.codecs.test_objects:Computing", {}],
        ["pydantic", "tests.unit.codecs.test_objects:Computing", {}, ["builtins:int"]],
        ["pydantic", "tests.unit.codecs.test_objects:Page", {}, ["builtins:int", "builtins:int"]],
        ["pydantic", "tests.unit.codecs.test_objects:Page", {}, [["builtins:int", [7]]]],
        ["pydantic", "tests.unit.codecs.test_objects:Page", {}, [7]],
        ["enum", "tests.unit.codecs.test_objects:Color", ["RED", None], []],
        [["dataclass"], "tests.unit.codecs.test_objects:Box", {}],
        ["nonsense", "tests.unit.codecs.test_objects:Box", {}],
    ],
)
def test_a_forged_body_is_a_decode_error(registry: Registry, body: Any) -> None:
    """Nothing else escapes."""
    payload = registry.codec("msgpack").encode(body)
    with pytest.raises(DecodeError):
        registry.decode("object", contiguous(payload), {})


class Sly(list):  # type: ignore[type-arg]
    pass


@pytest.mark.parametrize("value", [Sly([1]), object(), lambda: 0, Sly], ids=["subclass", "object", "function", "class"])
def test_nothing_comes_back_as_another_type_in_silence(registry: Registry, value: Any) -> None:
    """What neither we nor Airflow can restore exactly is refused when it is pushed."""
    strict = Settings(root=None, strict_types=True)
    with pytest.raises(UnsupportedTypeError):
        registry.encode(value, strict)
    with pytest.raises(UnsupportedTypeError):
        registry.encode({"nested": [value]}, strict)
