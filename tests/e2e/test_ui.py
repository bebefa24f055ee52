"""The explorer in a real Airflow and a real browser, its values in a real S3 server."""

from __future__ import annotations

import http.client
import importlib.metadata
import json
import re
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import browser
from tests.e2e.explorer import DAG, Seen, World

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        next(iter(importlib.metadata.distributions(name="apache-airflow-task-sdk")), None) is None,
        reason="needs Airflow 3",
    ),
    pytest.mark.skipif(browser.installed() is None, reason="there is no Chromium here, and none could be installed"),
]


def alone(seen: Seen) -> Any:
    """The explorer's page without Airflow's around it."""
    seen.page.goto(seen.tab.owner.evaluate("frame => frame.src"))
    return seen.page


def test_first_and_last_page_of_a_million_rows(opened: Any) -> None:
    """The tab opens in Airflow's own page; the last row is one click away."""
    tab = opened("orders").tab
    tab.get_by_role("cell", name="customer 0001").first.wait_for()
    tab.get_by_text("1–100 of 1,000,000").wait_for()
    tab.get_by_role("button", name="Last rows").click()
    tab.get_by_text("999,901–1,000,000 of 1,000,000").wait_for()
    tab.get_by_role("rowheader", name="999,999").wait_for()
    tab.get_by_role("img", name="Distribution").first.wait_for()


def test_filter_and_sort(opened: Any) -> None:
    """A filter narrows all rows, not only those on the screen; a click on a column sorts."""
    tab = opened("orders").tab
    tab.get_by_label("Column", exact=True).select_option(label="order_id")
    tab.get_by_label("Value to compare with").fill("999998")
    tab.get_by_role("button", name="Filter").click()
    tab.get_by_text("1–2 of 2 (of 1,000,000)").wait_for()
    tab.get_by_role("button", name="order_id", exact=True).click()
    tab.locator("th[aria-sort=ascending]").wait_for()
    tab.get_by_role("button", name="order_id", exact=True).click()
    tab.locator("th[aria-sort=descending]").wait_for()
    tab.get_by_role("row").nth(1).get_by_text("999,999").wait_for()
    tab.get_by_role("button", name="Remove the filter").click()
    tab.get_by_text("1–100 of 1,000,000").wait_for()


def test_what_differs_between_two_runs(opened: Any) -> None:
    """Prices differ by run, in rows that are named."""
    tab = opened("orders").tab
    tab.get_by_role("tab", name="Compare").click()
    tab.get_by_text("The values differ").wait_for()
    tab.get_by_role("rowheader", name=re.compile("row .*, column price")).first.wait_for()
    tab.get_by_role("heading", name="Distributions").wait_for()


def test_a_tree_opens_node_by_node_and_is_searched(opened: Any) -> None:
    """Keyboard alone: into the list, to its first item, and back; a search shows the way to its hits."""
    seen = opened("response")
    tab = seen.tab
    tab.get_by_text("40,000 items").wait_for()
    root = tab.locator("[role=treeitem] > .row").first
    root.focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowDown", "ArrowDown", "ArrowRight"):
        seen.page.keyboard.press(key)
    tab.get_by_text("Next 100 of 39,900 more").wait_for()
    tab.get_by_role("searchbox", name="Search keys and texts").fill("ITEM 39999")
    tab.get_by_role("button", name="Search", exact=True).click()
    tab.get_by_role("link", name="items › [39999] › name").click()
    tab.get_by_text("item 39999", exact=True).last.wait_for()


def test_a_hostile_value_is_text(opened: Any) -> None:
    """Markup and scripts in keys and texts are shown as they are written, and none runs."""
    seen = opened("pieces")
    tab = seen.tab
    tab.get_by_role("button", name="hostile").click()
    tab.get_by_text("<script>alert('x')</script>").first.wait_for()
    tab.get_by_text("<img src=x onerror=alert(1)>").first.wait_for()
    assert tab.locator("#app script, #app img").count() == 0


def test_downloads(opened: Any, world: World, tmp_path: Path) -> None:
    """A click saves the file under its own name; a tree comes as JSON."""
    seen = opened("report")
    with seen.page.expect_download() as download:
        seen.tab.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == "report.md"
    download.value.save_as(tmp_path / "report.md")
    assert (tmp_path / "report.md").read_text().startswith("# Orders of the day")
    status, body = world.get(f"api/dags/{DAG}/download", "reader", form="json", **world.value("response"))
    assert status == 200
    assert len(json.loads(body)["items"]) == 40_000


