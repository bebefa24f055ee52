"""Whose a root is: noted by the first sweep, and respected by those of other deployments."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.lifecycle.kit import DAY, Deployment
from xcargo.errors import AccessDeniedError, SweepRefusedError
from xcargo.lifecycle.bookkeeping import NOTE, Owner, claim, read_owner, refusal
from xcargo.model.root import Root
from xcargo.stores.local import LocalStore


@pytest.fixture
def here() -> Deployment:
    """A deployment with a value and an orphan, which has swept once."""
    here = Deployment(url="memory://owned/xcom", origin={"database": "postgresql://production/airflow"})
    here.push("kept", "r")
    here.push("gone", "r")
    here.table.popitem()
    here.pass_time(2 * DAY)
    here.sweep()
    return here


@pytest.fixture
def staging(here: Deployment) -> Deployment:
    """A copy of its database elsewhere, in which rows were deleted, over the same objects; and one row of its own."""
    other = dataclasses.replace(here, origin={"database": "postgresql://staging/airflow"}, table={}, archive=[])
    other.store = here.store
    other.push("own", "r")
    here.pass_time(2 * DAY)
    return other


def test_another_deployment_is_refused_before_it_takes_anything(here: Deployment, staging: Deployment) -> None:
    """The dry run says so, naming both; the objects of the owner stay."""
    before = here.keys()
    report = staging.sweep()
    assert "belongs to database postgresql://production/airflow" in report.refusals[0]
    assert "this is database postgresql://staging/airflow" in report.refusals[0]
    assert not report.applied
    assert here.keys() == before
    with staging.new_sweep() as sweep, pytest.raises(SweepRefusedError):
        sweep.apply(sweep.plan())


def test_a_root_can_be_taken_over(here: Deployment, staging: Deployment) -> None:
    """By those who say so; then the former owner is the one who is refused."""
    assert staging.sweep(claim="me").deletable.objects == 1
    assert "staging" in here.sweep().refusals[0]


def test_a_dry_run_claims_nothing(here: Deployment, staging: Deployment) -> None:
    """Whatever it is told."""
    staging.sweep(claim="me", apply=False)
    assert here.sweep().refusals == []


def test_a_shared_root_is_swept_by_those_who_name_their_dags(here: Deployment, staging: Deployment) -> None:
    """Either one sweeps its own Dags; neither sweeps everything."""
    assert staging.sweep(claim="shared", prefixes=("own",)).refusals == []
    for deployment in (here, staging):
        assert "Name its Dags" in deployment.sweep().refusals[0]
    here.push("kept", "r")
    here.pass_time(2 * DAY)
    assert here.sweep(prefixes=("kept",)).deletable.objects == 1
    assert here.referenced() | staging.referenced() == here.objects()


@pytest.mark.parametrize(
    ("owner", "me", "same"),
    [
        (Owner("a", "db"), Owner("a", "elsewhere"), True),  # it moved; the name tells
        (Owner("a", "db"), Owner("b", "db"), False),
        (Owner("a", "db"), Owner(None, "db"), True),
        (Owner("a", "db"), Owner(None, "other"), False),
        (Owner("a", "db"), Owner(None, None, "api"), False),  # whoever gave a name wants to be told apart
        (Owner(None, "db"), Owner("a", "db"), True),
        (Owner(None, "db"), Owner("a", "other"), False),
        (Owner(None, "db"), Owner(None, None, "api"), None),
        (Owner(None, "db", "api"), Owner(None, None, "api"), True),
        (Owner(None, "db", "api"), Owner(None, "moved", "api"), True),
    ],
)
def test_what_tells_two_deployments_apart(owner: Owner, me: Owner, same: bool | None) -> None:
    """The name if both have one, else where their rows are; what cannot be compared refuses nobody."""
    assert owner.is_same(me) is same
    assert (refusal(owner, me, ()) is not None) == (same is False)


def test_by_database_and_by_rest_both_are_noted_once_a_name_joins_them(here: Deployment) -> None:
    """Then either is enough, also without the name."""
    here.sweep(deployment="production")
    here.origin = {"api": "https://airflow"}
    assert here.sweep(deployment="production").refusals == []
    assert here.sweep().refusals == []
    assert json.loads(bytes(here.store.get(NOTE))) == {
        "deployment": "production",
        "database": "postgresql://production/airflow",
        "api": "https://airflow",
    }


def test_a_note_that_cannot_be_read_refuses(here: Deployment) -> None:
    """Unless somebody says whose the root is."""
    here.store.put(NOTE, [b"{"])
    with pytest.raises(SweepRefusedError, match="cannot be read"):
        here.sweep()
    assert here.sweep(claim="me").refusals == []


def test_a_store_that_cannot_write_only_what_is_new_gets_its_note_too(tmp_path: Path) -> None:
    """A mount without links refuses such a write; a plain one does then."""

    class WithoutLinks(LocalStore):
        def put(self, key: str, parts: Any, *, mode: Any = "overwrite", expected_bytes: Any = None) -> None:
            if mode == "create":
                raise AccessDeniedError("Operation not permitted")
            super().put(key, parts, expected_bytes=expected_bytes)

    store, me = WithoutLinks(Root.parse(tmp_path.as_uri())), Owner("me")
    claim(store, None, me, ())
    assert read_owner(store) == me
