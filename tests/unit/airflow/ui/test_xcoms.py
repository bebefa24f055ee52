"""Rows of XComs in a real metadata database of each kind, what they cost, and what is shown of them."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import nullcontext
from datetime import datetime, timezone
from itertools import repeat
from typing import Any

import pytest
from airflow.models.dag import DagModel

from tests.metadata import NOON, Metadata
from xcargo.airflow import runtime
from xcargo.airflow.ui import xcoms
from xcargo.airflow.ui.stored import sum_sweep, summarize
from xcargo.airflow.ui.xcoms import XComId, XComRow
from xcargo.errors import EnvelopeError
from xcargo.lifecycle.plan import Count, Verdict
from xcargo.lifecycle.report import Report
from xcargo.model.coordinate import State

# In a process of its own: Airflow has one database for the life of a process.
ASKED = """
import json, sys
from dataclasses import asdict
from sqlalchemy import event
from airflow import settings
from xcargo.airflow.ui import state, xcoms
from xcargo.errors import XCargoError

count = 0
def counted(*_):
    global count
    count += 1
event.listen(settings.engine, "before_cursor_execute", counted)

def ask(work):
    global count
    count = 0
    try:
        answer = work()
    except XCargoError as error:
        answer = type(error).__name__
    return {"answer": answer, "queries": count}

def page(task, size):
    total, rows = xcoms.list_xcoms("d", run_id="r", task_id=task, map_index=None, start=0, count=size)
    return [total, [[row.id.key, row.row_bytes > 1000, row.value] for row in rows]]

one = lambda key, most=10**6: xcoms.find(xcoms.XComId("d", "r", "t", key), most).value
envelopes = lambda dags: [[row.id.key, row.value["type"]] for row in xcoms.list_envelopes(dags, None, 9)]
def keys(dag, index):
    total, rows = state.list_of_task(dag, run_id="a_run", task_id="a_task", map_index=index, start=0, count=9)
    return [total, [[row.id.key, row.id.map_index] for row in rows]]

def of_asset(name):
    (number,) = [asset["asset_id"] for asset in state.list_assets(9) if asset["name"] == name]
    total, rows = state.list_of_asset(number, start=0, count=9)
    return [total, [[row.id.key, state.find(row.id, 999).value, row.state.asset, row.state.uri] for row in rows]]

