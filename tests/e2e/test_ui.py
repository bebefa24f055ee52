"""The explorer in a real Airflow and a real browser, its values in a real S3 server.

What each route answers, to whom and in which words, is in ``tests/contract/test_explorer.py``.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.e2e import browser
from tests.e2e.explorer import DAG, LOOPBACK, Desk, World
from tests.servers import Fault

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        next(iter(importlib.metadata.distributions(name="apache-airflow-task-sdk")), None) is None,
        reason="needs Airflow 3",
    ),
    pytest.mark.skipif(browser.installed() is None, reason="there is no Chromium here, and none could be installed"),
]

GROWTH_BYTES = 128 * 1024 * 1024
"""What is kept for the next pages, and as much for what four previews have in hand."""


def test_a_readers_journey(desk: Desk, world: World, tmp_path: Path) -> None:
    """Every kind of page, by hand and keyboard; no script fails, and nothing of it gets into the server's log."""
    with desk as opened:
        table_is_paged_filtered_and_sorted(opened)
        tree_opens_by_keyboard_and_is_searched(opened)
        runs_are_compared(opened)
        values_are_downloaded(opened, world, tmp_path)
        hostile_value_is_text(opened)
        state_is_shown_beside_xcoms(opened, world)
        reused_value_names_its_origin(opened, world)
        pages_of_run_and_all_dags_lead_to_values(opened, world)
        addresses_are_those_of_airflow_3_1_too(opened, world)
        missing_object_and_missing_right_are_explained(opened, world)
        pages_are_accessible_dark_and_narrow(opened)
        page_is_few_requests_and_few_bytes(opened, world)
    assert f"/xcargo/api/dags/{DAG}/search" in world.log
    for secret in ("typed-", "alert('x')", "A text that is longer than", "Orders of the day", "X-Amz-Signature"):
        assert secret not in world.log


def table_is_paged_filtered_and_sorted(opened: Desk) -> None:
    """The tab opens in Airflow's own page; a filter narrows all rows and the charts, a click on a column sorts."""
    tab = opened("orders").tab
    tab.get_by_role("cell", name="customer 0001").first.wait_for()
    tab.get_by_text("1–100 of 1,000,000").wait_for()
    tab.get_by_role("button", name="Last rows").click()
    tab.get_by_text("999,901–1,000,000 of 1,000,000").wait_for()
    tab.get_by_role("rowheader", name="999,999").wait_for()
    tab.get_by_role("img", name=re.compile("Distribution: 0 … 999,999")).wait_for()
    tab.get_by_label("Column", exact=True).select_option(label="order_id")
    tab.get_by_label("Value to compare with").fill("999998")
    tab.get_by_role("button", name="Filter", exact=True).click()
    tab.get_by_text("1–2 of 2 (of 1,000,000)").wait_for()
    tab.get_by_role("img", name=re.compile("Distribution: 999,998 … 999,999")).wait_for()
    tab.get_by_role("button", name="order_id", exact=True).click()
    tab.locator("th[aria-sort=ascending]").wait_for()
    tab.get_by_role("button", name="order_id", exact=True).click()
    tab.locator("th[aria-sort=descending]").wait_for()
    tab.get_by_role("row").nth(1).get_by_text("999,999").wait_for()
    tab.get_by_label("Column", exact=True).select_option(label="customer")
    tab.get_by_label("Value to compare with").fill("typed-customer")
    tab.get_by_role("button", name="Filter", exact=True).click()
    tab.get_by_text("No row passes the filter.").wait_for()


def tree_opens_by_keyboard_and_is_searched(opened: Desk) -> None:
    """Into the list, to its first item, and back; a search shows the way to its hits."""
    seen = opened("response")
    tab = seen.tab
    tab.get_by_text("40,000 items").wait_for()
    tab.locator("[role=treeitem] > .row").first.focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowDown", "ArrowDown", "ArrowRight"):
        seen.page.keyboard.press(key)
    tab.get_by_text("Next 100 of 39,900 more").wait_for()
    for typed, found in (("typed-öl 39999", "No places"), ("ITEM 39999", "1 place")):
        tab.get_by_role("searchbox", name="Search keys and texts").fill(typed)
        tab.get_by_role("button", name="Search", exact=True).click()
        tab.get_by_text(found).first.wait_for()
    tab.get_by_role("link", name="items › [39999] › name").click()
    tab.get_by_text("item 39999", exact=True).last.wait_for()


