"""Values that no codec takes, stored as the built-in values that they equal."""

from __future__ import annotations

import dataclasses
import itertools
import json
import types
import uuid
from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, UserString, defaultdict, deque
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, NamedTuple

import pytest
from dateutil.tz import tzlocal
from typing_extensions import Self

from tests.unit.codecs.known_classes import KnownClasses
from tests.unit.codecs.test_tree import same
from xcargo.airflow.serde_codec import SerdeCodec
from xcargo.codecs import Registry
from xcargo.codecs.base import contiguous
from xcargo.errors import SizeLimitError, UnsupportedTypeError
from xcargo.model.settings import Settings

REGISTRY = Registry(classes=KnownClasses(__name__), fallbacks=[SerdeCodec], entry_points=False)


class Point(NamedTuple):
    a: int
    b: int


@dataclasses.dataclass
class Held:
    chunks: Any


class Text(str):
    """With a content of its own to show, as lxml's texts have attributes."""

    __slots__ = ("parent",)

    def __str__(self) -> str:
        return "shown"


class Folded(Text):
    """Equal to what other texts are not."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


class Number(int):
    def __int__(self) -> int:
        return 7


class Real(float):
    pass


class Blob(bytes):
    pass


class Buffer(bytearray):
    pass


class Row(OrderedDict[Any, Any]):
    """As psycopg2's RealDictRow."""


class Sorted(dict[Any, Any]):
    """As of sortedcontainers: in an order of its own."""

    def __iter__(self) -> Iterator[Any]:
        return iter(sorted(super().__iter__()))

    def items(self) -> Any:
        return [(key, self[key]) for key in self]


class Lazy(dict[Any, Any]):
    """A dict whose content is elsewhere."""

    def items(self) -> Any:
        return {"a": 1}.items()


class Rows(list[Any]):
    pass


class Pair(tuple[Any, ...]):
    __slots__ = ()


class Tags(set[Any]):
    pass


class Frozen(frozenset[Any]):
    pass


class Queue(deque[Any]):
    pass


def moved() -> Row:
    row = Row(a=1, b=2)
    row.move_to_end("a")
    return row


class Groups(Iterator[Any]):
    """As polars' GroupBy: iterating over it begins anew."""

    def __iter__(self) -> Self:
        self._groups = iter([("a", [1]), ("b", [2])])
        return self

    def __next__(self) -> Any:
        return next(self._groups)


def noted(value: Any) -> Any:
    value.note = "an attribute"
    return value


