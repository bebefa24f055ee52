"""Nested values, node by node."""

from __future__ import annotations

import datetime as dt
import json
import re
import uuid
from array import array
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.codecs.known_classes import KnownClasses
from tests.unit.explorer.kit import bytes_payload, preview, stored
from xcargo.codecs.registry import Registry
from xcargo.errors import DecodeError, XCargoError
from xcargo.explorer.limits import PreviewTimeoutError
from xcargo.explorer.value import StoredValue

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=8), inner, max_size=6),
    max_leaves=40,
)


def rebuilt(value: StoredValue, at: int, node: dict[str, Any]) -> Any:
    """The value again, out of pages of two children."""
    tree = value.tree
    if node["type"] in ("list", "dict"):
        items: list[dict[str, Any]] = []
        page = tree.children(at, count=2)
        items += page["items"]
        while page["next"]:
            page = tree.children(at, cursor=page["next"], count=2)
            items += page["items"]
        assert page["total"] == node["count"] == len(items)
        if node["type"] == "list":
            return [rebuilt(value, item["at"], item) for item in items]
        return {item["key"]["value"]: rebuilt(value, item["at"], item) for item in items}
    return float(node["value"]) if node["type"] == "float" else node["value"]


@given(JSON)
def test_the_pages_of_a_tree_are_the_value(value: Any) -> None:
    """Every key and item is on one page, in order, whatever the nesting."""
    seen = preview({"v": value})
    root = seen.tree.node(seen.tree.root)

    def loosely(x: Any) -> Any:  # numbers beyond a browser's integers are told as text
        if isinstance(x, dict):
            return {k: loosely(v) for k, v in x.items()}
        if isinstance(x, list):
            return [loosely(v) for v in x]
        return repr(x) if type(x) is int and abs(x) > 2**53 else x

    assert rebuilt(seen, 0, root) == loosely({"v": value})


def test_types_beyond_json_are_named_and_shown() -> None:
    """Tuples, sets, dictionaries of any class, dates, decimals, single values of numpy and pandas as what they are."""
    containers = {
        "tuple": (1, 2),
        "set": {3},
        "OrderedDict": OrderedDict(b=1, a=2),
        "Counter": Counter("aab"),
        "defaultdict": defaultdict(list, {"x": [1]}),
        "deque": deque([1, 2, 3], maxlen=5),
    }
    scalars: list[Any] = [Decimal("1.50"), dt.datetime(2026, 1, 2, tzinfo=dt.timezone.utc), uuid.UUID(int=1), 2**200]
    scalars += [np.float32(1.5), np.datetime64("2026-01-01"), pd.Timestamp("2026-01-01", tz="Europe/Rome"), pd.NaT]
    scalars += [pd.Period("2026-01"), pd.Interval(0, 1), pd.offsets.MonthEnd(2)]
    named = {"Pattern": re.compile("a+"), "memoryview": memoryview(b"ab"), "array": array("d", [1.5]), "bytes": b"123"}
    tree = preview({**containers, **named, "scalars": scalars, "keys": {1: "one", (2, 3): "pair"}}).tree
    shown = {item["key"]["value"]: item for item in tree.children(0)["items"]}
    for name, value in containers.items():
        assert (shown[name]["type"], shown[name]["count"]) == (name, len(value))
    assert all(shown[name]["type"] == name for name in named)
    assert shown["bytes"]["length"] == 3
    items = tree.children(shown["scalars"]["at"])["items"]
    assert [item["value"] for item in items] == list(map(str, scalars))
    assert {item["type"] for item in items} >= {"Decimal", "float32", "datetime64", "Timestamp", "Period", "MonthEnd"}
    assert preview(pd.Period("2026-01")).describe()["root"] == {"at": 0, "type": "Period", "value": "2026-01"}
    assert [item["key"]["value"] for item in tree.children(shown["OrderedDict"]["at"])["items"]] == ["b", "a"]
    assert [item["key"]["value"] for item in tree.children(shown["keys"]["at"])["items"]] == ["1", "<tuple>"]


def test_a_page_of_a_large_value_reads_little_of_it() -> None:
    """The first children of twenty megabytes cost a block or two; a jump into the middle keeps nothing of it."""
    value, file = stored([{"id": n, "text": "x" * 180} for n in range(100_000)])
    assert value.describe()["root"]["count"] == 100_000
    value.tree.children(0, count=100)
    assert file.taken <= 2 * 1024 * 1024
    item = value.tree.children(0, start=99_999, count=1)["items"][0]
    first = value.tree.children(item["at"])["items"][0]
    assert (item["index"], first["value"]) == (99_999, 99_999)


def test_search_finds_keys_and_texts_and_the_way_to_them() -> None:
    """Upper and lower case alike, in dictionaries of any keys, and not inside bytes."""
    value = preview(
        {"a": [{"b": "The Needle"}], "needles": 1, 5: {"c": "needle"}, "raw": b"needle", "d": {"needles": [1]}}
    )
    found = value.tree.search("nEEdle", 0)
    ways = [[step.get("key", step["index"]) for step in hit["way"]] for hit in found["hits"]]
    assert sorted(ways, key=str) == sorted([["a", 0, "b"], ["needles"], ["5", "c"], ["d", "needles"]], key=str)
    assert found["next"] is None


