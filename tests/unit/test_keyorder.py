"""The order of keys in rows of plain JSON."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
    "note", ["xcargo-order:0", "xcargo-order:0,0", "xcargo-order:-1,x", "xcargo-order:", "mine", 5]
)
def test_a_note_that_does_not_fit_its_keys_is_left_alone(note: Any) -> None:
    """Someone has edited the row, or the key is their own."""
    row = {"a": 1, "b": 2, "__id__": note}
    assert same(restored(dict(row)), row)


_POSTGRES = max(Path("/usr/lib/postgresql").glob("*/bin/postgres"), default=None)


@pytest.fixture(scope="module")
def jsonb() -> Iterator[Callable[[list[Any]], list[Any]]]:
    """Sends rows through a jsonb column of a real PostgreSQL, reached by a socket in its own folder."""
    if _POSTGRES is None:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    tools = _POSTGRES.parent
    folder = Path(tempfile.mkdtemp(prefix="xcargo-pg-"))  # a socket's path must be short
    other: dict[str, Any] = {}
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(folder, "postgres", "postgres")
        other = {"user": "postgres", "group": "postgres"}
    run = lambda *command, **more: subprocess.run(  # noqa: E731
        list(map(str, command)), check=True, capture_output=True, text=True, cwd="/", **other, **more
    )
    try:
        run(tools / "initdb", "-D", folder / "data", "-U", "me", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C")
        options = f"-c listen_addresses= -c fsync=off -k {folder}"
        run(tools / "pg_ctl", "-D", folder / "data", "-w", "-l", folder / "log", "-o", options, "start")

        def through(rows: list[Any]) -> list[Any]:
            lines = [json.dumps(row).replace("'", "''") for row in rows]
            statements = ["create table t(n serial, v jsonb);", *(f"insert into t(v) values('{t}');" for t in lines)]
            sql = "\n".join([*statements, "select v from t order by n;"])
            connect = ("-h", folder, "-U", "me", "-d", "postgres")
            done = run(tools / "psql", *connect, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", input=sql)
            return [json.loads(line) for line in done.stdout.split("\n") if line]

        yield through
        run(tools / "pg_ctl", "-D", folder / "data", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_order_survives_a_real_postgresql(jsonb: Callable[[list[Any]], list[Any]]) -> None:
    """jsonb sorts keys as the tests above say, and every row comes back in its order all the same."""
    rows: list[Any] = [{"name": "x", "id": 3, "é": 1, "zz": {"b": [{"d": 1, "c": 2}], "a": None}}]

    @settings(max_examples=200, database=None, derandomize=True)
    @given(ROWS)
    def collect(row: Any) -> None:
        rows.append(row)

    collect()
    notes = [marked(row) for row in rows]
    stored = jsonb(notes)
    assert any(list(a) != list(b) for a, b in zip(stored, notes, strict=True) if isinstance(a, dict)), "it sorts"
    assert [same(a, sorting(b)) for a, b in zip(stored, notes, strict=True)] == [True] * len(rows)
    assert all(same(restored(a), b) for a, b in zip(stored, rows, strict=True))
