"""Rules for attempts, on an Airflow that keeps the rows of each. Run before other tests take these rows away."""

from __future__ import annotations

from typing import Any

import pytest

from xcargo.airflow import runtime
from xcargo.airflow.references.database import DatabaseReferences
from xcargo.errors import ObjectExpiredError
from xcargo.lifecycle.plan import SweepOptions
from xcargo.lifecycle.references import XComFilter
from xcargo.lifecycle.report import Outcome
from xcargo.lifecycle.retention import parse_rules
from xcargo.lifecycle.sweep import Sweep
from xcargo.model.root import Root
from xcargo.stores.local import LocalStore

from .conftest import Run, objects_of
from .settle import Place
from .test_dags import PER_ATTEMPT


@pytest.mark.skipif(not PER_ATTEMPT, reason="this Airflow keeps the rows of one attempt only")
def test_values_of_earlier_attempts_go_by_a_rule(dag_runs: dict[str, Run], place: Place) -> None:
    """By 'keep attempts 1' the first attempt's value expires, and its row says so; the second one's stays."""
    before = {path: path.read_bytes() for path in objects_of(place, "contract_retry")}
    root = Root.parse(place.root.as_uri())
    source, store = DatabaseReferences(), LocalStore(root)
    try:
        rows = list(source.rows(XComFilter(dag_id="contract_retry"), only_envelopes=True))
        assert len(rows) == 2  # and orphans that other tests left
        rules = parse_rules("dag=contract_retry: keep attempts 1")
        options = SweepOptions(grace_seconds=0, max_share=None, rules=rules, prefixes=("contract_retry",))
        with Sweep(store, source, root=root, options=options) as sweep:
            report = sweep.apply(sweep.plan())
        assert report.outcomes[Outcome.EXPIRED].objects == 1
        deleted = report.outcomes[Outcome.DELETED].objects if Outcome.DELETED in report.outcomes else 0
        assert deleted == len(before) - 2
        told: dict[str | None, Any] = {}
        for row in rows:
            try:
                value = runtime.pipeline().pull(row.value)
            except ObjectExpiredError as error:
                told[row.coordinate.attempt] = str(error)
            else:
                told[row.coordinate.attempt] = value["number"]
        expired, number = sorted(told.values(), key=str, reverse=True)
        assert number == 2
        assert "keep attempts 1" in expired
    finally:
        for path, data in before.items():  # other tests read them
            path.write_bytes(data)