print("ANSWERS", json.dumps({
    "ten": ask(lambda: page("many", 10)),
    "hundred": ask(lambda: page("many", 100)),
    "mixed": ask(lambda: page("t", 100)),
    "of one time": ask(lambda: page(None, 9)),
    "one": ask(lambda: one("a")),
    "too large": ask(lambda: one("large", 1000)),
    "none": ask(lambda: one("none")),
    "others": ask(lambda: [r.id.run_id for r in xcoms.list_others(xcoms.XComId("d", "r", "t", "a"), 50)]),
    "envelopes": ask(lambda: envelopes(["d", "e"])),
    "envelopes of e": ask(lambda: envelopes(["e"])),
    "more": ask(lambda: [xcoms.has_more_rows(["d"], "r", than=number) for number in (105, 106)]),
    "state": ask(lambda: [[row.id.key, row.value["type"]] for row in state.list_envelopes(["e"], None, 9)]),
    "keys": ask(lambda: keys("e", 3)),
    "keys of all": ask(lambda: keys("e", None)),
    "key": ask(lambda: state.find(xcoms.XComId("e", "a_run", "a_task", "of e", 4, is_state=True), 99).value),
    "large key": ask(lambda: state.find(xcoms.XComId("e", "a_run", "a_task", "of e", 3, is_state=True), 9).value),
    "other keys": ask(lambda: [r.id.map_index for r in state.list_others(xcoms.XComId("e", "", "a_task", "of e"), 9)]),
    "assets": ask(lambda: [[asset["name"], asset["keys"]] for asset in state.list_assets(9)]),
    "of an asset": ask(lambda: of_asset("shop")),
    "sweeps": ask(lambda: [row.value for row in xcoms.sweep_reports(["d", "e"])]),
}))
"""
ENVELOPE = {"__id__": "xcargo/1", "type": "bytes", "codec": "bytes", "size_bytes": 1, "stored_bytes": 1, "data": "eA=="}


def answers_of(metadata: Metadata) -> dict[str, Any]:
    """What the functions answer about rows of two Dags, with the number of queries of each."""
    metadata.dag("d")
    values = {"a": {"n": 1}, "b": None, "c": "text", "envelope": ENVELOPE, "large": "x" * 300_000}
    rows: list[tuple[Any, dict[str, str]]] = [(value, {"task_id": "t", "key": key}) for key, value in values.items()]
    rows += [(n, {"task_id": "many", "key": f"k{n:03}"}) for n in range(100)]
    rows += [({"n": 2}, {"task_id": "t", "key": "a", "run_id": "other"})]
    rows += [([{"root": "s3://b"}], {"task_id": "sweep", "key": "return_value"})]
    metadata.push_many(iter([(value, {"dag_id": "d", "run_id": "r", **where}) for value, where in rows]))
    metadata.push(ENVELOPE, dag_id="e", key="of e")
    for dag_id, ref in (("e", ENVELOPE), ("d", ENVELOPE), ("e", "xcargo/ in a text")):
        metadata.state(json.dumps(ref), dag_id=dag_id, key=f"of {dag_id}", map_index=3 if ref == ENVELOPE else 4)
    for key in ("a", "b"):
        metadata.state(json.dumps([key]), asset="shop", key=key)
    metadata.execute(
        "UPDATE task_instance SET operator = 'XCargoGCOperator', end_date = :now WHERE task_id = 'sweep'", now=NOON
    )
    done = subprocess.run(
        [sys.executable, "-c", ASKED], env=metadata.env, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("ANSWERS ")]
    found: dict[str, Any] = json.loads(line.partition(" ")[2])
    return found


def test_rows_are_listed_found_and_measured_in_two_queries(metadata: Metadata) -> None:
    """Each value as it was stored; one that is too large stays in the database; envelopes of the Dags asked for.

    A page of a hundred rows costs what one of ten costs: their number, and the rows with their values.
    """
    answers = answers_of(metadata)
    told = {name: one["answer"] for name, one in answers.items()}
    mixed = {"a": {"n": 1}, "b": None, "c": "text", "envelope": ENVELOPE, "large": None}
    assert told["mixed"] == [5, [[key, key == "large", value] for key, value in mixed.items()]]
    assert told["ten"] == [100, [[f"k{n:03}", False, n] for n in range(10)]]
    keys_of_many = [[f"k{n:03}", False, n] for n in range(9)]
    assert told["of one time"] == [106, keys_of_many], "rows of one time have an order, so that none changes pages"
    assert (told["one"], told["too large"], told["none"]) == ({"n": 1}, "TooLargeError", "ObjectNotFoundError")
    assert told["others"] == ["other"]
    assert sorted(told["envelopes"]) == [["envelope", "bytes"], ["of e", "bytes"]]
    assert told["envelopes of e"] == [["of e", "bytes"]]
    assert told["state"] == [["of e", "bytes"]]
    assert (told["keys"], told["keys of all"]) == ([1, [["of e", 3]]], [2, [["of e", 3], ["of e", 4]]])
    assert (told["key"], told["large key"]) == ("xcargo/ in a text", "TooLargeError")
    assert sorted(told["other keys"]) == [3, 4]
    of_shop = [["a", ["a"], "shop", "x://shop"], ["b", ["b"], "shop", "x://shop"]]
    assert (told["assets"], told["of an asset"]) == ([["shop", 2]], [2, of_shop])
    assert told["more"] == [True, False], "106 rows are of this run"
    assert told["sweeps"] == [[{"root": "s3://b"}]]
    queries = {name: one["queries"] for name, one in answers.items()}
    assert (queries["ten"], queries["hundred"]) == (2, 2)
    assert (queries["one"], queries["envelopes"], queries["others"], queries["sweeps"]) == (1, 1, 2, 2)


class Manager:
    """Knows which Dags' XComs may be read, and counts how often it is asked."""

    def __init__(self, dags: int, hidden: set[str]) -> None:
        self.dags = {f"dag_{n:03}" for n in range(dags)}
        self.hidden = hidden
        self.batches = 0

    def get_authorized_dag_ids(self, *, user: Any, method: str) -> set[str]:
        return self.dags

    def batch_is_authorized_dag(self, requests: Any, *, user: Any) -> bool:
        self.batches += 1
        assert {(request["method"], request["access_entity"].value) for request in requests} <= {("GET", "XCOM")}
        return not any(request["details"].id in self.hidden for request in requests)


@pytest.mark.parametrize(("hidden", "batches"), [(set(), 1), ({"dag_500"}, 25), ({"dag_001", "dag_900"}, 45)])
def test_the_auth_manager_is_asked_in_batches(monkeypatch: pytest.MonkeyPatch, hidden: set[str], batches: int) -> None:
    """Once for a user who may read all of a thousand Dags; each that they may not costs a few batches more."""
    manager = Manager(1000, hidden)
    monkeypatch.setattr(xcoms, "get_auth_manager", lambda: manager)
    monkeypatch.setattr(DagModel, "get_dag_id_to_team_name_mapping", lambda dag_ids: {}, raising=False)
    assert set(xcoms.readable_dags(None)) == manager.dags - hidden
    assert manager.batches <= batches