SUBSTITUTES: dict[str, tuple[Any, Any]] = {
    "str": (Text("a"), "a"),
    "surrogate": (Text("\ud800"), "\ud800"),
    "int": (Number(3), 3),
    "huge": (Number(10**40), 10**40),
    "float": (Real("-inf"), float("-inf")),
    "bytes": (Blob(b"ab"), b"ab"),
    "bytearray": (Buffer(b"ab"), bytearray(b"ab")),
    "list": (Rows([1, Rows([Text("a")])]), [1, ["a"]]),
    "dict": (Row(a=Row(b=(1, {2}))), {"a": {"b": (1, {2})}}),
    "order": (moved(), {"b": 2, "a": 1}),
    "own order": (Sorted(b=1, a=2), {"a": 2, "b": 1}),
    "keys": ({Text("a"): 1, "b": {Text("c"): 2}}, {"a": 1, "b": {"c": 2}}),
    "mixed keys": ({Text("a"): 1, 2: 3, Number(4): 5}, {"a": 1, 2: 3, 4: 5}),
    "tuple": (Pair((1, Pair())), (1, ())),
    "set": (Tags({1}), {1}),
    "frozenset": (Frozen({1}), frozenset({1})),
    "deque": (Queue([1], 3), deque([1], 3)),
    "uuid": (type("UUID", (uuid.UUID,), {})(int=5), uuid.UUID(int=5)),
    "moment": (
        type("Stamp", (datetime,), {})(2026, 1, 2, tzinfo=timezone.utc),
        datetime(2026, 1, 2, tzinfo=timezone.utc),
    ),
    "day": ({type("Day", (date,), {})(2026, 1, 2): 1}, {date(2026, 1, 2): 1}),
    "span": ([type("Span", (timedelta,), {})(1, 2, 3)], [timedelta(1, 2, 3)]),
    "decimal": (type("Amount", (Decimal,), {})("1.50"), Decimal("1.50")),
    "factory": (defaultdict(lambda: 1, {"a": {1: 2}}), {"a": {1: 2}}),
    "attributes": ([noted(Counter("aab")), noted(OrderedDict(a=1))], [{"a": 2, "b": 1}, {"a": 1}]),
    "UserDict": (UserDict({"a": bytearray(b"x")}), {"a": bytearray(b"x")}),
    "UserList": (UserList([1, (2,)]), [1, (2,)]),
    "UserString": (UserString("a"), "a"),
    "ChainMap": (ChainMap({"a": 1}, {"a": 2, "b": Row()}), {"a": 1, "b": {}}),
    "mappingproxy": (types.MappingProxyType({1: 2}), {1: 2}),
    "views": ([{"a": 1}.keys(), {"a": 1}.values(), OrderedDict(a=1).items()], [["a"], [1], [("a", 1)]]),
    "views of others": ([UserDict({"a": 1}).keys(), ChainMap({"a": 1}).values()], [["a"], [1]]),
    "map": (map(str, range(2000)), [str(n) for n in range(2000)]),
    "zip": ([zip("ab", [1, 2], strict=True)], [[("a", 1), ("b", 2)]]),
    "iterators": ([filter(None, [0, 1]), enumerate("a"), iter((1,)), reversed([1, 2])], [[1], [(0, "a")], [1], [2, 1]]),
    "groups": (itertools.groupby("aab"), [("a", ["a", "a"]), ("b", ["b"])]),
    "groups that begin anew": (Groups(), [("a", [1]), ("b", [2])]),
    "generator": ({"rows": (Row(n=n) for n in range(3))}, {"rows": [{"n": 0}, {"n": 1}, {"n": 2}]}),
    "generator of text": ((Text(n) for n in "ab"), ["a", "b"]),
    "beside what is packed in another way": ([map(str, [1]), {1: Row({(1,): 2})}], [["1"], {1: {(1,): 2}}]),
}


def round_trip(value: Any, **options: Any) -> Any:
    encoded = REGISTRY.encode(value, Settings(root=None, **options))
    return REGISTRY.decode(encoded.codec, bytes(contiguous(encoded)), json.loads(json.dumps(dict(encoded.params))))


@pytest.mark.parametrize(("value", "built_in"), SUBSTITUTES.values(), ids=SUBSTITUTES)
def test_what_equals_a_built_in_value_is_stored_as_that(value: Any, built_in: Any) -> None:
    """With the content that the built-in type sees, at any depth, in order, and with the types of what is in it."""
    assert same(round_trip(value), built_in)


def test_the_log_names_each_class_and_its_first_place_once(caplog: pytest.LogCaptureFixture) -> None:
    """One line for a push, however many values of a class there are; none where all is stored as it is."""
    round_trip({"rows": [{"n": 1}, Row(text=Text("a")), Row(text=Text("b"))], 7: map(str, "a")})
    (line,) = caplog.messages
    module = Row.__module__
    assert f"{module}.Row as dict (value['rows'][1])" in line
    assert f"{module}.Text as str (value['rows'][1]['text'])" in line
    assert "map as list (value[7])" in line
    caplog.clear()
    round_trip([{"a": (1,)}])
    assert caplog.messages == []


def test_long_lists_are_stored_as_they_are_packed(caplog: pytest.LogCaptureFixture) -> None:
    """In chunks, with one line at the end; also if the list is of a subclass itself."""
    rows = Rows(Row(n=n, text="x" * 200, pair=(n,)) for n in range(30_000))
    encoded = REGISTRY.encode(rows)
    assert encoded.size_bytes is None
    assert caplog.messages == []
    assert REGISTRY.decode(encoded.codec, b"".join(encoded.parts), {}) == [dict(row) for row in rows]
    (line,) = caplog.messages
    assert f"{Row.__module__}.Row as dict (value[0])" in line


