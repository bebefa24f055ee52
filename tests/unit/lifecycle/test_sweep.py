"""Sweeps: what goes, what stays and why, what makes one refuse."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any
from uuid import UUID

import pytest

from tests.unit.lifecycle.kit import DAY, Deployment
from xcargo.errors import AccessDeniedError, ObjectNotFoundError, StoreError, SweepRefusedError
from xcargo.lifecycle.bookkeeping import QUARANTINE, read_owner
from xcargo.lifecycle.plan import Count, Verdict, share_refusal
from xcargo.lifecycle.report import Outcome, Report
from xcargo.lifecycle.retention import parse_rules
from xcargo.model.coordinate import Coordinate, State
from xcargo.model.root import Root
from xcargo.stores.local import LocalStore


@pytest.fixture
def here() -> Deployment:
    return Deployment()


def orphan(here: Deployment, dag: str = "gone", run: str = "r", **more: Any) -> str:
    """An object that had a row."""
    key = here.push(dag, run, **more)
    here.table.popitem()
    return key


def numbers(report: Report) -> dict[str, int]:
    """Objects by verdict."""
    return {str(verdict): count.objects for verdict, count in report.total.items()}


def test_an_object_without_a_row_goes_and_one_with_a_row_stays(here: Deployment) -> None:
    """The dry run shows it and takes nothing, applying takes exactly it."""
    kept, gone = here.push("a", "r"), orphan(here)
    here.pass_time(DAY + 1)
    dry = here.sweep(apply=False)
    assert numbers(dry) == {"live": 1, "orphan": 1}
    assert here.keys() == {kept, gone}
    done = here.sweep()
    assert done.outcomes == {Outcome.DELETED: Count(1, dry.total[Verdict.ORPHAN].size_bytes)}
    assert here.objects() == {kept}
    assert here.notes() == set()
    assert done.dags["gone"] == {Verdict.ORPHAN: dry.total[Verdict.ORPHAN]}


@pytest.mark.parametrize(("age_seconds", "goes"), [(DAY - 1, False), (DAY, False), (DAY + 1, True)])
def test_an_orphan_stays_until_it_is_older_than_the_grace(here: Deployment, age_seconds: float, goes: bool) -> None:
    """Of exactly that age it stays."""
    here.push("a", "r")
    gone = orphan(here)
    here.pass_time(age_seconds)
    report = here.sweep()
    assert (gone not in here.objects()) is goes
    assert numbers(report).get("too_young", 0) == (not goes)


def test_an_object_of_unknown_age_stays(here: Deployment) -> None:
    """The listing does not say when it was written."""
    here.push("a", "r")
    ageless = orphan(here)
    here.store.written[ageless] = None
    here.pass_time(365 * DAY)
    assert numbers(here.sweep()) == {"live": 1, "unknown_age": 1}
    assert ageless in here.objects()


def test_a_store_that_tells_no_time_is_refused(here: Deployment) -> None:
    """Then nothing is known to be old enough."""
    here.push("a", "r")
    here.store.tells_time = False
    with pytest.raises(SweepRefusedError, match="does not say when"):
        here.sweep()


@pytest.mark.parametrize(
    "key",
    [
        "report.pdf",
        "a/r/t/k",
        "a/r/t/0123456789abcdef.zst",
        "a/r/t/k~0123456789ABCDEF.zst",
        "a/r/t/k~0123456789abcde.zst",
        "a/r/t/map/k~0123456789abcdef.zst",
        "b/a/r/t/0/k~0123456789abcdef.zst",
        "a/r/t/5bd5a3ab-5b1f-4b5e-9f4a-9d34fbc0e0a5.gz",
        "a/~x/t/k~0123456789abcdef",
    ],
)
def test_what_somebody_else_put_there_is_left_alone_and_counted(here: Deployment, key: str) -> None:
    """Only keys that a push gives are ours, whatever the age."""
    here.push("a", "r")
    here.store.put(key, [b"precious"])
    here.pass_time(365 * DAY)
    report = here.sweep()
    assert key in here.objects()
    assert numbers(report) == {"live": 1, "not_ours": 1}


@pytest.mark.parametrize("prefixes", [(), ("old",)])
def test_a_root_inside_another_is_swept_by_itself(here: Deployment, prefixes: tuple[str, ...]) -> None:
    """A former path, say: the key of a task named by a number looks like that of a mapped one of a Dag ``old``."""
    here.push("a", "r")
    inner = Coordinate("dag", "r", "7", "k")
    here.store.put(f"old/{inner.object_key()}", [b"x"])
    (key,) = here.objects() - here.referenced()
    here.table[inner] = {**next(iter(here.table.values())), "uri": here.root.uri(key)}
    here.pass_time(DAY + 1)
    here.sweep(prefixes=prefixes, roots=(here.root, Root.parse(here.root.uri("old"))))
    assert key in here.objects()
    del here.table[inner]
    report = here.sweep(roots=(here.root, Root.parse(here.root.uri("old"))))
    assert numbers(report) == {"live": 1, "not_ours": 1}


@pytest.mark.parametrize(
    ("key", "goes"),
    [
        (".xcargo-scratch/doctor/store/probe~0123456789abcdef.bin", True),
        (".xcargo-scratch/bench/store/probe~0123456789abcdef.bin", True),
        (".xcargo-scratch/notes.txt", False),
        ("xcargo-scratch/notes.txt", False),
    ],
)
def test_what_a_killed_doctor_or_bench_left_is_an_orphan(here: Deployment, key: str, goes: bool) -> None:
    """Also where rows of other Dags may be hidden; nothing else below their folders is."""
    here.push("a", "r")
    here.store.put(key, [b"x"])
    here.hides_attempts = here.hides_dags = True
    here.pass_time(DAY)
    here.sweep()
    assert key in here.objects()
    here.pass_time(1)
    assert (Outcome.DELETED in here.sweep(quarantine_seconds=DAY).outcomes) is goes
    assert (key not in here.keys()) is goes


@pytest.mark.parametrize(
    "at",
    [
        Coordinate("d", "r", "t", "k"),
        Coordinate("d" * 250, "run " * 60, "t" * 250, "key/" * 120, 7, "8b1f"),
        Coordinate("", "", "", ""),
        Coordinate("..", ".", "a~b", "c@d~e", 0),
        Coordinate("日", "r\0", "\x1b[31m", "k\n"),
        Coordinate("\x1b[31m", "r", "t", "k"),
        Coordinate("..", ".", "", "c@d~e", 0, state=State(str(UUID(int=1)))),
        Coordinate("", "", "", "日\n", state=State(asset="s3://" + "x" * 250, asset_by="uri")),
    ],
    ids=["plain", "long", "empty", "dots", "strange", "terminal", "state", "asset"],
)
def test_every_key_that_a_push_gives_is_ours(here: Deployment, at: Coordinate) -> None:
    """Whatever the ids hold; and what is shown of them moves no terminal."""
    here.push("a", "r")
    key = here.key_of(here.pipeline.push({"x": 1}, at))
    here.pass_time(DAY + 1)
    report = here.sweep()
    assert key not in here.objects()
    assert all(dag.isprintable() for dag in report.dags)


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "yesterday", 7])
def test_a_row_of_any_time_is_a_reference(here: Deployment, time: Any) -> None:
    """Whoever may write a row may write anything in it: no sweep ends by it, and its object stays."""
    live = here.push("a", "r")
    (at,) = here.table
    here.table[at]["created_at"] = time
    here.pass_time(DAY + 1)
    assert numbers(here.sweep()) == {"live": 1}
    assert live in here.objects()


def test_without_one_live_reference_it_refuses(here: Deployment) -> None:
    """A database that was just set up looks like that."""
    gone = orphan(here)
    here.pass_time(DAY + 1)
    report = here.sweep()
    assert "not one live reference" in report.refusals[0]
    with here.new_sweep() as sweep, pytest.raises(SweepRefusedError):
        sweep.apply(sweep.plan())
    assert gone in here.objects()


@pytest.mark.parametrize("quarantine_seconds", [None, 0.0])
def test_before_the_first_value_there_is_nothing_to_refuse(here: Deployment, quarantine_seconds: float | None) -> None:
    """It takes neither what may get its row yet, nor anything from quarantine, and claims nothing."""
    young = orphan(here)
    here.store.put(f"{QUARANTINE}/{young}", [b"aside"])
    here.pass_time(60)
    report = here.sweep(quarantine_seconds=quarantine_seconds)
    assert (report.refusals, report.outcomes) == ([], {})
    assert {young, f"{QUARANTINE}/{young}"} <= set(here.keys())
    assert read_owner(here.store) is None


@pytest.mark.parametrize(
    ("orphans", "live", "refused"),
    [
        (Count(5, 5), Count(5, 5), False),
        (Count(6, 1), Count(4, 9), True),
        (Count(1, 6), Count(9, 4), True),
        (Count(0, 0), Count(0, 0), False),
        (Count(1, 0), Count(0, 0), True),
    ],
)
def test_a_share_counts_by_number_and_by_bytes(orphans: Count, live: Count, refused: bool) -> None:
    """More than half of either is too much; exactly half is not. What is not ours counts for nothing."""
    total = {Verdict.ORPHAN: orphans, Verdict.LIVE: live, Verdict.FOREIGN: Count(1000, 1000)}
    assert (share_refusal(total, 0.5) is not None) is refused
    assert share_refusal(total, None) is None


def test_a_refusal_names_the_share_that_would_do(here: Deployment) -> None:
    """Nothing is deleted; what the refusal says to give lets the sweep pass, in bytes too."""
    here.push("a", "r")
    gone = orphan(here, value="x" * 1000)
    here.pass_time(DAY + 1)
    refusal = here.sweep(max_share=0.5).refusals[0]
    assert gone in here.objects()
    assert not here.sweep(max_share=float(refusal.rpartition(" ")[2])).refusals
    assert gone not in here.objects()


def test_a_prefix_is_swept_and_nothing_beside_it(here: Deployment) -> None:
    """Also one whose Dag has no row left, as long as there is a row anywhere."""
    here.push("a", "r")
    gone, other, similar = (orphan(here, dag=dag) for dag in ("gone", "other", "gone2"))
    here.pass_time(DAY + 1)
    report = here.sweep(prefixes=("gone",))
    assert here.objects() & {gone, other, similar} == {other, similar}
    assert report.missing is None
    here.sweep(prefixes=("other", "gone2/r"))
    assert not here.objects() & {other, similar}


@pytest.mark.parametrize("stored", [None, "other bytes", "the same bytes"])
def test_an_object_that_is_not_the_one_of_the_listing_is_left_alone(here: Deployment, stored: str | None) -> None:
    """Somebody wrote to its key since, or deleted it."""
    here.push("a", "r")
    key = orphan(here)
    same = bytes(here.store.get(key))
    here.pass_time(DAY + 1)
    with here.new_sweep() as sweep:
        report = sweep.plan()
        here.store.delete([key])
        if stored:
            here.store.put(key, [same if stored == "the same bytes" else b"another"])
        outcome = Outcome.CHANGED if stored else Outcome.GONE
        assert sweep.apply(report).outcomes == {outcome: report.total[Verdict.ORPHAN]}
    assert (key in here.objects()) is bool(stored)


def test_an_object_that_a_row_refers_to_again_stays(here: Deployment) -> None:
    """The rows of its run are looked up once more, right before."""
    here.push("a", "r")
    orphan(here)
    at = Coordinate("gone", "r", "t", "k")
    row = here.pipeline.push("x", at)
    here.pass_time(DAY + 1)
    with here.new_sweep() as sweep:
        report = sweep.plan()
        here.table[at] = row
        outcomes = sweep.apply(report).outcomes
    done = {outcome: count.objects for outcome, count in outcomes.items()}
    assert done == {Outcome.DELETED: 1, Outcome.REFERENCED: 1}
    assert here.key_of(row) in here.objects()


def test_a_missing_object_is_counted(here: Deployment) -> None:
    """A row whose object is gone is none of a sweep's doing, but worth a word."""
    here.push("a", "r")
    here.store.delete([here.push("a", "r2")])
    assert here.sweep(apply=False).missing == 1