def row_of(value: Any) -> XComRow:
    return XComRow(XComId("d", "r", "t", "return_value"), None, 100, value)


def stored_at(uri: str) -> dict[str, Any]:
    envelope = {name: part for name, part in ENVELOPE.items() if name != "data"}
    return envelope | {"uri": uri, "checksum": "blake3:0"}


def test_a_row_that_refers_to_another_dags_value_is_refused() -> None:
    """Whoever may read one Dag's XComs gets no other Dag's value through a row that was copied there."""
    root = runtime.settings().root
    assert root is not None
    row = stored_at(root.uri("other/r/t/return_value~0123456789abcdef.bin"))
    with pytest.raises(EnvelopeError, match="refers to a value of Dag 'other'"):
        xcoms.open_value(row_of(row), xcoms.budget())
    assert xcoms.summary(row_of(row))["uri"] == row["uri"]


@pytest.mark.parametrize(
    ("key", "xcom"),
    [
        ("d/r/t/k~0123456789abcdef.bin", XComId("d", "r", "t", "k", is_state=True)),
        ("~asset-names/shop/k/~0123456789abcdef.bin", XComId("d", "r", "t", "k", is_state=True)),
        ("e/r/~state/t/-1/k/~0123456789abcdef.bin", XComId("d", "r", "t", "k", is_state=True)),
    ],
)
def test_a_row_of_state_refers_to_its_own_state_alone(key: str, xcom: XComId) -> None:
    """Not to XComs, nor to the state of an asset or of another Dag."""
    root = runtime.settings().root
    assert root is not None
    with pytest.raises(EnvelopeError, match="refers to"):
        xcoms.open_value(XComRow(xcom, None, 100, stored_at(root.uri(key))), xcoms.budget())


def test_a_row_of_an_assets_state_refers_to_that_assets_alone() -> None:
    """Whoever may write one asset's state, and read it, gets no other asset's. Tasks know an asset by name or URI."""
    root, xcom = runtime.settings().root, XComId("", "", "", "k", is_state=True, asset_id=1)
    assert root is not None
    own, others = {"names/shop", "uris/x~3A~2F~2Fshop"}, {"names/shop2", "names/x~3A~2F~2Fshop", "uris/shop"}
    for folder in {f"~asset-{name}" for name in own | others} | {"d/r/~state/t/-1"}:
        row = stored_at(root.uri(f"{folder}/k/~0123456789abcdef.bin"))
        refused = pytest.raises(EnvelopeError, match="asset 'shop' refers to an object of something else")
        with nullcontext() if folder.removeprefix("~asset-") in own else refused:
            xcoms.open_value(XComRow(xcom, None, 100, row, State(asset="shop", uri="x://shop")), xcoms.budget())


def test_a_reused_value_says_where_it_is_from() -> None:
    """Which task instance computed it; of any other value there is nothing to say."""
    row = {"__id__": "xcargo/1", "type": "bytes", "codec": "bytes", "size_bytes": 1, "stored_bytes": 1, "data": "YQ=="}
    origin = {"dag": "d", "run": "r1", "task": "t", "at": "2026-01-01T00:00:00+00:00"}
    assert xcoms.summary(row_of(row | {"reused": origin}))["reused"] == origin
    assert xcoms.summary(row_of(row))["reused"] == {}


def test_sums_that_leave_rows_out_say_so() -> None:
    """The limit is one of envelopes, whether their values are in objects or in the rows themselves."""
    row = row_of({"__id__": "xcargo/1", "type": "bytes", "codec": "bytes", "size_bytes": 1, "data": "YQ=="})
    assert [summarize(repeat(row, number), "dag_id")["truncated"] for number in (19_999, 20_000)] == [False, True]


def test_the_last_sweeps_report_is_summed_up() -> None:
    """Roots and parts together, by verdict; a result that is no report counts as none."""
    count = Count()
    count.add(1000)
    report = Report("s3://b/x", (), datetime(2026, 1, 2, tzinfo=timezone.utc), 3600.0, missing=1)
    report.entries = {Verdict.ORPHAN: Count(3, 300)}
    report.total[Verdict.ORPHAN] = count
    summed = sum_sweep([row_of([report.to_json(), report.to_json()])])
    assert summed is not None
    assert summed["objects"]["orphan"] == {"objects": 2, "size_bytes": 2000}
    assert (summed["roots"], summed["missing"], summed["applied"]) == (["s3://b/x"], 2, False)
    assert summed["entries"]["orphan"] == {"objects": 6, "size_bytes": 600}
    assert sum_sweep([row_of("nothing")]) is None
