"""The order of keys in rows of plain JSON."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.servers.postgres import Postgres
from tests.unit.codecs.test_tree import same
from xcargo.model.envelope import is_envelope, is_plain
from xcargo.model.key_order import marked, restored

KEYS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5)
SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9).map(abs) | KEYS
ROWS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=20
).filter(is_plain)


def sorting(row: Any) -> Any:
    """What PostgreSQL's jsonb and MySQL's JSON do to the keys of objects: by length in bytes, then by byte."""
    if isinstance(row, list):
        return [sorting(item) for item in row]
    if isinstance(row, dict):
        return {key: sorting(row[key]) for key in sorted(row, key=lambda key: (len(key.encode()), key.encode()))}
    return row


@given(ROWS)
def test_order_survives_a_database_that_sorts_keys(row: Any) -> None:
    """Every dictionary comes back in its order, at every depth; a database that keeps order changes nothing."""
    before = copy.deepcopy(row)
    note = marked(row)
    assert same(row, before)
    assert not is_envelope(note)
    for database in (sorting, lambda row: row):
        assert same(restored(json.loads(json.dumps(database(note)))), row)


@given(ROWS)
def test_other_readers_find_every_key_where_it_was(row: Any) -> None:
    """What is noted is one key more in a dictionary, and nothing else."""

    def bare(part: Any) -> Any:
        if isinstance(part, list):
            return [bare(item) for item in part]
        return {k: bare(v) for k, v in part.items() if k != "__id__"} if isinstance(part, dict) else part

    assert same(bare(marked(row)), row)


@pytest.mark.parametrize("row", [{}, {"a": 1}, {"b": 1, "aa": 2}, [{"x": 1, "y": {"z": 2}}], 5, "text", None])
def test_what_the_database_would_not_change_is_the_row_itself(row: Any) -> None:
    """Nothing is noted and nothing copied."""
    assert marked(row) is row


@pytest.mark.parametrize(
    "note",
    [
        "xcargo-order:0",
        "xcargo-order:0,0",
        "xcargo-order:-1,x",
        "xcargo-order:",
        "xcargo-order:" + "9" * 5000,
        "mine",
        5,
    ],
)
def test_a_note_that_does_not_fit_its_keys_is_left_alone(note: Any) -> None:
    """Someone has edited the row, or the key is their own."""
    row = {"a": 1, "b": 2, "__id__": note}
    assert same(restored(dict(row)), row)


def test_order_survives_a_real_postgresql(postgres: Postgres) -> None:
    """jsonb sorts keys as the tests above say, and every row comes back in its order all the same."""
    rows: list[Any] = [{"name": "x", "id": 3, "é": 1, "zz": {"b": [{"d": 1, "c": 2}], "a": None}}]

    @settings(max_examples=200, database=None, derandomize=True)
    @given(ROWS)
    def collect(row: Any) -> None:
        rows.append(row)

    collect()
    notes = [marked(row) for row in rows]
    lines = [json.dumps(row).replace("'", "''") for row in notes]
    postgres.sql("create table t(n serial, v jsonb)", *(f"insert into t(v) values('{line}')" for line in lines))
    stored = [json.loads(line) for line in postgres.sql("select v from t order by n").split("\n") if line]
    assert any(list(a) != list(b) for a, b in zip(stored, notes, strict=True) if isinstance(a, dict)), "it sorts"
    assert [same(a, sorting(b)) for a, b in zip(stored, notes, strict=True)] == [True] * len(rows)
    assert all(same(restored(a), b) for a, b in zip(stored, rows, strict=True))
