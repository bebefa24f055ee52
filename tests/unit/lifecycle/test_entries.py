"""Entries of memoize in a sweep: which go, which stay, and that nothing in one touches anything else."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from typing import Any

import pytest

from tests.unit.conftest import make_pipeline
from tests.unit.lifecycle.inventories import Entry as Listed
from tests.unit.lifecycle.inventories import write_s3
from tests.unit.lifecycle.kit import BEGINNING, DAY, HOUR, Deployment
from xcargo.errors import StoreUnavailableError
from xcargo.lifecycle.inventory import open_inventory
from xcargo.lifecycle.plan import SweepOptions, Verdict
from xcargo.lifecycle.report import Outcome, Report
from xcargo.lifecycle.retention import parse_rules
from xcargo.lifecycle.sweep import Sweep, folders
from xcargo.model.coordinate import Coordinate
from xcargo.model.keys import Key, Signer
from xcargo.model.root import Root
from xcargo.pipeline.memo import Fingerprint
from xcargo.stores.local import MemoryStore, buckets

KEY = Key("2026", os.urandom(32))


@pytest.fixture
def here() -> Deployment:
    buckets.clear()
    return Deployment()


def remember(
    here: Deployment, dag: str = "d", run: str = "r", *, row: Any = None, scope: Any = "task", **more: Any
) -> str:
    """A result that was computed, and its entry; ``row`` is one that is in the entry itself."""
    at = Coordinate(dag, run, "t", "return_value")
    if row is None:
        here.push(dag, run, key="return_value")
        row = here.table[at]
    here.run(dag, run)
    return here.note(Fingerprint(scope, dag, "t", {"source": "1"}), row, at, **more)


def verdicts(report: Report) -> dict[Verdict, int]:
    return {verdict: count.objects for verdict, count in report.entries.items()}


def test_an_entry_goes_once_its_result_has_gone(here: Deployment) -> None:
    """And not while a row, or one in an archive, refers to it. It is counted apart from objects."""
    live, archived, gone = (remember(here, dag) for dag in ("live", "archived", "gone"))
    at = {at.dag_id: at for at in here.table}
    here.archive.append((at["archived"], here.table.pop(at["archived"])))
    del here.table[at["gone"]]
    here.pass_time(DAY + 1)
    report = here.sweep()
    assert here.entry_keys() == {live, archived}
    assert verdicts(report) == {Verdict.LIVE: 2, Verdict.ORPHAN: 1}
    assert (report.total[Verdict.ORPHAN].objects, report.outcomes[Outcome.DELETED].objects) == (1, 1)
    written = report.to_json()
    assert written["entries"]["orphan"]["objects"] == written["entry_outcomes"]["deleted"]["objects"] == 1
    assert gone not in here.keys()


def test_nothing_younger_than_the_grace_is_judged_or_read(here: Deployment) -> None:
    """Its row may be about to be written. The store is asked for none of them."""
    remember(here, "kept")
    young = remember(here, "d")
    here.table.pop(next(at for at in here.table if at.dag_id == "d"))
    asked = []
    here.store.before = lambda verb, key: asked.append((verb, key))
    assert verdicts(here.sweep()) == {Verdict.YOUNG: 2}
    assert ("get", young) not in asked
    assert young in here.entry_keys()


def test_an_entry_expires_by_the_clock_of_the_store(here: Deployment) -> None:
    """So long after it was stored as it was to be used for, whatever clock its worker had."""
    short = remember(here, "short", expires=timedelta(days=2))
    long = remember(here, "long", expires=timedelta(days=4))
    here.pass_time(3 * DAY)
    assert verdicts(here.sweep()) == {Verdict.EXPIRED: 1, Verdict.LIVE: 1}
    assert here.entry_keys() == {long}
    assert short not in here.keys()
    assert here.objects() == here.referenced()


def test_a_retention_rule_ends_entries_and_no_value(here: Deployment) -> None:
    """The first of `memo` that matches; other rules are for values alone."""
    kept, named, unreadable, damaged = (remember(here, dag) for dag in ("kept", "named", "unreadable", "damaged"))
    remember(here, "gone")
    for key in (unreadable, damaged):
        here.store.put(key, [b"?"])
    here.pass_time(8 * DAY)
    rules = parse_rules("memo dag=named: keep forever; memo dag=gone task=t: keep 7d; dag=*: keep forever")
    assert verdicts(here.sweep(rules=rules)) == {Verdict.LIVE: 2, Verdict.EXPIRED: 1, Verdict.UNSEEN: 2}
    assert here.entry_keys() == {kept, named, unreadable, damaged}
    here.sweep(rules=parse_rules("memo dag=named: keep forever; memo dag=damaged task=t: keep forever; memo: keep 7d"))
    assert here.entry_keys() == {named, damaged}  # one that cannot be read is of the Dag and task of its folder
    assert here.objects() == here.referenced()


def test_an_entry_whose_value_expires_goes_with_it(here: Deployment) -> None:
    """In the same sweep: the object is a note from then on."""
    remember(here)
    here.pass_time(2 * 365 * DAY)
    report = here.sweep(rules=parse_rules("keep 0d even latest"))
    assert report.total[Verdict.EXPIRED].objects == 1
    assert verdicts(report) == {Verdict.ORPHAN: 1}
    assert here.entry_keys() == set()


def test_a_result_in_the_entry_itself_stays_while_its_dag_has_runs(here: Deployment) -> None:
    """No row can say that it is gone. Where Dags may be hidden, it stays."""
    kept, gone = remember(here, "kept", row=3), remember(here, "gone", row=3)
    here.push("kept", "r")
    del here.known_runs["gone", "r"]
    here.pass_time(DAY + 1)
    here.hides_dags = True
    here.sweep()
    assert here.entry_keys() == {kept, gone}
    here.hides_dags = False
    here.sweep()
    assert here.entry_keys() == {kept}


def test_what_rest_does_not_show_is_not_gone(here: Deployment) -> None:
    """The rows of a Dag that the user may have no right to."""
    here.push("seen", "r")
    hidden = remember(here, "hidden")
    here.table.pop(next(at for at in here.table if at.dag_id == "hidden"))
    del here.known_runs["hidden", "r"]
    here.hides_dags = True
    here.pass_time(DAY + 1)
    assert verdicts(here.sweep()) == {Verdict.LIVE: 1}
    assert here.entry_keys() == {hidden}


def test_without_any_reference_no_entry_is_known_to_lead_nowhere(here: Deployment) -> None:
    """A new database, or the wrong one. What has expired goes all the same."""
    inline, expired = remember(here, "a", row=3), remember(here, "b", row=3, expires=timedelta(hours=1))
    here.known_runs.clear()
    here.pass_time(DAY + 1)
    report = here.sweep()
    assert not report.refusals
    assert verdicts(report) == {Verdict.UNSEEN: 1, Verdict.EXPIRED: 1}
    assert here.entry_keys() == {inline}
    assert expired not in here.keys()


def test_what_is_no_entry_that_can_be_used_decides_nothing(here: Deployment) -> None:
    """Forged, of another place or of a newer release: it keeps no object and deletes none, and stays itself."""
    here.pipeline = make_pipeline(here.url, wrap=lambda _: here.store, threshold_bytes=0, signing_keys=(KEY,))
    key = remember(here)
    good = json.loads(bytes(here.store.get(key)))
    here.store.put(key.replace("/d/", "/e/"), [json.dumps(good).encode()])
    newer = here.pipeline.signer.signed({**good, "__id__": "xcargo-memo/2"})
    unspeakable = {**good, "signature": f"hmac-sha256:{KEY.name}:\ud800"}
    others = {"1": {**good, "expires_at": good["created_at"]}, "2": newer, "3": unspeakable}
    for name, content in others.items():
        here.store.put(f"{key.rpartition('/')[0]}/{name * 32}.json", [json.dumps(content).encode()])
    here.store.put("~xcargo/memo/d/t/readme.txt", [b"mine"])
    orphan = here.push("d", "r", key="return_value")  # and the entry leads to the value before this one
    here.table.pop(next(at for at in here.table))
    kept = here.push("d", "r2")
    here.pass_time(DAY + 1)
    report = here.sweep(signer=Signer((KEY,)))
    assert verdicts(report) == {Verdict.ORPHAN: 1, Verdict.UNSEEN: 4, Verdict.FOREIGN: 1}
    assert len(here.entry_keys()) == 5
    assert here.objects() == {kept}
    assert orphan not in here.keys()


def test_a_result_in_the_entry_refers_to_no_object_though_it_may_say_null(here: Deployment) -> None:
    """Whoever writes to the bucket may spell a row in any way that is an envelope: no sweep ends by it."""
    row = {**here.pipeline.push_inline("x", Coordinate("d", "r", "t", "k")), "uri": None}  # type: ignore[dict-item]
    key = remember(here, row=row)
    here.push("d", "r")
    here.pass_time(DAY + 1)
    assert verdicts(here.sweep()) == {Verdict.LIVE: 1}
    assert here.entry_keys() == {key}


def test_prefixes_confine_entries_too(here: Deployment) -> None:
    """Those of one Dag; a run has none of its own. Those of all Dags are left to a sweep of everything."""
    keys = [remember(here, "a"), remember(here, "b"), remember(here, "a", scope="global")]
    here.push("c", "r")
    for at in [at for at in here.table if at.dag_id != "c"]:
        del here.table[at]
    here.pass_time(DAY + 1)
    here.sweep(prefixes=("a/t",))
    assert here.entry_keys() == set(keys)
    here.sweep(prefixes=("a",))
    assert here.entry_keys() == set(keys[1:])
    assert {"b", "~"} < set(folders(here.store))  # so parts of a sweep have them, though no object is left
    here.sweep(prefixes=("~", "b"))
    assert here.entry_keys() == set()


def test_a_claim_of_a_task_that_was_killed_goes(here: Deployment) -> None:
    """Not while it is younger than the grace: its task may be at work."""
    here.push("kept", "r")
    here.entries.claim(Fingerprint("task", "d", "t", {}).key, ("d", "r", "t", -1))
    assert verdicts(here.sweep()) == {Verdict.YOUNG: 1}
    here.pass_time(DAY + 1)
    assert verdicts(here.sweep()) == {Verdict.ORPHAN: 1}
    assert here.entry_keys() == set()


def test_an_entry_that_was_stored_anew_since_is_kept(here: Deployment) -> None:
    """It is looked at once more right before."""
    here.push("kept", "r")
    key = remember(here)
    at = Coordinate("d", "r", "t", "return_value")
    del here.table[at]
    here.pass_time(DAY + 1)
    with here.new_sweep() as sweep:
        report = sweep.plan()
        remember(here)
        applied = sweep.apply(report)
    assert applied.entry_outcomes[Outcome.CHANGED].objects == 1
    assert key in here.entry_keys()


def test_a_store_that_stays_away_is_no_reason_to_judge(here: Deployment) -> None:
    """The sweep ends."""
    remember(here)
    here.pass_time(DAY + 1)

    def fail(verb: str, key: str) -> None:
        if verb == "get" and key.startswith("~xcargo/memo/"):
            raise StoreUnavailableError("busy")

    here.store.before = fail
    with pytest.raises(StoreUnavailableError):
        here.sweep()


def test_a_sweep_by_an_inventory_has_them_too() -> None:
    """Entries are listed as ever; objects are those of the inventory."""
    buckets.clear()
    here = Deployment()
    here.root = Root.parse("s3://bucket/xcom")
    here.pipeline = make_pipeline(
        str(here.root), wrap=lambda _: here.store, threshold_bytes=0, connection={"conn_type": "aws"}
    )
    live, gone = remember(here, "live"), remember(here, "gone")
    here.table.pop(next(at for at in here.table if at.dag_id == "gone"))
    orphan = (here.objects() - here.referenced()).pop()
    inventories = MemoryStore(Root.parse("s3://inventories"))
    info = here.store.head(orphan)
    listed = [Listed(f"xcom/{key}", info.size_bytes, BEGINNING, "") for key in (orphan, live, gone)]
    here.pass_time(2 * DAY)
    taken = BEGINNING + timedelta(seconds=2 * DAY - HOUR)
    manifest = write_s3(lambda k, data: inventories.put(k, [data]), listed, bucket="bucket", taken=taken)
    inventory = open_inventory(f"s3://inventories/{manifest}", here.root, lambda _: inventories)
    options = SweepOptions(max_share=None, workers=1)
    with Sweep(here.store, here, root=here.root, options=options, inventory=inventory) as sweep:
        report = sweep.apply(sweep.plan())
    assert verdicts(report) == {Verdict.LIVE: 1, Verdict.ORPHAN: 1}
    assert here.entry_keys() == {live}
    assert orphan not in here.keys()
