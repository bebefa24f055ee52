"""`xcargo ls`, `du`, `show`, `cat` and `verify` over a real metadata database and real objects."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.metadata import Metadata
from tests.unit.cli.kit import Call, xcargo
from tests.unit.conftest import make_pipeline
from xcargo import File
from xcargo.model.coordinate import Coordinate, State

RUN = "manual__2026-01-01T00:00:00+00:00"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "objects"


@pytest.fixture
def store(metadata: Metadata, root: Path) -> Callable[..., Path]:
    """Pushes a value as a task would, and gives the object's path."""
    pipeline = make_pipeline(root.as_uri(), threshold_bytes=100)

    def push(value: Any, task_id: str = "extract", key: str = "return_value", map_index: int = -1) -> Path:
        row: Any = pipeline.push(value, Coordinate("sales", RUN, task_id, key, map_index))
        metadata.push(row, dag_id="sales", run_id=RUN, task_id=task_id, key=key, map_index=map_index)
        return Path(row["uri"].removeprefix("file://")) if isinstance(row, dict) and "uri" in row else root

    return push


@pytest.fixture
def call(metadata: Metadata, root: Path, here: Callable[..., Call]) -> Call:
    return here(metadata, AIRFLOW__XCARGO__PATH=root.as_uri())


def test_what_is_stored_is_listed_summed_shown_and_verified(metadata: Metadata, store: Any, call: Call) -> None:
    """Each object with its address and sizes; a sum by task; an XCom's envelope; and every object as it was put."""
    path = store(list(range(500)), "extract")
    store("x" * 1000, "mapped", map_index=2)
    store(1, "small")
    done = call("ls", "--json")
    assert done.code == 0, done.err
    listed = {line["coordinate"]["task_id"]: line for line in map(json.loads, done.out.splitlines())}
    assert set(listed) == {"extract", "mapped"}
    assert listed["extract"]["uri"] == path.as_uri().replace("%25", "%")
    assert listed["extract"]["stored_bytes"] == path.stat().st_size
    assert listed["mapped"]["coordinate"]["map_index"] == 2

    summed = call("du", "--by", "task", "--json").json
    assert {entry["task_id"]: entry["objects"] for entry in summed["entries"]} == {"extract": 1, "mapped": 1}
    assert summed["total"]["stored_bytes"] == sum(line["stored_bytes"] for line in listed.values())

    (shown,) = call("show", "sales", RUN, "extract", "--json").json
    assert (shown["envelope"]["codec"], shown["run_state"]) == ("msgpack", "success")
    assert "in the row: 1" in call("show", "sales", RUN, "small").out
    assert call("show", "sales", RUN, "nobody").code == 1

    verified = call("verify", "--json")
    assert (verified.code, verified.json["counts"]["ok"], verified.json["problems"]) == (0, 2, [])