def test_search_of_a_large_value_goes_on_where_it_stopped() -> None:
    """Fifty hits at a time, none twice."""
    value = preview([{"name": f"name {n}"} for n in range(120)])
    found: list[int] = []
    start: int | None = 0
    while start is not None:
        page = value.tree.search("name ", start)
        assert len(page["hits"]) <= 50
        found += [hit["way"][0]["index"] for hit in page["hits"]]
        start = page["next"]
    assert sorted(found) == list(range(120))


@given(st.binary(max_size=200), st.integers(0, 250))
def test_hostile_bytes_and_offsets_raise_our_error_or_show_something(data: bytes, at: int) -> None:
    """Whatever lies in an object, and whatever place is asked for: no other error, no endless loop."""
    tree = StoredValue("dict", "msgpack", {}, bytes_payload(data, max_bytes=1 << 20)).tree
    try:
        tree.node(at)
        tree.children(at)
        tree.children(at, cursor=f"0:{at}:{at}")
        tree.search("a", 0)
        json.dumps(tree.to_json())
    except (XCargoError, RecursionError):
        pass


def test_a_page_that_takes_too_long_ends_with_an_error_that_says_so() -> None:
    """A budget that is used up stops the reading."""
    value = preview(list(range(3_000_000)), seconds=-1)
    with pytest.raises(PreviewTimeoutError, match="longer than"):
        value.tree.children(0, start=2_999_999)


@dataclass
class Order:
    """A user's class; looking must never import it."""

    id: int
    lines: list[str]


def test_an_instance_shows_its_class_and_fields_without_its_class() -> None:
    """The name and the fields come from the stored bytes, at the top and inside."""

    registry = Registry(classes=KnownClasses())
    value = preview(Order(7, ["a", "b"]), registry=registry)
    tree = value.tree
    assert [item["key"]["value"] for item in tree.children(tree.root)["items"]] == ["id", "lines"]
    inner = preview([Order(7, ["a"])], registry=registry)
    shown = inner.tree.children(0)["items"][0]
    assert shown["type"].endswith("test_tree.Order")
    assert [item["key"]["value"] for item in inner.tree.children(shown["at"])["items"]] == ["id", "lines"]


def test_tables_and_arrays_inside_a_value_open_as_what_they_are() -> None:
    """A small one lies in the tree, a large one beside it; both have a way of their own."""
    value = preview({"small": np.arange(3), "frame": pd.DataFrame({"a": range(20_000), "b": 1.5})})
    shown = {item["key"]["value"]: item for item in value.tree.children(0)["items"]}
    small = value.inside(f"leaf:{shown['small']['at']}")
    assert small.array().page(0, 10, columns=1)["cells"] == [["0"], ["1"], ["2"]]
    frame = value.inside(f"part:{shown['frame']['part']}")
    assert frame.describe()["rows"] == 20_000
    assert frame.table().page(19_999, 5, [0, 1])["cells"] == [["19999"], ["1.5"]]
    for way in ("part:9", "leaf:0", "part:0/part:0", "x:1", "part:-1"):
        with pytest.raises(DecodeError):
            value.inside(way)


def test_the_download_of_a_tree_is_json() -> None:
    """What JSON has no word for is text; nothing is lost of what it has."""
    value = preview({"n": [1, 2.5, None, True], "t": (1, 2), "d": Decimal("1.5"), "inf": float("inf"), 3: np.int64(7)})
    assert preview({"p": np.poly1d([1, 2])}).tree.to_json() == {"p": {"coef": "<numpy, 16 bytes>", "variable": "x"}}
    expected = {"n": [1, 2.5, None, True], "t": [1, 2], "d": "1.5", "inf": "inf", "3": "7"}
    assert json.loads(value.tree.json()) == expected
    assert preview({1: "a", "1": "b"}).tree.to_json() == [["1", "a"], ["1", "b"]]


def test_search_finds_a_text_that_is_larger_than_a_preview() -> None:
    """It reads a text in parts, and gives the other hits too."""
    value = {"a": "needle", "b": "x" * 3_000_000 + "needle"}
    found = preview(value, max_bytes=2_500_000).tree.search("needle", 0)
    assert [hit["way"][-1]["key"] for hit in found["hits"]] == ["a", "b"]


def test_a_text_inside_a_tree_is_cut_between_characters() -> None:
    """Its pages put together are the text."""
    text = "x" + "é€😀" * 20
    tree, end = preview([text]).tree, 0
    pages: list[str] = []
    while end < len(text.encode()):
        part = tree.text(tree.children(0)["items"][0]["at"], end, 16)
        pages, end = [*pages, part["text"]], part["end"]
    assert "".join(pages) == text
