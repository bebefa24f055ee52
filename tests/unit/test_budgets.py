"""What a push, a pull and a purge may cost: modules, requests, threads, copies and calls. Counted, never timed.

That one push is one request at a real server is in ``test_servers_end_to_end.py``; what importing the backend loads is
in ``tests/contract``, for every Airflow.
"""

from __future__ import annotations

import json
import logging
import os
import random
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.servers import Server
from tests.unit.conftest import HERE, make_pipeline
from xcargo.model.envelope import is_envelope
from xcargo.testing import CountingStore

SMALL = {"records": [{"id": n, "tags": ["a", "b"], "nested": {"x": n, "y": None}} for n in range(40)]}
FRAME = pd.DataFrame({"n": range(100), "s": ["a", "b"] * 50, "t": pd.date_range("2026-01-01", periods=100, tz="UTC")})
MEGABYTE = 1_000_000

ONE_OF_EACH = """
import gc, json, os, sys
from types import SimpleNamespace
import airflow.sdk.execution_time.supervisor, airflow.sdk.execution_time.task_runner
from airflow.sdk.execution_time.xcom import XCom

told = {}

def in_child(name, work):
    # As each task is: a fork of a process that has imported its backend.
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.write(writer, json.dumps(work()).encode())
        os._exit(0)
    os.wait()
    told[name] = json.loads(os.read(reader, 65536))

def copied_bytes():
    try:
        with open("/proc/self/smaps_rollup") as lines:
            return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Private_Dirty"))
    except OSError:
        return 0

def full_collection():
    before, tracked = copied_bytes(), len(gc.get_objects())
    cycle = []
    cycle.append(cycle)
    del cycle
    found = gc.collect()
    return {"tracked": tracked, "found": found, "bytes": copied_bytes() - before}

def first_push():
    os.environ["AIRFLOW__XCARGO__PATH"] = "file://" + os.environ["AIRFLOW_HOME"] + "/objects"
    before, loaded = [generation["collections"] for generation in gc.get_stats()], set(sys.modules)
    row = push({"k": "x" * 5000})
    after = [generation["collections"] for generation in gc.get_stats()]
    return {
        "collections": [b - a for a, b in zip(before, after)],
        "modules": sorted(name for name in set(sys.modules) - loaded if name.startswith("xcargo")),
        "uri": row["uri"],
        "enabled": gc.isenabled(),
    }

def only_push():
    # A pod's: nothing was loaded for the tasks that follow, for there are none.
    loaded = set(sys.modules)
    push({"k": "x" * 1000})
    ours = {name for name in loaded if name.partition(".")[0] in ("xcargo", "blake3", "ormsgpack")}
    return sorted(ours | set(sys.modules) - loaded)

def state():
    return set(sys.modules), len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 0

def push(value):
    return XCom.serialize_value(value, key="k", dag_id="d", run_id="r", task_id="t", map_index=-1)

os.environ["AIRFLOW__XCARGO__THRESHOLD_BYTES"] = "0"
in_child("only push", only_push)
del os.environ["AIRFLOW__XCARGO__THRESHOLD_BYTES"]
in_child("full collection", full_collection)
in_child("first push", first_push)
before = state()

def tell(name):
    global before
    after = state()
    told[name] = {"modules": sorted(after[0] - before[0]), "threads": after[1] - before[1]}
    before = after

XCom.deserialize_value(SimpleNamespace(value=push({"a": 23})))
tell("inline")

def calls(backend, value):
    count = 0
    def profile(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")
    sys.setprofile(profile)
    try:
        backend.serialize_value(value, key="k", dag_id="d", run_id="r", task_id="t", map_index=-1)
    finally:
        sys.setprofile(None)
    return count

texts = {f"key{n}": "x" * 90 for n in range(10)}
records = [{"id": n, "tags": ["a", "b"], "nested": {"x": n, "y": None}} for n in range(10)]
told["calls"] = {}
for name, value in {"a number": 23, "10 texts": texts, "10 records": records}.items():
    calls(XCom, value), calls(XCom.__base__, value)
    told["calls"][name] = calls(XCom, value), calls(XCom.__base__, value)
before = state()
row = push({"k": "x" * 20_000})
tell("push")
assert XCom.deserialize_value(SimpleNamespace(value=row)) == {"k": "x" * 20_000}
tell("pull")
XCom.purge(SimpleNamespace(value=row))
tell("purge")
print("TOLD", json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(s3_server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one push, pull and purge each added in a process that has imported Airflow, over a real S3 server."""
    environ = {
        **os.environ,
        **s3_server.env(),
        "AIRFLOW_HOME": str(tmp_path_factory.mktemp("airflow")),
        "AIRFLOW__CORE__XCOM_BACKEND": "xcargo.XComBackend",
        "AIRFLOW__XCARGO__PATH": f"{s3_server.root}/budgets",
    }
    done = subprocess.run([sys.executable, "-c", ONE_OF_EACH], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("TOLD ")]
    found: dict[str, Any] = json.loads(line.partition(" ")[2])
    return found