def runs_are_compared(opened: Desk) -> None:
    """Prices differ by run, in rows that are named."""
    tab = opened("orders").tab
    tab.get_by_role("tab", name="Compare").click()
    tab.get_by_text("The values differ").wait_for()
    tab.get_by_role("rowheader", name=re.compile("row .*, column price")).first.wait_for()
    tab.get_by_role("heading", name="Distributions").wait_for()


def values_are_downloaded(opened: Desk, world: World, folder: Path) -> None:
    """A file under its own name, streamed or from the store itself by a signed URL; links for what people open."""
    seen = opened("report")
    with seen.page.expect_download() as download:
        seen.tab.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == "report.md"
    download.value.save_as(folder / "report.md")
    assert (folder / "report.md").read_text().startswith("# Orders of the day")
    seen = opened("pieces")
    seen.tab.get_by_role("button", name="picture").click()
    seen.tab.get_by_role("tab", name="Image").wait_for()
    address = seen.tab.get_by_role("link", name="Download").evaluate("link => link.href")
    signed = seen.page.request.get(address, max_redirects=0)
    location = signed.headers["location"]
    assert (signed.status, location.startswith(world.proxy.url), "X-Amz-Expires=60" in location) == (307, True, True)
    with LOOPBACK.open(location, timeout=30) as picture:
        assert picture.read().startswith(b"\x89PNG")
    tab = opened("orders").tab
    for name in ("Download CSV", "Parquet", "Arrow"):
        tab.get_by_role("link", name=name).wait_for()


def hostile_value_is_text(opened: Desk) -> None:
    """Markup and scripts in keys and texts are shown as they are written, and none runs."""
    tab = opened("pieces").tab
    tab.get_by_role("button", name="hostile").click()
    tab.get_by_text("<script>alert('x')</script>").first.wait_for()
    tab.get_by_text("<img src=x onerror=alert(1)>").first.wait_for()
    assert tab.locator("#app script, #app img").count() == 0


def state_is_shown_beside_xcoms(opened: Desk, world: World) -> None:
    """That of a task in a list of its own, that of an asset behind a link of the page of all Dags."""
    if importlib.util.find_spec("airflow.state") is None:  # before Airflow 3.3
        return
    tab = opened("sync").tab
    tab.get_by_role("heading", name="State", exact=True).wait_for()
    tab.get_by_role("list", name="State").get_by_role("button", name="pages").click()
    tab.get_by_text("2,000 items").first.wait_for()
    tab.get_by_text("state of the task").wait_for()
    tab.get_by_role("tab", name="Compare").click()
    tab.get_by_text("The values are the same").wait_for()
    tab = opened.at(f"{world.url}/plugin/xcom_data_all").tab
    tab.get_by_role("link", name="shop").click()
    tab.get_by_role("heading", name="cursor").wait_for()
    tab.get_by_role("treeitem").get_by_text("seen").wait_for()
    address = f"{world.url}/xcargo/?dag_id={DAG}&run_id={world.runs[1]}&task_id=sync&key=job&is_state=1"
    opened.at(address).page.get_by_role("heading", name="job").wait_for()


def reused_value_names_its_origin(opened: Desk, world: World) -> None:
    """A value that `memoize` copied has a badge in the list, and says which task computed it."""
    page = opened.at(f"{world.url}/xcargo/?dag_id={DAG}&run_id={world.runs[1]}&task_id=total_again").page
    item = page.get_by_role("button", name="[2] return_value")
    item.get_by_text("reused", exact=True).wait_for()
    item.click()
    page.get_by_text(re.compile(rf"from {DAG}, run .*, task total \[2\], computed ")).wait_for()


def pages_of_run_and_all_dags_lead_to_values(opened: Desk, world: World) -> None:
    """What is stored by task, the largest values and the newest runs; a link leads to the value."""
    tab = opened.at(f"{world.url}/dags/{DAG}/runs/{world.runs[1].replace('+', '%2B')}/plugin/xcom_data_run").tab
    tab.get_by_role("heading", name="By task").wait_for()
    tab = opened.at(f"{world.url}/plugin/xcom_data_all").tab
    tab.get_by_role("heading", name="Newest runs").wait_for()
    tab.get_by_text("< $0.01 a month").wait_for()
    tab.get_by_role("link", name="orders › return_value").first.click()
    tab.get_by_text("of 1,000,000").wait_for()


