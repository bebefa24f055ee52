"""The state store of tasks and assets, on an Airflow that has one: 3.3 and later."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from xcargo.airflow.references.database import DatabaseReferences
from xcargo.lifecycle.plan import SweepOptions, Verdict
from xcargo.lifecycle.sweep import Sweep
from xcargo.model.root import Root
from xcargo.stores.local import LocalStore

from .conftest import State

HAS_STATE = find_spec("airflow.state") is not None
LOOPS = HAS_STATE and find_spec("airflow.sdk.execution_time.loop") is not None
pytestmark = pytest.mark.skipif(not HAS_STATE, reason="this Airflow has no state store")


def objects(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def test_values_come_back_in_a_real_dag(state: State) -> None:
    """Small ones stay in their rows as they are; of large and typed ones the row has an envelope. The Dag compared."""
    assert state.tasks["keep", -1, "small"] == {"b": 1, "a": "é"}
    assert state.tasks["keep", -1, "large"]["__id__"] == "xcargo/1"
    assert set(state.tasks) == {
        *(("keep", -1, key) for key in ("small", "large", "typed")),
        *(("cleared", 1, key) for key in ("one", "two")),
        ("deferrable", -1, "job"),
        *(("rounds.count", iteration, "n") for iteration in ((0, 2) if LOOPS else ())),
    }
    assert set(state.assets) == {"cursor", "old", "old small"}
    assert isinstance(state.assets["old"], str)


def test_every_row_refers_to_an_object_that_is_there(state: State) -> None:
    """Below the path that Common IO's options name, in folders of the key; what was deleted and cleared is gone."""
    rows = [*state.tasks.values(), *state.assets.values()]
    uris = [row["uri"] for row in rows if isinstance(row, dict) and "uri" in row]
    named = {uri.removeprefix(f"{state.root.as_uri()}/") for uri in uris}
    left = objects(state.root)
    assert named <= left
    old = {key for key in left if "~" not in key}
    assert len(old) == 2
    (overwritten,) = left - named - old
    assert "/~state/keep/-1/large/~" in overwritten
    assert not any("gone" in key or "/cleared/0/" in key or "/without_waiting/" in key for key in left)
    loops = {tuple(key.split("/")[2:5]) for key in left if "/rounds.count/" in key}
    assert len({region for region, *_ in loops}) == LOOPS
    assert {iteration for _, _, iteration in loops} == ({"0", "2"} if LOOPS else set())


def test_a_sweep_keeps_what_rows_refer_to_and_takes_what_they_left(state: State) -> None:
    """With rows of XComs and of the state store in one database; Common IO's objects are not touched."""
    root = Root.parse(state.root.as_uri())
    options = SweepOptions(grace_seconds=-1, max_share=None)
    before = objects(state.root)
    with Sweep(LocalStore(root), DatabaseReferences(), root=root, options=options) as sweep:
        report = sweep.plan()
    assert {verdict: count.objects for verdict, count in report.total.items()} == {
        Verdict.LIVE: 7 if LOOPS else 5,
        Verdict.ORPHAN: 1,
        Verdict.FOREIGN: 2,
    }
    assert objects(state.root) == before