def test_the_first_push_sets_off_no_collection_and_loads_nothing_of_ours(told: dict[str, Any]) -> None:
    """A collection would copy every page of the heap that a task inherits; our modules come from before the fork."""
    first = told["first push"]
    assert first.pop("uri").startswith("file://")
    assert first == {"collections": [0, 0, 0], "modules": [], "enabled": True}


def test_the_only_push_of_a_process_loads_few_modules(told: dict[str, Any]) -> None:
    """A fresh interpreter for each task pays for every module: what its value and store do not need is not loaded."""
    assert len(told["only push"]) <= 67, told["only push"]


def test_a_full_collection_in_a_task_does_not_copy_what_it_inherited(told: dict[str, Any]) -> None:
    """Only what the task made itself is looked at, and garbage of its own is found."""
    full = told["full collection"]
    assert full["tracked"] < 1_000
    assert full["found"] == 1
    assert full["bytes"] < 10_000_000


def test_a_value_in_the_row_loads_nothing_and_starts_no_thread(told: dict[str, Any]) -> None:
    """A value that needs no store pays for none."""
    assert told["inline"] == {"modules": [], "threads": 0}


def test_an_inline_push_makes_about_as_many_calls_as_that_of_the_stock_backend(told: dict[str, Any]) -> None:
    """What stays in the database costs no more than without xcargo; of our calls most are of C, of the stock's not."""
    assert {name: both for name, both in told["calls"].items() if both[0] > 1.2 * both[1]} == {}


def test_the_first_push_loads_the_client_and_nothing_else_of_size(told: dict[str, Any]) -> None:
    """Of other projects' code obstore, and what Airflow needs to look up a connection: no SDK, fsspec or provider."""
    modules = told["push"]["modules"]
    foreign = {name.partition(".")[0] for name in modules} - set(sys.stdlib_module_names) - {"__mp_main__"}
    assert foreign <= {"obstore", "airflow"}
    assert [name for name in modules if name.startswith("airflow.providers")] == []
    assert len(modules) <= 18


def test_what_follows_the_first_push_loads_next_to_nothing(told: dict[str, Any]) -> None:
    """The first pull and the first purge find everything in place."""
    assert len(told["pull"]["modules"]) <= 2
    assert told["purge"]["modules"] == []


def test_threads_are_those_of_the_client(told: dict[str, Any]) -> None:
    """The client's own, a few a core; neither a pull nor a purge leaves one behind."""
    assert told["push"]["threads"] <= 2 + 2 * (os.cpu_count() or 1)
    assert told["pull"]["threads"] <= 1
    assert told["purge"]["threads"] <= 1


KINDS: dict[str, Callable[[], Any]] = {
    "records": lambda: SMALL,
    "bytes": lambda: b"x" * 50_000,
    "numpy": lambda: np.arange(10_000),
    "DataFrame": lambda: pd.DataFrame({"n": range(1000), "s": ["a"] * 1000}),
    "dict that holds both": lambda: {"array": np.arange(10_000), "frame": pd.DataFrame({"n": range(1000)})},
    "20 MB of bytes": lambda: b"x" * 20 * MEGABYTE,
}