def addresses_are_those_of_airflow_3_1_too(opened: Desk, world: World) -> None:
    """A run id with a plus sign, and a placeholder for the index; a mapped task lists all its indexes."""
    assert "+" in world.runs[1]
    place = f"{world.url}/xcargo/?dag_id={DAG}&run_id={world.runs[1]}"
    page = opened.at(f"{place}&task_id=report&map_index={{MAP_INDEX}}").page
    page.get_by_role("heading", name="Orders of the day").wait_for()
    page.goto(f"{place}&task_id=total")
    page.get_by_role("button", name="[2] return_value").click()
    page.get_by_role("treeitem").get_by_text("Oslo", exact=True).wait_for()
    assert "map_index=2" in page.url


def missing_object_and_missing_right_are_explained(opened: Desk, world: World) -> None:
    """In words, on the page itself, beside what the row tells."""
    listed = json.loads(world.get("xcoms", run_id=world.runs[0])[1])["xcoms"]
    (uri,) = [xcom["uri"] for xcom in listed if xcom["task_id"] == "report"]
    world.server.raw_delete(uri.removeprefix(f"s3://{world.server.bucket}/"))
    tab = opened("report", run=0).tab
    tab.get_by_role("alert").get_by_text("The value cannot be shown").wait_for()
    tab.get_by_role("tab", name="Envelope").wait_for()
    address = f"{world.url}/xcargo/?dag_id={DAG}&run_id={world.runs[1]}&task_id=response"
    page = opened.at(address, user="nobody").page
    page.get_by_role("alert").get_by_text("You may not read the XComs of this Dag").wait_for()


def pages_are_accessible_dark_and_narrow(opened: Desk) -> None:
    """Names, roles, contrast, focus: by axe-core, light and dark; on a phone nothing but tables scrolls sideways."""
    from axe_playwright_python.sync_playwright import Axe

    for task, scheme in (("orders", "light"), ("response", "dark"), ("weights", "dark")):
        seen = opened(task, color_scheme=scheme)
        seen.page.goto(seen.tab.owner.evaluate("frame => frame.src"))
        seen.page.get_by_role("tablist").wait_for()
        seen.page.wait_for_load_state("networkidle")
        assert seen.page.evaluate("document.documentElement.dataset.theme") == scheme
        violations = Axe().run(seen.page).response["violations"]
        serious = [one for one in violations if one["impact"] in ("serious", "critical")]
        assert [(one["id"], [node["html"][:200] for node in one["nodes"][:3]]) for one in serious] == []
        seen.page.set_viewport_size({"width": 375, "height": 812})
        assert seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def page_is_few_requests_and_few_bytes(opened: Desk, world: World) -> None:
    """What a value's page costs a browser, its own files and answers alike."""
    seen = opened("orders")
    seen.page.goto(seen.tab.owner.evaluate("frame => frame.src"))
    seen.page.get_by_text("of 1,000,000").wait_for()
    seen.page.wait_for_load_state("networkidle")
    entries = seen.page.evaluate("performance.getEntriesByType('resource').map(e => [e.name, e.decodedBodySize])")
    assert all(name.startswith(world.url) for name, _ in entries)
    files = [size for name, size in entries if "/static/" in name]
    answers = [size for name, size in entries if "/api/" in name]
    assert (len(files) <= 18, sum(files) < 100_000) == (True, True), entries
    assert (len(answers) <= 4 + 7, sum(answers) < 150_000) == (True, True), entries


def test_twenty_users_leave_memory_as_it_was(world: World) -> None:
    """Pages all over a table, by twenty at once: the process grows by what it may keep, not by what was read."""

    def pages(user: int) -> None:
        for n in range(15):
            start = (user * 7919 + n * 104_729) % 1_000_000
            assert world.get("table", "orders", start=start, columns="0,1,2,3,4,5,6")[0] == 200

    port = world.cluster.port
    (pid,) = {c.pid for c in psutil.net_connections("tcp") if c.laddr.port == port and c.status == "LISTEN"}
    pages(0)
    before = resident(pid)
    with ThreadPoolExecutor(20) as users:
        list(users.map(pages, range(20)))
    assert resident(pid) - before < GROWTH_BYTES


def resident(pid: int) -> int:
    """Bytes of memory of its own that a process has now."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) * 1024


def test_a_store_that_stalls_holds_nobody_up(world: World) -> None:
    """Each preview is answered in time, and what needs no store is answered beside them."""
    world.proxy.add(Fault("stall", times=None))
    try:
        with ThreadPoolExecutor(8) as users:
            previews = [users.submit(world.get, "array", "weights", run=0, part="picture") for _ in range(8)]
            assert world.get("xcoms", run_id=world.runs[1])[0] == 200
            assert not all(preview.done() for preview in previews)
            assert {preview.result()[0] for preview in previews} == {503}
    finally:
        world.proxy.clear()