@pytest.mark.parametrize("name", [*SUBSTITUTES])
def test_strict_types_refuses_it(name: str) -> None:
    """Whether or not it was read before, if it is an iterator."""
    with pytest.raises(UnsupportedTypeError):
        round_trip(SUBSTITUTES[name][0], strict_types=True)


@pytest.mark.parametrize(
    "value",
    [
        Lazy(),
        {Folded("a"): 1, Folded("a"): 2},
        {Folded("a"): 1, "a": 2, 3: 4},
        {(Folded("a"),): 1, ("a",): 2},
        {Folded("a"), "a"},
        frozenset({Folded("a"), "a"}),
        OrderedDict([(Folded("a"), 1), ("a", 2)]),
        Counter({Folded("a"): 1, "a": 2}),
        defaultdict(int, {Folded("a"): 1, "a": 2}),
    ],
    ids=["content", "keys", "mixed keys", "tuples", "set", "frozenset", "OrderedDict", "Counter", "defaultdict"],
)
@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: [value, {1: bytearray(b"x")}]])
def test_what_equals_nothing_built_in_is_refused(value: Any, wrap: Any) -> None:
    """A dict that shows other content than it has; keys and members that differ although their texts do not."""
    with pytest.raises(UnsupportedTypeError, match=r"does not show|would become one"):
        round_trip(wrap(value))


def test_keys_and_members_that_stay_apart_are_kept() -> None:
    """Beside others of built-in types."""
    assert round_trip({Folded("a"), "b", (Number(1), 2)}) == {"a", "b", (1, 2)}
    assert round_trip({Folded("a"): 1, 3: 4}) == {"a": 1, 3: 4}


