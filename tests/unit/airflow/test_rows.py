"""Which rows need a store, and what lists of rows give."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.conftest import make_pipeline
from xcargo.airflow import rows, runtime
from xcargo.model.settings import LegacyRoot

OFFLOADED = {"__id__": "xcargo/1", "uri": "s3://b/k", "size_bytes": 5_000}
INLINE = {"__id__": "xcargo/1", "data": "", "size_bytes": 5_000}


@pytest.fixture(params=[(), (LegacyRoot.parse("s3://b/old"),)], ids=["none", "legacy"])
def legacy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether references of another backend are followed."""
    monkeypatch.setattr(runtime, "settings", lambda: SimpleNamespace(legacy_roots=request.param, max_concurrency=4))
    return bool(request.param)


@pytest.mark.parametrize(
    ("row", "size"),
    [
        (OFFLOADED, 5_000),
        (OFFLOADED | {"size_bytes": "many"}, 0),
        (OFFLOADED | {"size_bytes": True}, 0),
        ({"__id__": "xcargo/1", "uri": "s3://b/k"}, 0),
        (INLINE, None),
        ({"uri": "s3://b/k", "size_bytes": 1}, None),
        (None, None),
        (17, None),
        ("text", None),
        (b'"text"', None),
        ([OFFLOADED], None),
    ],
)
def test_only_what_refers_to_an_object_is_loaded_ahead(legacy: bool, row: Any, size: int | None) -> None:
    """By the size that its envelope tells, or as nothing if it tells none; the error comes when it is loaded."""
    assert rows.bytes_to_fetch(row) == size


@pytest.mark.parametrize("row", ["s3://b/old/x", b'"s3://b/old/x"'])
def test_a_text_is_loaded_ahead_if_it_may_be_a_reference(legacy: bool, row: Any) -> None:
    """Of another backend, whose sizes are not known; as JSON on Airflow 3, as bytes on Airflow 2."""
    assert rows.bytes_to_fetch(row) == (rows.UNKNOWN_BYTES if legacy else None)


def test_hooks_give_raw_rows_only_to_who_asks_for_them() -> None:
    """Within the block, whatever the row refers to; after it, and after one that failed, the value."""
    with contextlib.suppress(LookupError), rows.querying(raw=True):
        assert rows.hook_value(OFFLOADED).value == OFFLOADED
        raise LookupError
    assert rows.hook_value("plain") == "plain"


def test_the_rows_of_airflow_2_are_parsed() -> None:
    """An envelope in bytes is one; bytes of anyone else stay bytes."""
    raw = json.dumps(OFFLOADED, separators=(",", ":")).encode()
    assert rows.parsed(raw) == OFFLOADED
    for other in (b"", b"{}", b'{"__id__":"xcargo/1"', b"\x80\x04N."):
        assert rows.parsed(other) is other


def test_a_handle_of_an_old_reference_is_one_of_its_value(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Not of the text that refers to it."""
    (tmp_path / "value.json").write_text('{"a": 1}')
    pipeline = make_pipeline(legacy_roots=(LegacyRoot.parse(tmp_path.as_uri()),))
    monkeypatch.setattr(runtime, "settings", lambda: pipeline.settings)
    monkeypatch.setattr(runtime, "pipeline", lambda: pipeline)
    with rows.querying(handles=True):
        handle = rows.load(f"{tmp_path.as_uri()}/value.json", "my_dag")
    assert handle.load() == {"a": 1}