def test_a_store_that_refuses_to_delete_ends_it_with_what_was_done(here: Deployment) -> None:
    """What could not be deleted is counted as failed, and the lock is given back."""
    here.push("a", "r")
    orphan(here)
    here.pass_time(DAY + 1)

    def fail(verb: str, key: str) -> None:
        if verb == "delete" and not key.startswith("~"):
            raise AccessDeniedError("no right to delete")

    here.store.before = fail
    with here.new_sweep() as sweep:
        report = sweep.plan()
        with pytest.raises(AccessDeniedError):
            sweep.apply(report)
    assert report.failed
    assert report.outcomes == {Outcome.FAILED: report.total[Verdict.ORPHAN]}
    assert here.notes() == set()


def test_rows_that_cannot_be_read_keep_what_they_may_refer_to(here: Deployment) -> None:
    """Through the REST API: a Dag that is not shown, an earlier attempt of a run that is there."""
    here.push("a", "r", key="kept")
    hidden, attempt = orphan(here, dag="hidden"), orphan(here, dag="a", attempt="1")
    gone = orphan(here, dag="a")
    of_gone_run = orphan(here, dag="a", run="gone", attempt="1")
    old = "d%C3%BC/r%3A1/t/k@1~0123456789abcdef"  # as pre-releases wrote it
    here.store.put(old, [b"x"])
    here.run("dü", "r:1")
    del here.known_runs["hidden", "r"], here.known_runs["a", "gone"]
    here.hides_attempts = here.hides_dags = True
    here.pass_time(DAY + 1)
    report = here.sweep()
    assert {hidden, attempt, old} <= here.objects()
    assert not {gone, of_gone_run} & here.objects()
    assert numbers(report)["cannot_be_told"] == 3


