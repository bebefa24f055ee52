"""`xcargo.connect` over a real REST API: a process without Airflow reads what tasks returned."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow import __version__ as airflow_version

from .conftest import HERE, Run, WebServer, file_of, run
from .generation import AIRFLOW_2
from .settle import Place

pytestmark = pytest.mark.skipif(
    AIRFLOW_2 and not airflow_version.startswith("2.11"), reason="the REST API is the same on 2.x"
)


@pytest.fixture(scope="module", params=["path given", "path of the API"])
def report(request: pytest.FixtureRequest, web: WebServer, place: Place) -> dict[str, Any]:
    """What the other process got."""
    path = place.root.as_uri() if request.param == "path given" else ""
    done = run(str(HERE / "run_client.py"), web.url, path, json.dumps(web.login), json.dumps(web.refused))
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(done.stdout))


def test_values_are_those_of_the_tasks(report: dict[str, Any], dag_runs: dict[str, Run]) -> None:
    """Plain ones, large ones, those of mapped tasks in order, of the latest run and by its id."""
    flow = dag_runs["contract_flow"]
    assert report["small"] == flow.row("small")
    assert report["large"]["number"] == 1
    assert len(report["mapped"]) == 4
    assert report["one of them"] == report["mapped"][2]


def test_what_there_is_is_shown(report: dict[str, Any], dag_runs: dict[str, Run]) -> None:
    """As a list, a frame, a table of HTML, and over all runs, with no object fetched."""
    flow = dag_runs["contract_flow"]
    assert set(report["values"]) == {row.task_id for row in flow.rows}
    assert report["frame"] == "dict"
    assert "<td>large_one</td>" in report["html"]
    envelope = flow.row("large_one")
    assert report["handle"][:2] == ["dict", envelope["size_bytes"]]
    assert report["history"] == [["success", True]]


def test_what_is_not_there_or_not_allowed_is_an_error(report: dict[str, Any]) -> None:
    """A missing XCom, an object outside the paths, a user whom Airflow does not know."""
    assert report["missing"].startswith("ObjectNotFoundError: There is no such XCom")
    assert "map_index" in report["not mapped"]
    assert report["elsewhere"].startswith("EnvelopeError: ")
    assert report["stranger"].startswith("AccessDeniedError: The REST API refuses the user")


def test_whoever_may_not_read_is_refused_by_airflow(report: dict[str, Any], web: WebServer) -> None:
    """With its status, its reason and the place; whether there is no right at all, or none to XComs."""
    assert set(report["refused"]) == set(web.refused)
    for user, errors in report["refused"].items():
        for call, error in errors.items():
            assert error.startswith("AccessDeniedError: The REST API refuses the user (403: "), (user, call, error)
            place = "xcomEntries" if user == "no_xcoms" else "dags/contract_flow/dagRuns"
            assert f"/{place}]" in error, (user, call, error)


def test_beside_an_installed_airflow_no_url_is_needed(dag_runs: dict[str, Run]) -> None:
    """The rows come from its database, the paths from its settings."""
    code = "import xcargo; print(xcargo.connect().pull('contract_flow', 'large_one')['number'])"
    done = run("-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "1"
    assert file_of(dag_runs["contract_flow"].row("large_one")).exists()
