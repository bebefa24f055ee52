"""Envelope: what stands in the row."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xcargo.errors import EnvelopeError
from xcargo.model.envelope import RESERVED_KEYS, Envelope, is_envelope, is_plain, plain_bytes

ROW: dict[str, Any] = {
    "__id__": "xcargo/1",
    "type": "dict",
    "size_bytes": 5,
    "stored_bytes": 4,
    "uri": "s3://b/k",
    "codec": "msgpack",
    "compression": "zstd",
    "checksum": "blake3:00",
}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON, st.integers(0, 60))
def test_the_size_of_a_plain_value_is_that_of_its_json(value: Any, limit: int) -> None:
    """Exactly, up to the limit; above it, above it."""
    exact = plain_bytes(value, math.inf)
    if exact is not None:
        assert exact == len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())
        assert (plain_bytes(value, limit) or math.inf) == exact or exact > limit < (plain_bytes(value, limit) or 0)


def test_a_row_reads_back_as_the_envelope_that_wrote_it() -> None:
    """to_row and from_row undo each other, through JSON."""
    envelope = Envelope.from_row(ROW)
    assert Envelope.from_row(json.loads(json.dumps(envelope.to_row()))) == envelope
    assert next(iter(envelope.to_row())) == "__id__"


def test_every_field_reaches_the_row() -> None:
    """A field that is added to the envelope is written too."""
    some: dict[str, Any] = {"int": 1, "Mapping[str, Any]": {"a": 1}}
    envelope = Envelope(**{f.name: some.get(str(f.type), "x") for f in fields(Envelope)})
    assert set(envelope.to_row()) == {"__id__", *(f.name for f in fields(Envelope))}


@pytest.mark.parametrize(
    "change",
    [
        {"__id__": "xcargo/0"},
        {"__id__": "xcargo/x"},
        {"uri": None},
        {"uri": 5},
        {"data": "AA=="},
        {"size_bytes": -1},
        {"size_bytes": True},
        {"size_bytes": "5"},
        {"codec": None},
        {"checksum": None},
        {"params": []},
        {"preview": {"a": 1}},
    ],
)
def test_a_malformed_envelope_is_refused(change: dict[str, Any]) -> None:
    """Wrong types, missing fields and two places at once raise EnvelopeError."""
    row = {**ROW, **change}
    assert is_envelope(row)
    with pytest.raises(EnvelopeError):
        Envelope.from_row(row)


def test_a_newer_envelope_says_what_to_upgrade() -> None:
    """An envelope of a later version is not misread."""
    with pytest.raises(EnvelopeError, match="pip install --upgrade airflow-provider-xcargo"):
        Envelope.from_row({**ROW, "__id__": "xcargo/2"})


def test_unknown_fields_of_a_later_release_are_ignored() -> None:
    """Adding a field does not break older readers."""
    assert Envelope.from_row({**ROW, "rows": 7}).codec == "msgpack"


@pytest.mark.parametrize("row", [None, "xcargo/1", ["__id__"], {"__id__": 1}, {"__id__": "other/1"}, {}, b"x"])
def test_other_rows_are_not_envelopes(row: Any) -> None:
    """Only a dict with our marker is one."""
    assert not is_envelope(row)


@given(JSON)
def test_a_plain_value_survives_json_unchanged(value: Any) -> None:
    """What is_plain lets through comes back equal, and of the same type, from strict JSON."""
    if is_plain(value):
        back = json.loads(json.dumps(value, allow_nan=False))
        assert back == value
        assert repr(back) == repr(value)


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        -0.0,
        1e16,
        2**64,
        -(2**63) - 1,
        "\0",
        "\ud800",
        (1,),
        {1: 2},
        {"a": (1,)},
        b"x",
        *({key: 1} for key in RESERVED_KEYS),
        [{"__id__": "xcargo/1"}],
        type("Text", (str,), {})("x"),
    ],
)
def test_what_a_transport_or_database_would_change_is_not_plain(value: Any) -> None:
    """Such values are put into an envelope instead."""
    assert not is_plain(value)


@pytest.mark.parametrize("value", [{"a": 23}, [1, 2.5, None, True, "ä"], 2**64 - 1, -(2**63), 9.9e15, "", {}, []])
def test_ordinary_json_is_plain(value: Any) -> None:
    """Ordinary values stay readable in the row."""
    assert is_plain(value)