TASK, ASSET = Coordinate("a", "r", "t", "k", 3, state=State()), Coordinate("", "", "", "k", state=State(asset="orders"))


@pytest.mark.parametrize("at", [TASK, ASSET], ids=["task", "asset"])
@pytest.mark.parametrize("folder", [None, "a", "~asset-names", "~asset-names/orders", "a/r"])
def test_state_is_swept_as_xcoms_are(here: Deployment, at: Coordinate, folder: str | None) -> None:
    """An object with a row stays, the one that a later value of its key left goes, below whatever prefix."""
    here.push("a", "r")
    old, new = (here.key_of(here.pipeline.push(value, at)) for value in ("old", "new"))
    here.table[at] = {"__id__": "xcargo/1", "uri": here.root.uri(new)}
    here.pass_time(DAY + 1)
    report = here.sweep(prefixes=(folder,) if folder else ())
    assert new in here.objects()
    assert (old in here.objects()) is (folder is not None and not old.startswith(f"{folder}/"))
    assert not report.missing


@pytest.mark.parametrize("at", [TASK, ASSET], ids=["task", "asset"])
def test_state_that_rest_does_not_show_stays(here: Deployment, at: Coordinate) -> None:
    """Whoever reads rows through the REST API does not know what the state store refers to."""
    here.push("a", "r")
    key = here.key_of(here.pipeline.push("value", at))
    here.hides_state = True
    here.pass_time(DAY + 1)
    assert numbers(here.sweep())["cannot_be_told"] == 1
    assert key in here.objects()