@pytest.mark.parametrize("metadata", ["sqlite"], indirect=True)
def test_what_the_state_store_holds_is_listed_too(metadata: Metadata, store: Any, root: Path, call: Call) -> None:
    """Of a task and of an asset, beside an XCom of the same name; shown and read by --state and --asset."""
    store("x" * 1000)
    pipeline = make_pipeline(root.as_uri(), threshold_bytes=100)
    task = Coordinate("sales", RUN, "extract", "return_value", state=State())
    asset = Coordinate("", "", "", "cursor", state=State(asset="orders"))
    metadata.state(
        json.dumps(pipeline.push("y" * 1000, task)), dag_id="sales", run_id=RUN, task_id="extract", key="return_value"
    )
    metadata.state(json.dumps(pipeline.push("z" * 1000, asset)), asset="orders", key="cursor")
    listed = [json.loads(line)["coordinate"]["state"] for line in call("ls", "--json").out.splitlines()]
    assert [state and state["asset"] for state in listed] == [None, None, "orders"]
    assert "return_value (state)" in call("ls").out
    summed = call("du", "--json").json["entries"]
    assert {entry["dag_id"]: entry["objects"] for entry in summed} == {"sales": 2, "asset orders": 1}
    assert len(call("show", "sales", RUN, "extract", "--json").json) == 1
    assert call("cat", "sales", RUN, "extract").out.strip() == "x" * 1000
    assert call("cat", "sales", RUN, "extract", "--state").out.strip() == "y" * 1000
    (shown,) = call("show", "--asset", "orders", "cursor", "--json").json
    assert (shown["state"]["asset"], shown["key"], shown["envelope"]["type"]) == ("orders", "cursor", "str")
    assert call("cat", "--asset", "orders", "cursor").out.strip() == "z" * 1000
    (line,) = call("ls", "--asset", "ord*", "--json").out.splitlines()
    assert json.loads(line)["coordinate"]["state"]["asset"] == "orders"
    assert call("ls", "--asset", "others", "--json").out == ""
    assert call("du", "--asset", "orders", "--json").json["total"]["objects"] == 1
    assert call("verify", "--json").json["counts"]["ok"] == 3
    metadata.state(json.dumps(pipeline.push("z" * 1000, asset)), asset="others", key="cursor")
    assert "asset 'others' refers to an object of something else" in call("cat", "--asset", "others", "cursor").err


@pytest.mark.parametrize("metadata", ["sqlite"], indirect=True)
def test_what_names_no_row_is_refused(metadata: Metadata, call: Call) -> None:
    """A Dag without a task, an asset's key with a run; rows of state are not read through REST."""
    for line in (("show", "sales"), ("cat", "sales", RUN), ("show", "--asset", "orders", "cursor", RUN)):
        assert "Name a Dag, a run and a task; or with --asset NAME a key" in call(*line).err
    assert "Omit one of them" in call("du", "--asset", "orders", "--inventory", "s3://b/i").err
    assert "not read through the REST API" in call("ls", "--asset", "orders", "--via", "rest").err


@pytest.mark.parametrize("metadata", ["sqlite"], indirect=True)
def test_a_process_of_its_own_finds_the_database_by_airflows_settings(
    metadata: Metadata, store: Any, root: Path
) -> None:
    """As on a command line: nothing but variables say where rows and objects are."""
    store("x" * 1000)
    done = xcargo("verify", env=metadata.env | {"AIRFLOW__XCARGO__PATH": root.as_uri()})
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("1 objects")


@pytest.mark.parametrize("metadata", ["sqlite"], indirect=True)
def test_verify_tells_what_is_missing_damaged_and_out_of_reach(
    metadata: Metadata, store: Any, call: Call, root: Path
) -> None:
    """One of each is named, with its reason; 1 says so, and a place that nobody configured is not followed."""
    store("a" * 1000, "fine")
    store("b" * 1000, "missing").unlink()
    damaged = store("c" * 1000, "damaged")
    data = bytearray(damaged.read_bytes())
    data[-1] ^= 1
    damaged.write_bytes(data)
    done = call("verify", "--json")
    verdicts = {problem["task_id"]: problem["verdict"] for problem in done.json["problems"]}
    assert (done.code, verdicts) == (1, {"missing": "missing", "damaged": "damaged"})
    assert "1 objects" in call("verify").out
    elsewhere = call("verify", "--task", "fine", AIRFLOW__XCARGO__PATH=f"{root.as_uri()}-elsewhere")
    assert elsewhere.code == 4
    assert "none of the configured roots" in elsewhere.out
    (row,) = [value for (_, _, task_id, _, _), value in metadata.values().items() if task_id == "fine"]
    row |= {"compression": "of a later release", "created_by": "xcargo 9.0.0"}
    metadata.push(row, dag_id="sales", run_id=RUN, task_id="newer")
    newer = call("verify", "--task", "newer", "--json")
    assert (newer.code, newer.json["problems"][0]["verdict"]) == (4, "unreadable")
    assert "xcargo 9.0.0 stored it" in newer.out


