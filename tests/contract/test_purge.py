"""``purge``: deletes the object of a row that goes, and nothing else, and never stands in a task's way."""

from __future__ import annotations

import json
from typing import Any

import pytest
from contract_values import large

from .conftest import file_of
from .generation import HOOKS, Hooks, XCom, as_json, handed_to_purge

every_hooks = pytest.mark.parametrize("hooks", HOOKS, ids=repr)


def purge(value: Any) -> None:
    """As Airflow does it: 2.x hands on its session, 3.x nothing."""
    XCom.purge(handed_to_purge(value), None)


@every_hooks
def test_purge_deletes_the_object(hooks: Hooks) -> None:
    """The object of a purged row is gone; another one of the same XCom stays."""
    gone, kept = (as_json(hooks.push(large(number), "return_value")) for number in (1, 2))
    purge(gone)
    assert not file_of(gone).exists()
    assert file_of(kept).exists()


@every_hooks
def test_purge_of_a_missing_object_is_quiet(hooks: Hooks) -> None:
    """Purging twice is as good as purging once."""
    row = as_json(hooks.push(large(1), "return_value"))
    purge(row)
    purge(row)
    assert not file_of(row).exists()


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "text",
        "file:///",
        '{"__id__": "xcargo/1"}',
        '{"__id__":"xcargo/1","uri":',
        0,
        1.5,
        [],
        ["a", {"__id__": "xcargo/1"}],
        {},
        {"uri": "file:///etc/hostname"},
        {"__id__": None},
        {"__id__": "xcargo/1"},
        {"__id__": "xcargo/1", "uri": 1},
        {"__id__": "xcargo/1", "uri": "no url"},
        {"__id__": "xcargo/99", "uri": "file:///etc/hostname"},
        {"__classname__": "builtins.tuple", "__version__": 1, "__data__": [1]},
    ],
    ids=repr,
)
def test_purge_never_raises(value: Any) -> None:
    """Whatever the row holds, purge returns: an error here would fail a task before it has begun."""
    purge(value)
    assert XCom.purge(object(), None) is None


@every_hooks
def test_purge_of_a_user_value_that_looks_like_an_envelope(hooks: Hooks) -> None:
    """A task that returns another XCom's envelope as its value does not take that XCom's object with it."""
    envelope = as_json(hooks.push(large(1), "return_value"))
    purge(as_json(hooks.push(envelope, "return_value")))
    purge(as_json(hooks.push([envelope], "return_value")))
    assert file_of(envelope).exists()


@every_hooks
def test_purge_of_a_text_that_spells_an_envelope(hooks: Hooks) -> None:
    """A text is a text, also when it is the JSON of another XCom's envelope."""
    envelope = as_json(hooks.push(large(1), "return_value"))
    purge(json.dumps(envelope))
    purge(json.dumps(envelope, separators=(",", ":")))
    assert file_of(envelope).exists()