@pytest.mark.parametrize("at", [TASK, ASSET], ids=["task", "asset"])
def test_no_retention_rule_is_for_state(here: Deployment, at: Coordinate) -> None:
    """Airflow has its own for it: what a row refers to stays."""
    here.run("a", "r")
    here.table[at] = here.pipeline.push("value", at)
    here.pass_time(100 * DAY)
    report = here.sweep(rules=parse_rules("keep 1d even latest"))
    assert numbers(report) == {"live": 1}


# --- the lock --------------------------------------------------------------------------------------------------------


def two_sweeps(here: Deployment, one: list[str], other: list[str], pause: float = 0) -> str:
    """Begin a sweep while another one holds its lock; ``pause`` seconds after that was last heard of. Its refusal."""
    refusals = []
    with here.new_sweep(prefixes=tuple(one)) as first:
        report = first.plan()

        def meanwhile(verb: str, key: str) -> None:
            if verb == "delete" and not key.startswith("~"):
                here.store.before = lambda verb, key: None
                here.pass_time(pause)
                try:
                    here.sweep(prefixes=tuple(other))
                except SweepRefusedError as error:
                    refusals.append(str(error))

        here.store.before = meanwhile
        first.apply(report)
    return "".join(refusals)


@pytest.mark.parametrize(
    ("one", "other", "refused"),
    [([], [], True), (["gone"], ["gone/r"], True), (["gone"], ["other"], False), (["gone"], [], True)],
)
def test_two_sweeps_of_the_same_objects_are_one_too_many(
    here: Deployment, one: list[str], other: list[str], refused: bool
) -> None:
    """Sweeps of different prefixes do not mind each other."""
    here.push("a", "r")
    orphan(here), orphan(here, dag="other")
    here.pass_time(DAY + 1)
    assert ("Another sweep is under way" in two_sweeps(here, one, other)) is refused
    assert here.notes() == set()
    here.sweep()
    assert here.objects() == here.referenced()


def test_the_lock_of_a_sweep_that_stands_still_expires(here: Deployment) -> None:
    """By the store's clock."""
    here.push("a", "r")
    orphan(here)
    here.pass_time(DAY + 1)
    assert not two_sweeps(here, [], [], pause=181)
    assert here.objects() == here.referenced()


