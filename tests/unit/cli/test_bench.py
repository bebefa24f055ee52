"""`xcargo bench`: it measures a real store, leaves nothing behind, and its advice follows from the numbers."""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path
from typing import Any

import pytest

from tests.servers import Server
from xcargo.cli.bench import (
    COMMANDS,
    Compressed,
    Transfer,
    advise_compression,
    advise_split,
    advise_threshold,
    measure_compressions,
    sample,
)
from xcargo.cli.command import Output
from xcargo.cli.main import main

MIB = 1024 * 1024


def run(*line: str) -> tuple[Any, str]:
    """The command in this process: its JSON with --json, its text."""
    parser = argparse.ArgumentParser()
    for argument in COMMANDS[0].arguments:
        argument.add_to_parser(parser)
    args = parser.parse_args(line)
    stdout = io.StringIO()
    COMMANDS[0].run(args, Output(json=args.json, stdout=stdout, stderr=io.StringIO()))
    text = stdout.getvalue()
    return json.loads(text) if args.json else None, text


def test_a_cloud_store_is_measured_in_pieces_and_in_parts(
    s3_server: Server, bare: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Every size and every split has numbers; what was written is gone."""
    for name, value in s3_server.env().items():
        bare.setenv(name, value)
    before = s3_server.list_keys()
    data = tmp_path / "data.csv"
    data.write_bytes(sample(100_000))
    limits = ("--max-mib", "21", "--seconds", "0.01", "--sample", str(data))
    found, _ = run("--path", s3_server.root, *limits, "--json")
    assert [t["size_bytes"] for t in found["sizes"]] == [1024, 65536, MIB, 8 * MIB]
    assert {(t["part_bytes"], t["concurrency"]) for t in found["splits"]} == {(5 * MIB, n) for n in (4, 8, 16)}
    assert all(t["put_seconds"] > 0 and t["get_seconds"] > 0 for t in found["sizes"] + found["splits"])
    assert [a["option"] for a in found["advice"]] == ["threshold_bytes", "part_bytes", "max_concurrency", "compression"]
    assert s3_server.list_keys() == before


def test_a_folder_is_measured_without_parts(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Local files are not split; the text ends with variables that can be pasted."""
    _, text = run("--path", (tmp_path / "x").as_uri(), "--max-mib", "1", "--seconds", "0.01")
    assert "AIRFLOW__XCARGO__COMPRESSION=" in text
    assert "parts of" not in text
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_what_cannot_be_drawn_or_tried_is_said(bare: pytest.MonkeyPatch, tmp_path: Path, capfd: Any) -> None:
    """An empty sample before anything is measured; a plot after the numbers were printed."""
    line = ("bench", "--path", (tmp_path / "x").as_uri(), "--max-mib", "1", "--seconds", "0.01", "--json")
    (tmp_path / "empty.csv").touch()
    assert main([*line, "--sample", str(tmp_path / "empty.csv")]) == 4
    assert not (tmp_path / "x").exists()
    assert main([*line, "--plot", str(tmp_path / "plot.foo")]) == 4
    written = capfd.readouterr()
    assert json.loads(written.out)["sizes"]
    assert "empty" in written.err
    assert "'foo' is not supported" in written.err
    assert "Traceback" not in written.err


def split(part: int, concurrency: int, seconds: float) -> Transfer:
    return Transfer(64 * MIB, part * MIB, concurrency, seconds / 2, seconds / 2, 3)


def test_among_equals_the_more_modest_split_is_chosen() -> None:
    """Ten percent is no reason for four times as many requests at once."""
    advice = advise_split([split(5, 4, 1.09), split(8, 4, 1.1), split(5, 16, 1.0), split(16, 4, 1.2)])
    assert {a.option: a.value for a in advice} == {"part_bytes": str(8 * MIB), "max_concurrency": "4"}
    assert advise_split([]) == []


@pytest.mark.parametrize(("seconds", "value"), [(0.02, "1024"), (0.021, "16384"), (0.1, "16384"), (0.2, "65536")])
def test_a_slower_store_gets_a_higher_threshold(seconds: float, value: str) -> None:
    """The bounds of the rule of thumb."""
    assert advise_threshold(Transfer(1024, 1024, 1, seconds / 2, seconds / 2, 9)).value == value


def test_compression_depends_on_how_fast_the_store_is() -> None:
    """Far away the smallest object wins, next door none at all."""
    candidates = [Compressed("none", 1, float("inf"), float("inf")), Compressed("zstd", 3, 300, 900)]

    def store(mb_per_second: float) -> Transfer:
        return Transfer(MIB, MIB, 1, 1.048576 / mb_per_second, 1.048576 / mb_per_second, 3)

    assert advise_compression(candidates, store(20)).value == "zstd"
    assert advise_compression(candidates, store(5000)).value == "none"


def test_compressions_are_measured_on_the_sample() -> None:
    """Text shrinks, each by a ratio above 1."""
    found = {c.name: c for c in measure_compressions(sample(200_000), ("zstd", "lz4"))}
    assert found["zstd"].ratio > found["lz4"].ratio > 1
    assert found["none"].ratio == 1
