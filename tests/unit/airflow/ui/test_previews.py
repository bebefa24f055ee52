"""From rows to what is shown: of which Dag a row is, and what the last sweep found."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from xcargo.airflow import runtime
from xcargo.airflow.ui import previews
from xcargo.airflow.ui.stored import sum_sweep
from xcargo.airflow.ui.xcoms import XComId, XComRow
from xcargo.errors import EnvelopeError
from xcargo.lifecycle.plan import Count, Verdict
from xcargo.lifecycle.sweep import Report


def row_of(value: Any) -> XComRow:
    return XComRow(XComId("d", "r", "t", "return_value"), None, 100, value)


def test_a_row_that_refers_to_another_dags_value_is_refused() -> None:
    """Whoever may read one Dag's XComs gets no other Dag's value through a row that was copied there."""
    root = runtime.settings().root
    assert root is not None
    row = {
        "__id__": "xcargo/1",
        "type": "bytes",
        "codec": "bytes",
        "size_bytes": 4,
        "stored_bytes": 4,
        "uri": root.uri("other/r/t/return_value~0123456789abcdef.bin"),
        "checksum": "blake3:0",
    }
    with pytest.raises(EnvelopeError, match="refers to a value of Dag 'other'"):
        previews.open_value(row_of(row), previews.budget())
    assert previews.summary(row_of(row))["uri"] == row["uri"]


def test_the_last_sweeps_report_is_summed_up() -> None:
    """Roots and parts together, by verdict; a result that is no report counts as none."""
    count = Count()
    count.add(1000)
    report = Report("s3://b/x", (), datetime(2026, 1, 2, tzinfo=timezone.utc), 3600.0, missing=1)
    report.total[Verdict.ORPHAN] = count
    summed = sum_sweep([row_of([report.to_json(), report.to_json()])])
    assert summed is not None
    assert summed["objects"]["orphan"] == {"objects": 2, "size_bytes": 2000}
    assert (summed["roots"], summed["missing"], summed["applied"]) == (["s3://b/x"], 2, False)
    assert sum_sweep([row_of("nothing")]) is None
