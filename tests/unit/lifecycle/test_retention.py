"""Retention: how rules read, which values they let go, and what the reader of such a value is told."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.lifecycle.kit import BEGINNING, DAY, Deployment
from xcargo.errors import ConfigurationError, IntegrityError, ObjectExpiredError
from xcargo.lifecycle.plan import Verdict
from xcargo.lifecycle.references import Reference, Run
from xcargo.lifecycle.report import Outcome
from xcargo.lifecycle.retention import FINISHED, Expiry, Rule, parse_duration, parse_rules, rules_of
from xcargo.model.coordinate import Coordinate
from xcargo.model.envelope import TOMBSTONE_BYTES, tombstone
from xcargo.model.root import Root
from xcargo.model.settings import Route, Settings

# --- how rules read --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("keep forever", [Rule("", forever=True)]),
        ("keep 7d", [Rule("", keep_seconds=7 * DAY)]),
        ("dag=a_*: keep 36h", [Rule("", dag="a_*", keep_seconds=1.5 * DAY)]),
        (
            "dag=a task=t key=k:v state=failed: keep 2w or last 3 runs or attempts 1 even latest",
            [
                Rule(
                    "",
                    dag="a",
                    task="t",
                    key="k:v",
                    states=frozenset(["failed"]),
                    keep_seconds=14 * DAY,
                    keep_runs=3,
                    keep_attempts=1,
                    even_latest=True,
                )
            ],
        ),
        (
            "dag=a keep last 1 run;\n\n state=success|failed : keep 90s ;",
            [Rule("", dag="a", keep_runs=1), Rule("", keep_seconds=90)],
        ),
        (
            "memo dag=a task=t: keep 7d; memo: keep 7d or forever; memo keep 90s",
            [
                Rule("", memo=True, dag="a", task="t", keep_seconds=7 * DAY),
                Rule("", memo=True, keep_seconds=7 * DAY, forever=True),
                Rule("", memo=True, keep_seconds=90),
            ],
        ),
        ("", []),
    ],
)
def test_rules_read_as_they_are_written(text: str, expected: list[Rule]) -> None:
    """In their order, each with what it says and nothing else."""
    found = parse_rules(text)
    assert [vars(rule) | {"text": ""} for rule in found] == [vars(rule) for rule in expected]


@pytest.mark.parametrize(
    "text",
    [
        "7d",
        "keep",
        "keep a while",
        "keep 7",
        "keep -1d",
        "keep 7d or 8d",
        "keep attempts 0",
        "dags=a: keep 7d",
        "dag=a dag=b: keep 7d",
        "dag=: keep 7d",
        "a*: keep 7d",
        "state=running: keep 7d",
        "keep 7d and last 3 runs",
        "keep last three runs",
        "memory: keep 7d",
        "memo=a: keep 7d",
        "memo key=k: keep 7d",
        "memo state=failed: keep 7d",
        "memo: keep last 3 runs",
        "memo: keep 7d even latest",
    ],
)
def test_a_rule_that_is_not_understood_is_refused(text: str) -> None:
    """It is shown, with an example."""
    with pytest.raises(ConfigurationError, match="retention") as caught:
        parse_rules(f"keep forever; {text}")
    assert text in caught.value.what
    assert caught.value.hint


@pytest.mark.parametrize("text", ["", "d", "1", "1y", "1d2h", "one day", "-1d", "inf d"])
def test_a_time_needs_number_and_unit(text: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(ConfigurationError):
        parse_duration(text)


def test_routes_have_rules_for_what_they_match() -> None:
    """Before those of the setting; the rule of a team's route only below the root that is this team's."""
    ours, teams = Root.parse("s3://bucket/xcom"), Root.parse("s3://team/xcom")
    settings = Settings(
        ours,
        retention="keep 7d",
        routes=(
            Route("sales", dag="sales_*", retention="keep 1d"),
            Route("plain", dag="plain", threshold_bytes=0),
            Route("team", team="t", root=teams, retention="keep 2d"),
        ),
    )
    assert [(rule.dag, rule.text) for rule in rules_of(settings, ours)] == [("sales_*", "keep 1d"), ("*", "keep 7d")]
    assert [rule.text for rule in rules_of(settings, teams)] == ["keep 1d", "keep 2d", "keep 7d"]


def test_a_route_for_a_key_has_no_rule_for_entries() -> None:
    """They have no key, so that it would hold for those of other keys too."""
    root = Root.parse("s3://bucket/xcom")
    of_task, of_key = (
        Settings(root, routes=(Route("scratch", dag="a", task=task, key=key, retention="memo: keep 1d"),))
        for task, key in (("t", None), (None, "tmp_*"))
    )
    assert [rule.matches_entry("a", task) for rule in rules_of(of_task, root) for task in "tu"] == [True, False]
    with pytest.raises(ConfigurationError, match="'scratch' is for a key"):
        rules_of(of_key, root)


# --- which values go -------------------------------------------------------------------------------------------------

NOW = BEGINNING + timedelta(days=100)


def expiring(rule: str, rows: list[Reference], runs: list[Run]) -> set[str]:
    """URIs of the values that go."""
    expiry = Expiry(parse_rules(rule), NOW)
    expiry.learn_runs(runs)
    expiry.learn(rows)
    return {r.uri for r in rows if (its := expiry.rule_for(r)) is not None and expiry.expires(r, its)}


def oracle(text: str, rows: list[Reference], runs: list[Run]) -> set[str]:
    """The same by looking at everything for each row."""
    rules = parse_rules(text)
    gone = set()
    for row in rows:
        at = row.coordinate
        run = next(r for r in runs if (r.dag_id, r.run_id) == (at.dag_id, at.run_id))
        rule = next(
            (
                r
                for r in rules
                if all(map(fnmatchcase, (at.dag_id, at.task_id, at.key), (r.dag, r.task, r.key)))
                and run.state in r.states
            ),
            None,
        )
        if rule is None or rule.forever:
            continue
        assert run.ended is not None
        assert row.created_at is not None
        same_key = [
            r
            for r in rows
            if (r.coordinate.dag_id, r.coordinate.task_id, r.coordinate.key, r.coordinate.map_index)
            == (at.dag_id, at.task_id, at.key, at.map_index)
        ]
        if (
            rule.keep_seconds is not None
            and (NOW - max(run.ended, row.created_at)).total_seconds() <= rule.keep_seconds
        ):
            continue
        of_dag = sorted((r.date, r.run_id) for r in runs if r.dag_id == at.dag_id and r.date)
        if rule.keep_runs and (run.date, run.run_id) in of_dag[-rule.keep_runs :]:
            continue
        attempts = sorted(
            (r.created_at for r in same_key if r.coordinate.run_id == at.run_id and r.created_at), reverse=True
        )
        if rule.keep_attempts and row.created_at in attempts[: rule.keep_attempts]:
            continue
        if any(r.keep_attempts for r in rules) and row.created_at < attempts[0]:
            gone.add(row.uri)  # a pull reads the latest attempt
            continue
        if not rule.even_latest:
            readers = [r.date for r in runs if r.dag_id == at.dag_id and r.state not in FINISHED and r.date]
            for reader in (*readers, max(r.run_date for r in same_key if r.run_date)):
                visible = [r.run_date for r in same_key if r.run_date and r.run_date <= reader]
                if visible and row.run_date == max(visible):
                    break
            else:
                if row.created_at < max(r.created_at for r in same_key if r.created_at):
                    gone.add(row.uri)
            continue
        gone.add(row.uri)
    return gone


RULES = [
    "keep 20d",
    "keep 0d",
    "keep last 2 runs",
    "keep attempts 1",
    "keep attempts 2 or 5d",
    "keep 20d even latest",
    "keep last 1 run even latest",
    "keep attempts 1 even latest",
    "key=k: keep forever; keep 0d even latest",
    "dag=a state=failed: keep 0d even latest; dag=b: keep 10d or last 1 run; task=t: keep 30d",
]


@given(seed=st.integers(0, 2**32), rule=st.sampled_from(RULES))
def test_values_expire_as_by_looking_at_everything(seed: int, rule: str) -> None:
    """Random deployments: states, attempts, dates that do not go with the order of pushes."""
    chance = random.Random(seed)
    runs = []
    for dag in "ab":
        for n in range(chance.randint(1, 6)):
            state = chance.choice(["success", "success", "failed", "running"])
            date = BEGINNING + timedelta(days=chance.randint(0, 99), seconds=n)
            ended = date + timedelta(days=chance.choice([0, 1, 10])) if state in FINISHED else None
            runs.append(Run(dag, f"r{n}", state, ended, date))
    rows: list[Reference] = []
    for run in runs:
        for task in chance.sample(["t", "u"], chance.randint(0, 2)):
            for key in ("k", "l"):
                for attempt in range(chance.randint(0, 3)):
                    assert run.date
                    created = run.date + timedelta(hours=chance.randint(0, 300), seconds=len(rows))
                    at = Coordinate(run.dag_id, run.run_id, task, key, -1, str(attempt))
                    rows.append(Reference(at, str(len(rows)), 1, 1, created, "xcom", run.state, run.ended, run.date))
    chance.shuffle(rows)
    assert expiring(rule, rows, runs) == oracle(rule, rows, runs)


def test_the_latest_attempt_is_told_by_its_id() -> None:
    """Not by the clocks of the workers, one of which was slow; also in the latest run of a Dag."""
    run = Run("a", "r", "success", BEGINNING, BEGINNING)
    ids = ["019b76da-a800-7000-8000-000000000000", "019b76da-a900-7000-8000-000000000000"]
    rows = [
        Reference(
            Coordinate("a", "r", "t", "k", -1, attempt), attempt, 1, 1, BEGINNING - n * timedelta(hours=1), "xcom",
            "success", BEGINNING, BEGINNING,
        )
        for n, attempt in enumerate(ids)
    ]  # fmt: skip
    assert expiring("keep attempts 1", rows, [run]) == {ids[0]}
    assert expiring("keep attempts 2", rows, [run]) == set()


def test_what_is_not_known_does_not_expire() -> None:
    """A run without end or date, a run that is new since the runs were read, a row in an archive."""
    run = Run("a", "r", "success", BEGINNING, BEGINNING)

    def row(uri: str, **more: Any) -> Reference:
        fields: dict[str, Any] = {"run_state": "success", "run_ended": BEGINNING, "run_date": BEGINNING}
        fields |= {"created_at": BEGINNING, "source": "xcom", **more}
        return Reference(Coordinate("a", "r", "t", "k"), uri, 1, 1, **fields)

    rows = [
        row("end", run_ended=None),
        row("date", run_date=None),
        row("created", created_at=None),
        row("state", run_state=None),
        row("archive", source="_airflow_deleted__xcom__1"),
    ]
    assert expiring("keep 0d even latest", [*rows, row("known")], [run]) == {"known"}
    assert expiring("keep last 1 run even latest", [row("new")], []) == set()


# --- what a sweep does, and what a reader is told --------------------------------------------------------------------


@pytest.mark.parametrize("value", ["x" * 10, "x" * 5000, b"\0" * 20_000_000], ids=["small", "large", "chunks"])
@pytest.mark.parametrize("lazily", [False, True])
def test_an_expired_value_is_told_from_a_lost_one(value: Any, lazily: bool) -> None:
    """By the object in its place, whatever the size of the value and the way it is read."""
    here = Deployment()
    here.push("a", "r1", value=value)
    here.push("a", "r2", value="latest")
    old, latest = here.table.values()
    next_day = BEGINNING + timedelta(days=1)
    here.known_runs["a", "r2"] = Run("a", "r2", "success", next_day, next_day)
    for row, created in ((old, BEGINNING), (latest, next_day)):
        row["created_at"] = created.isoformat()
    here.pass_time(30 * DAY)
    report = here.sweep(rules=parse_rules("keep 7d"))
    assert report.total[Verdict.EXPIRED].objects == 1
    assert report.total[Verdict.RETAINED].objects == 1
    with pytest.raises(ObjectExpiredError, match=r"2026-01-31.*'keep 7d'") as caught:
        here.pipeline.handle(old).load() if lazily else here.pipeline.pull(old)
    assert not isinstance(caught.value, IntegrityError)
    assert here.pipeline.pull(latest) == "latest"
    # Another sweep finds the note, and leaves it; it goes with its row.
    assert Verdict.EXPIRED not in here.sweep(rules=parse_rules("keep 7d")).total
    del here.table[Coordinate("a", "r1", "t", "k")]
    here.pass_time(2 * DAY)
    here.sweep()
    assert here.objects() == here.referenced()


def test_a_value_expires_beside_an_orphan_of_the_same_run() -> None:
    """That a row refers to it keeps an orphan that has a row again, not a value whose time is over."""
    here = Deployment()
    expired = here.push("d", "r1")
    orphan = here.push("d", "r1", key="gone")
    del here.table[Coordinate("d", "r1", "t", "gone")]
    here.run("d", "r2", day=1)
    here.push("d", "r2")
    here.table[Coordinate("d", "r1", "t", "k")]["created_at"] = BEGINNING.isoformat()
    here.pass_time(30 * DAY)
    report = here.sweep(rules=parse_rules("keep 7d"))
    assert {outcome: tally.objects for outcome, tally in report.outcomes.items() if tally.objects} == {
        Outcome.DELETED: 1,
        Outcome.EXPIRED: 1,
    }
    assert orphan not in here.keys()
    assert expired in here.keys()


def test_a_value_whose_run_is_cleared_while_a_sweep_is_under_way_is_kept() -> None:
    """A task of the run that runs again may read it, whatever was planned before."""
    here = Deployment()
    cleared, finished = here.push("d", "r1"), here.push("d", "r2")
    here.run("d", "r3", day=1)
    here.push("d", "r3")
    here.table[Coordinate("d", "r1", "t", "k")]["created_at"] = BEGINNING.isoformat()
    here.table[Coordinate("d", "r2", "t", "k")]["created_at"] = BEGINNING.isoformat()
    here.pass_time(30 * DAY)
    before = here.store.head(cleared)
    with here.new_sweep(rules=parse_rules("keep 7d")) as sweep:
        report = sweep.plan()
        here.known_runs["d", "r1"] = replace(here.known_runs["d", "r1"], state="running", ended=None)
        sweep.apply(report)
    assert {outcome: tally.objects for outcome, tally in report.outcomes.items() if tally.objects} == {
        Outcome.REFERENCED: 1,
        Outcome.EXPIRED: 1,
    }
    assert here.store.head(cleared) == before
    assert here.store.head(finished).size_bytes == TOMBSTONE_BYTES


@pytest.mark.parametrize("stored_bytes", [0, 100, TOMBSTONE_BYTES - 1, TOMBSTONE_BYTES, TOMBSTONE_BYTES + 1])
@pytest.mark.parametrize("rule", ["keep 7d", "x" * 2000, '"\\\n\0日' * 200])
def test_a_note_never_has_the_length_of_what_it_replaces(stored_bytes: int, rule: str) -> None:
    """So a listing tells them apart."""
    note = tombstone(rule, datetime.now().astimezone(), stored_bytes)
    assert len(note) in {TOMBSTONE_BYTES, TOMBSTONE_BYTES - 1} - {stored_bytes}
    assert note.isascii()


def test_a_value_does_not_expire_before_the_grace() -> None:
    """By the store's clock, whatever the row says of itself."""
    deployment = Deployment()
    deployment.push("a", "r")
    for row in deployment.table.values():
        row["created_at"] = (BEGINNING - timedelta(days=365)).isoformat()
    deployment.known_runs["a", "r"] = Run("a", "r", "success", BEGINNING - timedelta(days=365), BEGINNING)
    deployment.pass_time(3600)
    rules = parse_rules("keep 1d even latest")
    assert Verdict.EXPIRED not in deployment.sweep(rules=rules, grace_seconds=0).total
    deployment.pass_time(DAY)
    assert Verdict.EXPIRED in deployment.sweep(rules=rules, grace_seconds=0).total