@pytest.mark.parametrize("metadata", ["sqlite"], indirect=True)
def test_cat_prints_safely_and_writes_files(store: Any, call: Call, root: Path, tmp_path: Path) -> None:
    """A head on the screen in which no control character is left; the whole in a file, byte by byte."""
    store({"rows": ["\x1b]0;title\x07" + "ü" * 3000]}, "text")
    done = call("cat", "sales", RUN, "text", "--head", "100")
    assert done.code == 0, done.err
    assert "\x1b" not in done.out
    assert "\\u001b]0;title" in done.out
    assert "The first 100 of" in done.err
    store("x" * 1000, "text", key="\x1b[2J\x9b31m\nforged")
    listed = call("ls").out + call("du", "--by", "task").out + call("show", "sales", RUN, "text").out
    assert "\\x1b[2J\\x9b31m\\nforged" in listed
    assert not {"\x1b", "\x9b"} & set(listed)
    target = tmp_path / "value.json"
    assert call("cat", "sales", RUN, "text", "-o", str(target)).code == 0
    assert json.loads(target.read_text())["rows"][0].endswith("ü" * 3000)
    assert call("cat", "sales", RUN, "text", "-o", str(target)).code == 4, "an existing file is left alone"

    store({"half a character": "\ud800"}, "half")
    payload = tmp_path / "half.msgpack"
    done = call("cat", "sales", RUN, "half", "-o", str(payload))
    assert done.code == 0, done.err
    assert b"half a character" in payload.read_bytes()

    store({1: "a", "pair": (1, 2), "x": "x" * 1000}, "keyed")
    assert call("cat", "sales", RUN, "keyed").out.startswith("{1: 'a',\n 'pair': (1, 2)")
    done = call("cat", "sales", RUN, "keyed", "-o", str(tmp_path / "keyed.msgpack"))
    assert (done.code, "codec msgpack" in done.err) == (0, True), "as JSON its key and its tuple would be others"

    deep: dict[int, Any] = {}
    for _ in range(450):
        deep = {1: deep}
    store(deep, "deep")
    done = call("cat", "sales", RUN, "deep")
    assert (done.code, "nested too deeply to be printed" in done.err, "Traceback" in done.err) == (4, True, False)
    assert call("cat", "sales", RUN, "deep", "-o", str(tmp_path / "deep.msgpack")).code == 0

    source = tmp_path / "report.bin"
    source.write_bytes(bytes(range(256)) * 20_000)
    store(File(source), "file")
    assert "The first 1,024 of 5,120,000 bytes" in call("cat", "sales", RUN, "file").err
    copied = tmp_path / "copy.bin"
    assert call("cat", "sales", RUN, "file", "-o", str(copied)).code == 0
    assert copied.read_bytes() == source.read_bytes()
    store(random.Random(0).randbytes(9_000_000), "damaged")
    (damaged,) = [path for path in root.rglob("*") if path.is_file() and path.stat().st_size == 9_000_000]
    with damaged.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\0")
    done = call("cat", "sales", RUN, "damaged", "-o", str(tmp_path / "cut.bin"))
    assert (done.code, (tmp_path / "cut.bin").exists()) == (4, False), "the beginning alone is no value"
    store(1, "mapped", map_index=0)
    store(2, "mapped", map_index=1)
    assert "--map-index 0" in call("cat", "sales", RUN, "mapped").err
    assert call("cat", "sales", RUN, "mapped", "--map-index", "1").out == "2\n"


def test_cat_writes_no_number_that_json_does_not_have(store: Any, call: Call) -> None:
    """An infinity is printed as Python prints it."""
    store({"loss": float("inf"), "x": "x" * 1000}, "task")
    assert call("cat", "sales", RUN, "task").out.startswith("{'loss': inf,")