def test_a_lock_is_renewed_while_a_single_deletion_takes_long(tmp_path: Path) -> None:
    """Of more than the time after which a lock expires; another sweep is refused all the while."""
    began, may_end = Event(), Event()

    class SlowStore(LocalStore):
        def delete(self, keys: Iterable[str]) -> None:
            for key in keys:
                if not key.startswith("~"):
                    began.set()
                    may_end.wait(30)
                super().delete([key])

    here = Deployment(url=tmp_path.as_uri())
    here.store = SlowStore(here.root)  # type: ignore[assignment]
    here.push("a", "r")
    gone = orphan(here)
    with ThreadPoolExecutor(1) as pool:
        sweeping = pool.submit(here.sweep, grace_seconds=-1, lock_seconds=1)
        assert began.wait(30)
        time.sleep(1.5)
        with pytest.raises(SweepRefusedError, match="under way"):
            here.sweep(grace_seconds=-1, lock_seconds=1)
        may_end.set()
        assert sweeping.result().outcomes[Outcome.DELETED].objects == 1
    assert gone not in {info.key for info in here.store.list()}


def test_a_sweep_that_lost_its_lock_deletes_nothing_more(here: Deployment) -> None:
    """What it did until then is in its report."""
    here.push("a", "r")
    orphan(here), orphan(here)
    here.pass_time(DAY + 1)

    def lose_the_lock(verb: str, key: str) -> None:
        if verb == "delete" and not key.startswith("~"):
            here.store.store.delete([info.key for info in here.store.store.list("~xcargo/locks")])
            time.sleep(0.5)

    with here.new_sweep(lock_seconds=0.6) as sweep:
        report = sweep.plan()
        here.store.before = lose_the_lock
        with pytest.raises(SweepRefusedError, match="another one may have started"):
            sweep.apply(report)
    assert {outcome: count.objects for outcome, count in report.outcomes.items()} == {Outcome.DELETED: 1}
    assert len(here.objects()) == 2


# --- quarantine ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("copies", [True, False], ids=["by the store", "through this machine"])
def test_quarantine_keeps_what_a_sweep_takes_for_a_while(here: Deployment, copies: bool) -> None:
    """The copy is the object; after the time it goes. The bytes pass through this machine only where they must."""
    seen: set[tuple[str, str]] = set()

    def before(verb: str, key: str) -> None:
        seen.add((verb, key))
        if verb == "copy" and not copies:
            raise StoreError("This store makes no copies")

    here.push("a", "r")
    gone = orphan(here)
    data = here.store.store.get(gone)
    here.pass_time(DAY + 1)
    here.store.before = before
    report = here.sweep(quarantine_seconds=7 * DAY)
    assert (("get", gone) in seen) is not copies
    assert report.outcomes[Outcome.QUARANTINED].objects == 1
    assert here.store.store.get(f"~xcargo/quarantine/{gone}") == data
    with pytest.raises(ObjectNotFoundError):
        here.store.head(gone)
    here.pass_time(7 * DAY)
    here.sweep(quarantine_seconds=7 * DAY)
    assert here.notes() == {f"~xcargo/quarantine/{gone}"}
    here.pass_time(1)
    here.sweep(quarantine_seconds=7 * DAY)
    assert here.notes() == set()


def test_what_a_row_refers_to_is_not_deleted_from_quarantine(here: Deployment) -> None:
    """Somebody put the row back: restore finds the object."""
    at = Coordinate("gone", "r", "t", "k")
    here.push("a", "r")
    here.push("gone", "r")
    row = here.table.pop(at)
    here.pass_time(DAY + 1)
    here.sweep(quarantine_seconds=0)
    here.table[at] = row
    here.pass_time(DAY)
    report = here.sweep(quarantine_seconds=0)
    assert report.outcomes[Outcome.REFERENCED].objects == 1
    assert here.notes() == {f"~xcargo/quarantine/{here.key_of(row)}"}


def test_what_a_hidden_row_may_refer_to_is_not_deleted_from_quarantine(here: Deployment) -> None:
    """It was moved there by the database; the REST API does not show its Dag."""
    here.push("a", "r")
    here.push("hidden", "r")
    del here.table[Coordinate("hidden", "r", "t", "k")], here.known_runs["hidden", "r"]
    here.pass_time(DAY + 1)
    here.sweep(quarantine_seconds=0)
    here.hides_dags = True
    here.pass_time(DAY)
    here.sweep(quarantine_seconds=0)
    assert len(here.notes()) == 1
    here.hides_dags = False
    here.sweep(quarantine_seconds=0)
    assert here.notes() == set()
