"""The explorer's page of all Dags, beside what a sweep over the same objects reports."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from typing import Any

import pytest

from tests.e2e import browser
from tests.e2e.explorer import DAG, World

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        next(iter(importlib.metadata.distributions(name="apache-airflow-task-sdk")), None) is None,
        reason="needs Airflow 3",
    ),
    pytest.mark.skipif(browser.installed() is None, reason="there is no Chromium here, and none could be installed"),
]


def gc(world: World) -> dict[str, Any]:
    """What `xcargo gc` reports of the same root, in a process with the cluster's settings."""
    done = subprocess.run(
        [sys.executable, "-m", "xcargo", "gc", "--json", "--grace", "1s", "--max-share", "1"],
        env=world.cluster.env | {"PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (report,) = json.loads(done.stdout)
    return dict(report)


def orphan(world: World) -> None:
    """Make one as Airflow does: an entry is changed through its API, and the object that it named is left."""
    run = urllib.parse.quote(world.runs[0], safe="")
    request = urllib.request.Request(
        f"{world.url}/api/v2/dags/{DAG}/dagRuns/{run}/taskInstances/pieces/xcomEntries/raw",
        method="PATCH",
        data=b'{"value": "small"}',
        headers={"Authorization": f"Bearer {world.tokens['admin']}", "Content-Type": "application/json"},
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
        assert answer.status == 200


def test_the_last_sweep_is_told_in_its_own_numbers(opened: Any, world: World) -> None:
    """Orphans and live objects by size and number, as `xcargo gc` counts them; the page says that it was a dry run."""
    orphan(world)
    time.sleep(2)  # the grace
    report = gc(world)
    assert world.cluster.wait("sweeping", world.cluster.trigger("sweeping")).ok
    assert report["objects"]["orphan"]["objects"] == 1
    tab = opened.at(f"{world.url}/plugin/xcom_data_all").tab
    section = tab.locator("section", has=tab.get_by_role("heading", name="Orphans and retention"))
    section.get_by_text("Nothing was deleted: it was a dry run.").wait_for()
    shown = dict(line.inner_text().split("\n", 1) for line in section.get_by_role("listitem").all())
    for verdict, label in {"orphan": "nothing refers to it any more", "live": "an XCom refers to it"}.items():
        size, _, count = shown[label].strip().partition(" · ")
        told = report["objects"][verdict]
        assert count == f"{told['objects']:,}"
        assert size.replace("\u00a0", " ") == text_of(told["size_bytes"])
    listed = json.loads(world.get("api/stored", "reader")[1])
    tab.get_by_text(f"{listed['count']:,}", exact=True).first.wait_for()
    assert listed["cost"]["dollars_a_month"] == pytest.approx(listed["stored_bytes"] / 1024**3 * 0.023)
    tab.get_by_text("< $0.01 a month").wait_for()
    largest = tab.get_by_role("region", name="Largest values").get_by_role("row")
    assert "orders" in largest.nth(1).inner_text()


def text_of(size: int) -> str:
    """A size as the page writes it."""
    left, units = float(size), ["B", "KB", "MB", "GB"]
    while left >= 1000:
        left, units = left / 1000, units[1:]
    return f"{size:,} B" if units[0] == "B" else f"{left:.{1 if left < 10 else 0}f} {units[0]}"