@pytest.mark.parametrize("cookie", [False, True], ids=["bearer", "cookie"])
def test_who_has_no_right_gets_nothing(world: World, cookie: bool) -> None:
    """Neither kind of login lets a user without the right to any answer; the reader gets the same ones."""
    value = world.value("response")
    for name in ("xcoms", "value", "tree", "search", "download", "others", "stored", "bytes"):
        query: dict[str, str] = {**value}
        assert world.get(f"api/dags/{DAG}/{name}", "nobody", cookie=cookie, **query)[0] == 403, name
        assert world.get(f"api/dags/{DAG}/{name}", None, **query)[0] == 401, name
        assert world.get(f"api/dags/{DAG}/{name}", "reader", cookie=cookie, **query)[0] in (200, 422), name
    status, body = world.get("api/stored", "nobody", cookie=cookie)
    assert (status == 403) or json.loads(body)["count"] == 0
    assert json.loads(world.get("api/stored", "reader", cookie=cookie)[1])["count"] > 0


def test_a_user_without_rights_is_told_so(opened: Any, world: World) -> None:
    """In words, on the page itself."""
    seen = opened("response")
    seen.page.context.clear_cookies()
    seen.page.context.add_cookies([{"name": "_token", "value": world.tokens["nobody"], "url": world.url}])
    query = urllib.parse.urlencode({"dag_id": DAG, "run_id": world.runs[1], "task_id": "response"})
    seen.page.goto(f"{world.url}/xcargo/?{query}")
    seen.page.get_by_role("alert").get_by_text("You may not read the XComs of this Dag").wait_for()


def test_run_dag_and_all_pages(opened: Any, world: World) -> None:
    """What is stored by task, the largest values and the newest runs; a link leads to the value."""
    seen = opened("orders")
    quoted = urllib.parse.quote(world.runs[1], safe="")
    seen.page.goto(f"{world.url}/dags/{DAG}/runs/{quoted}/plugin/xcom_data_run")
    seen.tab.get_by_role("heading", name="By task").wait_for()
    seen.page.goto(f"{world.url}/plugin/xcom_data_all")
    seen.tab.get_by_role("heading", name="Newest runs").wait_for()
    seen.tab.get_by_role("link", name="orders › return_value").first.click()
    seen.tab.get_by_text("of 1,000,000").wait_for()


def test_a_mapped_task_lists_all_its_indexes(opened: Any, world: World) -> None:
    """Where no index is named; a link to the page of one is what a choice leaves in the address."""
    page = opened("orders").page
    query = urllib.parse.urlencode({"dag_id": DAG, "run_id": world.runs[1], "task_id": "total"})
    page.goto(f"{world.url}/xcargo/?{query}")
    page.get_by_role("button", name="[2] return_value").click()
    page.get_by_role("treeitem").get_by_text("Oslo", exact=True).wait_for()
    assert "map_index=2" in page.url


def test_an_address_as_airflow_3_1_fills_it_in(opened: Any, world: World) -> None:
    """The run id as it is, with a plus sign, and a placeholder for the index that a task has not."""
    page = opened("report").page
    assert "+" in world.runs[1]
    page.goto(f"{world.url}/xcargo/?dag_id={DAG}&run_id={world.runs[1]}&task_id=report&map_index={{MAP_INDEX}}")
    page.get_by_role("heading", name="Orders of the day").wait_for()


def test_phone_width(opened: Any) -> None:
    """Nothing but tables scrolls sideways."""
    seen = opened("pieces")
    alone(seen)
    seen.page.set_viewport_size({"width": 375, "height": 812})
    seen.page.get_by_role("tab", name="Tree").or_(seen.page.get_by_role("tab", name="Hex")).first.wait_for()
    assert seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize(
    ("task", "scheme"), [("orders", "light"), ("orders", "dark"), ("response", "dark"), ("weights", "light")]
)
def test_axe_finds_nothing_serious(opened: Any, task: str, scheme: str) -> None:
    """Names, roles, contrast, focus: by axe-core, light and dark."""
    from axe_playwright_python.sync_playwright import Axe

    seen = opened(task, color_scheme=scheme)
    page = alone(seen)
    page.get_by_role("tablist").wait_for()
    page.wait_for_load_state("networkidle")
    found = Axe().run(page).response["violations"]
    serious = [one for one in found if one["impact"] in ("serious", "critical")]
    assert [(one["id"], [node["html"][:200] for node in one["nodes"][:3]]) for one in serious] == []


def test_no_value_is_in_the_log(world: World) -> None:
    """The API server's log names requests, never what they were answered with."""
    text = world.log.read_text(errors="replace")
    for secret in ("alert('x')", "A text that is longer than", "Orders of the day"):
        assert secret not in text


def test_what_was_typed_is_not_in_the_access_log(opened: Any, world: World) -> None:
    """A search and a filter are answered, and the log has neither their texts nor any signed URL."""
    seen = opened("response").tab
    seen.get_by_role("searchbox", name="Search keys and texts").fill("typed-öl 39999")
    seen.get_by_role("button", name="Search", exact=True).click()
    seen.get_by_text("No places").wait_for()
    tab = opened("orders").tab
    tab.get_by_label("Column", exact=True).select_option(label="customer")
    tab.get_by_label("Value to compare with").fill("typed-customer")
    tab.get_by_role("button", name="Filter").click()
    tab.get_by_text("No row passes the filter.").wait_for()
    text = urllib.parse.unquote(world.log.read_text(errors="replace"))
    assert "/xcargo/api/dags/explorer_demo/search" in text
    assert "typed-" not in text


