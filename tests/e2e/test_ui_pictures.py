"""Takes the pictures of docs/explorer.md: `make pictures`."""

from __future__ import annotations

import os
import sqlite3
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.explorer import DAG, Desk, World

FOLDER = os.environ.get("XCARGO_PICTURES")
MOST_BYTES = 200_000

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(FOLDER is None, reason="set XCARGO_PICTURES to the folder that they go to"),
]


def keep(page: Any, name: str) -> None:
    """A picture of the page; in few colours if it were large otherwise."""
    from PIL import Image

    page.wait_for_load_state("networkidle")
    page.mouse.move(0, 0)
    page.wait_for_timeout(500)
    path = Path(str(FOLDER)) / f"explorer-{name}.png"
    page.screenshot(path=path)
    if path.stat().st_size > MOST_BYTES:
        Image.open(path).convert("RGB").quantize(256).save(path, optimize=True)
    assert path.stat().st_size <= MOST_BYTES


def live_for_weeks(world: World) -> None:
    """More runs of all Dags, and values as old as if one had run every day."""
    for dag in ("custom_xcom_backend_test", "dataframe_demo", DAG, DAG):
        assert world.cluster.wait(dag, world.cluster.trigger(dag)).ok
    assert world.cluster.wait("sweeping", world.cluster.trigger("sweeping")).ok
    with sqlite3.connect(world.cluster.database, timeout=60) as connection:
        runs = connection.execute("SELECT DISTINCT dag_id, run_id FROM xcom ORDER BY run_id DESC").fetchall()
        for days, (dag, run) in enumerate(runs):
            when = datetime.now(timezone.utc) - timedelta(days=days)
            connection.execute(
                "UPDATE xcom SET timestamp = ? WHERE dag_id = ? AND run_id = ?",
                (when.strftime("%Y-%m-%d %H:%M:%S.%f"), dag, run),
            )


def test_pictures(desk: Desk, world: World) -> None:
    """Each kind of page, with what it is for in it."""
    with desk as opened:
        view: dict[str, Any] = {"viewport": {"width": 1400, "height": 860}}
        seen = opened("orders", **view)
        seen.tab.get_by_text("of 1,000,000").wait_for()
        keep(seen.page, "table")
        seen.tab.get_by_role("tab", name="Compare").click()
        seen.tab.get_by_text("The values differ").wait_for()
        keep(seen.page, "compare")
        seen = opened("response", **view)
        seen.tab.get_by_role("searchbox", name="Search keys and texts").fill("item 39999")
        seen.tab.get_by_role("button", name="Search", exact=True).click()
        seen.tab.get_by_role("link", name="items › [39999] › name").first.click()
        seen.tab.get_by_text("5 keys").first.wait_for()
        keep(seen.page, "tree")
        seen = opened("weights", color_scheme="dark", viewport={"width": 1400, "height": 1020})
        seen.tab.locator("canvas").wait_for()
        keep(seen.page, "array-dark")
        live_for_weeks(world)
        seen = opened.at(f"{world.url}/plugin/xcom_data_all", viewport={"width": 1400, "height": 1100})
        seen.tab.get_by_role("heading", name="Orphans and retention").wait_for()
        keep(seen.page, "all")
