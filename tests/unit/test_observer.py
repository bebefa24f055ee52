"""The observer of a pipeline: what it is told, and that it can't disturb."""

from __future__ import annotations

import logging
import re

import pytest

from tests.unit.conftest import HERE, make_pipeline
from xcargo.errors import ObjectNotFoundError, StoreUnavailableError
from xcargo.model.envelope import Envelope
from xcargo.pipeline.observer import Event
from xcargo.pipeline.pipeline import RowRules
from xcargo.stores.local import buckets
from xcargo.testing import FaultyStore


def test_each_push_pull_and_purge_is_told_with_its_sizes() -> None:
    """Inline or offloaded, payload and stored bytes as the envelope has them, and time that went by."""
    events: list[Event] = []
    pipeline = make_pipeline(observer=events.append)
    pipeline.push({"a": 23}, HERE)
    inline = pipeline.push((1, 2), HERE)
    row = pipeline.push({f"key{i}": "x" * 100 for i in range(100)}, HERE)
    pipeline.pull(inline)
    pipeline.pull(row)
    pipeline.purge(row)
    envelope = Envelope.from_row(row)  # type: ignore[arg-type]
    assert [(e.kind, e.offloaded, e.codec, e.error) for e in events] == [
        ("push", False, None, None),
        ("push", False, "msgpack", None),
        ("push", True, "msgpack", None),
        ("pull", False, "msgpack", None),
        ("pull", True, "msgpack", None),
        ("purge", True, "msgpack", None),
    ]
    assert events[0].size_bytes == len('{"a":23}')
    assert {(e.size_bytes, e.stored_bytes) for e in events if e.offloaded} == {
        (envelope.size_bytes, envelope.stored_bytes)
    }
    assert all(e.seconds > 0 for e in events)


@pytest.mark.parametrize("threshold", [0, 10, -1])
def test_a_control_value_has_its_size(threshold: int) -> None:
    """It stays in its row, however far above the threshold."""
    events: list[Event] = []
    rules = RowRules(control_keys=re.compile("return_.*"))
    assert make_pipeline(observer=events.append, rules=rules, threshold_bytes=threshold).push("x" * 98, HERE)
    assert [(e.kind, e.offloaded, e.size_bytes) for e in events] == [("push", False, 100)]


def test_failures_are_told_by_their_kind() -> None:
    """A pull of what is gone, a push to a store that is down, a purge that leaves its object."""
    events: list[Event] = []
    row = make_pipeline(threshold_bytes=0).push("x", HERE)
    down = make_pipeline(
        threshold_bytes=0,
        observer=events.append,
        wrap=lambda s: FaultyStore(s, lambda *_: _raise(StoreUnavailableError(""))),
    )
    with pytest.raises(StoreUnavailableError):
        down.push("x", HERE)
    down.purge(row)
    buckets.clear()
    with pytest.raises(ObjectNotFoundError):
        make_pipeline(observer=events.append).pull(row)
    with pytest.raises(AttributeError):
        make_pipeline(observer=events.append).push("x" * 2000, None)  # type: ignore[arg-type]
    assert [(e.kind, e.error) for e in events] == [
        ("push", "store_unavailable"),
        ("purge", "store_unavailable"),
        ("pull", "object_not_found"),
        ("push", "other"),
    ]


def test_an_observer_that_fails_fails_no_task(caplog: pytest.LogCaptureFixture) -> None:
    """The value is pushed, and a line in the log tells of the observer."""
    caplog.set_level(logging.WARNING, logger="xcargo")
    assert make_pipeline(observer=lambda _: _raise(ValueError("broken"))).push(1, HERE) == 1
    assert "broken" in caplog.text


def _raise(error: Exception) -> None:
    raise error