def test_a_page_is_few_requests_and_few_bytes(opened: Any, world: World) -> None:
    """What a value's page costs a browser, its own files and answers alike; what is unchanged is not sent again."""
    seen = opened("orders")
    page = alone(seen)
    page.get_by_text("of 1,000,000").wait_for()
    page.wait_for_load_state("networkidle")
    entries = page.evaluate("performance.getEntriesByType('resource').map(e => [e.name, e.decodedBodySize])")
    assert all(name.startswith(world.url) for name, _ in entries)
    files = [size for name, size in entries if "/static/" in name]
    answers = [size for name, size in entries if "/api/" in name]
    assert (len(files) <= 18, sum(files) < 100_000) == (True, True), entries
    assert (len(answers) <= 3 + 7, sum(answers) < 150_000) == (True, True), entries


def test_a_signed_download_leads_to_the_store(world: World) -> None:
    """Where it is turned on, what is stored as it is comes from the store itself, for whoever has the right only."""
    url = world.cluster.another_api_server({"AIRFLOW__XCARGO__UI_SIGNED_DOWNLOADS": "True"})
    value = world.value("pieces", "picture")
    told = json.loads(world.get(f"api/dags/{DAG}/value", "reader", **value)[1])
    assert told["envelope"].get("compression", "none") == "none"
    path = f"/xcargo/api/dags/{DAG}/download?{urllib.parse.urlencode(value)}"
    answers = {}
    for user in ("nobody", "reader"):
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
        connection.request("GET", path, headers={"Authorization": f"Bearer {world.tokens[user]}"})
        answer = connection.getresponse()
        answers[user] = (answer.status, answer.headers.get("location"))
        connection.close()
    assert answers["nobody"] == (403, None)
    status, location = answers["reader"]
    assert location is not None
    assert (status, location.startswith(world.server.endpoint)) == (307, True)
    assert "X-Amz-Expires=60" in location
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(location, timeout=10) as answered:
        assert answered.read() == world.get(f"api/dags/{DAG}/download", "reader", **value)[1]
    assert world.get(f"api/dags/{DAG}/download", "reader", url=url, **world.value("report"))[0] == 200
    logs = [log.read_text(errors="replace") for log in world.log.parent.glob("api-server*.log")]
    assert not any("X-Amz-Signature" in log for log in logs)


def test_an_object_that_is_gone_or_altered(opened: Any, world: World) -> None:
    """The page says what is wrong and shows what the row tells; nothing of an altered object is shown."""
    listed = json.loads(world.get(f"api/dags/{DAG}/xcoms", "reader", run_id=world.runs[0])[1])["xcoms"]
    values = {xcom["task_id"]: xcom for xcom in listed}
    keys = {task: values[task]["uri"].removeprefix(f"s3://{world.server.bucket}/") for task in ("report", "weights")}
    world.server.raw_put(keys["weights"], b"x" * values["weights"]["stored_bytes"])
    world.server.raw_delete(keys["report"])
    tab = opened("report", run=0).tab
    tab.get_by_role("alert").get_by_text("The value cannot be shown").wait_for()
    tab.get_by_role("tab", name="Envelope").wait_for()
    status, body = world.get(f"api/dags/{DAG}/array", "reader", **world.value("weights", run=0))
    assert (status, json.loads(body)["error"]["kind"]) == (422, "integrity")
    assert world.get(f"api/dags/{DAG}/download", "reader", **world.value("report", run=0))[0] == 404


def test_wrong_credentials(opened: Any, world: World) -> None:
    """An API server that cannot read the store says so, and shows the envelope; other pages are as before."""
    connection = {**world.server.connection, "password": "wrong-secret"}
    name = f"AIRFLOW_CONN_{world.server.connection_id.upper()}"
    url = world.cluster.another_api_server({name: json.dumps(connection)})
    status, body = world.get(f"api/dags/{DAG}/value", "reader", url=url, **world.value("response"))
    told = json.loads(body)
    assert (status, told["problem"]["kind"]) == (200, "access_denied")
    assert told["envelope"]["uri"].startswith("s3://")
    assert "wrong-secret" not in body.decode()
    assert world.get(f"api/dags/{DAG}/download", "reader", url=url, **world.value("response"))[0] == 502
    page = opened("response").page
    query = urllib.parse.urlencode({"dag_id": DAG, "run_id": world.runs[1], "task_id": "response"})
    page.context.add_cookies([{"name": "_token", "value": world.tokens["reader"], "url": url}])
    page.goto(f"{url}/xcargo/?{query}")
    page.get_by_role("alert").get_by_text("needs its own credentials").wait_for()
    page.get_by_role("tab", name="Envelope").wait_for()