@pytest.mark.parametrize("kind", KINDS)
def test_one_request_a_push_and_one_a_pull_whatever_the_kind(kind: str) -> None:
    """Below four parts nothing is split, nothing is asked twice and nothing is looked for."""
    stores: list[CountingStore] = []

    def counted(store: Any) -> CountingStore:
        stores.append(CountingStore(store))
        return stores[-1]

    pipeline = make_pipeline(wrap=counted)
    row = pipeline.push(KINDS[kind](), HERE)
    assert is_envelope(row)
    pipeline.pull(row)
    assert sum((store.calls for store in stores), start=type(stores[0].calls)()) == {"put": 1, "get": 1}


def _peak_bytes(work: Callable[[], Any]) -> tuple[int, Any]:
    tracemalloc.start()
    try:
        result = work()
        return tracemalloc.get_traced_memory()[1], result
    finally:
        tracemalloc.stop()


NOISE = random.Random(0).randbytes(40 * MEGABYTE)


@pytest.mark.parametrize(
    ("make", "push_most", "pull_most"),
    [
        (lambda: NOISE, 0.05, 1.05),
        (lambda: np.frombuffer(NOISE, dtype="float64"), 0.05, 1.05),
        (lambda: NOISE.hex()[: 40 * MEGABYTE], 2.2, 3.2),
    ],
    ids=["bytes", "numpy", "text"],
)
def test_copies_of_a_large_value(tmp_path: Path, make: Callable[[], Any], push_most: float, pull_most: float) -> None:
    """Peak memory beside the value, as a multiple of it. A pull's contains what it gives."""
    pipeline = make_pipeline(tmp_path.as_uri())
    pipeline.pull(pipeline.push(b"x" * 20 * MEGABYTE, HERE))
    value = make()
    pushed, row = _peak_bytes(lambda: pipeline.push(value, HERE))
    pulled, back = _peak_bytes(lambda: pipeline.pull(row))
    assert type(back) is type(value)
    assert pushed / (40 * MEGABYTE) <= push_most
    assert pulled / (40 * MEGABYTE) <= pull_most


def test_no_thread_outlives_a_large_push_or_pull(tmp_path: Path) -> None:
    """What compresses, hashes and reads in parallel is gone when the value is there."""
    pipeline = make_pipeline(tmp_path.as_uri())
    before = threading.active_count()
    pipeline.pull(pipeline.push(NOISE, HERE))
    assert threading.active_count() == before


def _calls(work: Callable[[], Any]) -> int:
    """Calls of functions, Python's and C's, on this thread."""
    count = 0

    def profile(_: Any, event: str, __: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def test_calls_of_small_values(caplog: pytest.LogCaptureFixture) -> None:
    """The work in Python around a small value: where a check or a copy of a setting creeps in, it shows here.

    Without the line in the log, whose cost is that of the handlers that are set up.
    """
    caplog.set_level(logging.WARNING, logger="xcargo")
    inline, pipeline = make_pipeline(), make_pipeline(threshold_bytes=0)
    counts = {"inline push": _calls(lambda: inline.push({"a": 23}, HERE))}
    for name, value in {"": SMALL, " of records": SMALL["records"], " of a frame": FRAME}.items():
        row = pipeline.push(value, HERE)
        pipeline.pull(row)
        counts[f"push{name}"] = _calls(partial(pipeline.push, value, HERE))
        counts[f"pull{name}"] = _calls(partial(pipeline.pull, row))
    assert {name: count for name, count in counts.items() if count > MOST_CALLS[name]} == {}


MOST_CALLS = {
    "inline push": 25,
    "push": 310,
    "pull": 135,
    "push of records": 490,
    "pull of records": 140,
    "push of a frame": 1550,
    "pull of a frame": 1950,  # both with pandas 2.1, which makes the most
}