@pytest.mark.parametrize("wrap", [lambda items: items, lambda items: {"a": [items]}], ids=["alone", "nested"])
@pytest.mark.parametrize("limit", [0, 100_000])
def test_an_iterator_without_end_meets_the_limit(wrap: Any, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ``max_size_bytes``, or of 256 MiB (less here)."""
    monkeypatch.setattr("xcargo.codecs.substitutes._ITERATOR_BYTES", 50_000)
    with pytest.raises(SizeLimitError, match=str(limit or 50_000)):
        round_trip(wrap(itertools.count()), max_size_bytes=limit)


def test_what_an_iterator_gives_has_its_place_in_errors() -> None:
    """Counted from its beginning."""
    with pytest.raises(UnsupportedTypeError, match=r"At value\['a'\]\[5000\]\['b'\]: Neither"):
        round_trip({"a": ({"b": object()} if n == 5000 else n for n in range(6000))})


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("first", ["1", "x"])
def test_an_error_of_an_iterator_is_that_error(nested: bool, first: str) -> None:
    """As of one of bytes: its type says whether Airflow skips the task, fails it, or tries it again."""
    items = map(int, [first, "x"])
    with pytest.raises(ValueError, match="invalid literal"):
        round_trip([items] if nested else items)


LONG = ["x" * 2000] * 3000
"""Of so many items that a list is packed as it is stored."""


@pytest.mark.parametrize("beside", [bytearray(b"b"), {1: 2}, [Point(1, 2)]], ids=["bytearray", "keys", "rows"])
@pytest.mark.parametrize(
    "wrap", [lambda items: [*LONG, *LONG, items], lambda items: iter([items])], ids=["long list", "iterator"]
)
def test_bytes_of_a_generator_are_kept_where_a_value_is_packed_twice(wrap: Any, beside: Any) -> None:
    """In another way, because of what is beside it: the generator has given its bytes by then."""
    chunks = (chunk for chunk in [b"ab", b"cd"])
    first, _, second = round_trip(wrap([chunks, beside, chunks]))[-1]
    assert first.read() == second.read() == b"abcd"


@pytest.mark.parametrize("wrap", [lambda item: [*LONG, *LONG, item], lambda item: iter([item])], ids=["list", "iter"])
def test_an_instance_with_a_generator_of_bytes_is_read_again(wrap: Any) -> None:
    """Although its params are complete only at the end of its payload."""
    assert round_trip(wrap(Held(chunk for chunk in [b"ab", b"cd"])))[-1].chunks.read() == b"abcd"


@pytest.mark.parametrize(
    "wrap",
    [
        lambda chunks: [*LONG, chunks, *LONG, chunks],
        lambda chunks: [chunks, iter([chunks])],
        lambda chunks: [Held(chunks), Held(chunks)],
    ],
    ids=["long list", "iterator", "instances"],
)
def test_a_generator_of_bytes_in_parts_that_are_stored_apart_is_refused(wrap: Any) -> None:
    """The second one would be empty."""
    with pytest.raises(UnsupportedTypeError, match="gives its bytes only once"):
        round_trip(wrap(chunk for chunk in [b"ab", b"cd"]))


def test_a_generator_of_bytes_that_goes_on_with_text_is_refused() -> None:
    """Not stored as a list of what is left of it."""
    with pytest.raises(UnsupportedTypeError, match=r"At value\[0\]: A generator of str"):
        round_trip(iter([(item for item in [b"a", "b", "c"])]))


@pytest.mark.parametrize("nested", [False, True])
def test_an_error_of_a_generator_of_bytes_is_that_error(nested: bool) -> None:
    """At its first item too, wherever it is."""

    chunks = (bytes([number]) for number in [256])
    with pytest.raises(ValueError, match="range"):
        round_trip([chunks] if nested else chunks)


def test_a_timeout_inside_an_iterator_stays_one() -> None:
    """What ends a task from outside is no matter of the value."""

    def items() -> Iterator[int]:
        yield 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        round_trip({"a": items()})


def test_what_was_not_awaited_is_refused() -> None:
    """With what to do about it."""

    async def fetch() -> None: ...

    async def stream() -> Any:
        yield 1

    coroutine = fetch()
    with pytest.raises(UnsupportedTypeError, match=r"coroutine that was not awaited.*`await it`"):
        round_trip({"a": coroutine})
    coroutine.close()
    with pytest.raises(UnsupportedTypeError, match="async for"):
        round_trip(stream())


def test_the_error_says_how_to_get_what_a_library_would_give() -> None:
    """Of a query, and of what dask computes when it is needed: that can be awaited too, but not by a task."""
    duckdb = pytest.importorskip("duckdb")
    with pytest.raises(UnsupportedTypeError, match=r"Return value\.to_arrow_table\(\)") as caught:
        round_trip([duckdb.sql("SELECT 1 AS a")])
    assert "At value[0]" in str(caught.value)
    members = {"__module__": "dask.array", "__await__": lambda self: iter(()), "__dask_graph__": lambda self: {}}
    with pytest.raises(UnsupportedTypeError, match=r"dask\.array\.Array.*Return value\.compute\(\), or register"):
        round_trip(type("Array", (), members)())


def test_a_moment_that_is_refused_is_not_stored_as_its_day() -> None:
    """Nor one of a subclass. Its zone is another one on another machine."""
    for cls in (datetime, type("Stamp", (datetime,), {})):
        with pytest.raises(UnsupportedTypeError, match="time zone"):
            round_trip([cls(2026, 1, 2, tzinfo=tzlocal())])


def test_files_and_cursors_of_bytes_are_no_iterators(tmp_path: Any) -> None:
    """An open file gives lines, and is not a list of them."""
    with (tmp_path / "a").open("w+") as file, pytest.raises(UnsupportedTypeError):
        round_trip([file])


def test_a_deep_value_of_subclasses_is_kept() -> None:
    """As deep as one of built-in types."""
    value: Any = Row({1: "end"})
    expected: Any = {1: "end"}
    for _ in range(290):
        value, expected = Row(a=value), {"a": expected}
    assert round_trip(value) == expected
