"""The client in TypeScript reads what Python wrote, and the other way round."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.servers.node import Node, find_node, installed
from tests.unit.conftest import make_pipeline
from xcargo.model.keys import Key

CLIENT = Path(__file__).parents[2] / "clients" / "typescript"


@pytest.fixture(scope="module")
def node() -> Node:
    """Node.js, with the client compiled."""
    node = find_node()
    modules = CLIENT / "node_modules"
    if not modules.exists():
        modules.unlink(missing_ok=True)
        modules.symlink_to(installed(node, CLIENT / "package-lock.json"))
    run(node, "node_modules/typescript/bin/tsc")
    return node


def run(node: Node, *arguments: str | Path) -> str:
    """What a script prints."""
    done = subprocess.run([node.program, *arguments], cwd=CLIENT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_client_reads_every_vector_and_refuses_every_damaged_one(node: Node) -> None:
    """Its own tests."""
    report = run(node, "--test", "--test-reporter=tap", "dist/test/*.test.js")
    vectors = len(list((CLIENT.parents[1] / "docs" / "format" / "vectors").iterdir()))
    passed = [line for line in report.splitlines() if line.startswith("ok ")]
    assert len(passed) > vectors > 100


def test_python_pulls_what_the_client_wrote(node: Node, tmp_path: Path) -> None:
    """JSON-like values, bytes and tables, signed and compressed."""
    rows: list[Any] = [json.loads(line) for line in run(node, "dist/test/writes.js", tmp_path).splitlines()]
    pipeline = make_pipeline(tmp_path.as_uri(), signing_keys=(Key("2026", bytes(range(32))),))
    record, mixed, when, data, table, text = (pipeline.pull(row, "a dag") for row in rows)
    nested = {"yes": True, "no": False, "text": "ü"}
    assert record == {
        "name": "x",
        "numbers": [1, -1, 2.5, 1e300, 2**32, -(2**53 - 1)],
        "nothing": None,
        "nested": nested,
    }
    assert mixed == [b"\0\xff", 2**63, 2**100, -(2**64), {1, 2}, {1: "a", "b": 2}]
    assert when == dt.datetime(2026, 11, 29, 1, 2, 3, 456_000, tzinfo=dt.timezone.utc)
    assert data == bytes([7]) * 1000
    assert isinstance(table, pa.Table)
    assert table.to_pylist()[2] == {"id": 3, "price": 2.5, "city": "Oslo"}
    assert text == "the same words again and again " * 100
    assert rows[-1]["compression"] == "zstd"
