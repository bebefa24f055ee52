"""The explorer inside this Airflow's API server: whom it answers, and which attempts it knows."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.plugins_manager import AirflowPlugin

from .conftest import HERE, Run, run
from .generation import BaseXCom

PER_ATTEMPT = hasattr(BaseXCom, "store_value")
has_explorer = pytest.mark.skipif(not hasattr(AirflowPlugin, "external_views"), reason="this Airflow has no such tabs")
has_none = pytest.mark.skipif(hasattr(AirflowPlugin, "external_views"), reason="this Airflow has the explorer")


@pytest.fixture(scope="module")
def told(dag_runs: dict[str, Run], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Name -> status and answer, of a process that is an API server but for its socket."""
    home = tmp_path_factory.mktemp("explorer")
    passwords = {"reader": "reader-secret", "nobody": "nobody-secret"}
    (home / "passwords.json").write_text(json.dumps(passwords))
    done = run(
        str(HERE / "run_explorer.py"),
        str(home / "told.json"),
        dag_runs["contract_retry"].run_id,
        AIRFLOW__XCARGO__UI="True",
        AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS="reader:viewer,nobody:",
        AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE=str(home / "passwords.json"),
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-10_000:]
    answers: dict[str, Any] = json.loads((home / "told.json").read_text())
    return answers


@has_explorer
def test_explorer_answers_whoever_has_the_right(told: dict[str, Any]) -> None:
    """401 without a login, 403 without the right, the value with it; bearer and cookie alike."""
    assert told["page"][0] == 200
    assert told["no_login"][0] == 401
    for kind in ("bearer", "cookie"):
        assert told[f"no_right_{kind}"][0] == 403
        status, answer = told[f"value_{kind}"]
        assert (status, answer.get("problem")) == (200, None)
        assert answer["envelope"]["uri"].startswith("file://")
    assert told["searched"][0] in (200, 422)
    assert told["stored"][1]["count"] > 0


@has_explorer
def test_explorer_names_the_attempt(told: dict[str, Any]) -> None:
    """The list holds the latest attempt's values, and says whose they are."""
    status, listed = told["listed"]
    assert status == 200
    assert {xcom["key"]: xcom["attempt"] for xcom in listed["xcoms"]} == {"partial": 2, "return_value": 2}


@has_explorer
def test_explorer_shows_and_compares_earlier_attempts(told: dict[str, Any]) -> None:
    """Where Airflow keeps them; where it does not, the answer says so."""
    status, first = told["first"]
    if not PER_ATTEMPT:
        assert (status, told["compared"][0], told["others"][1]["xcoms"]) == (422, 422, [])
        assert "latest attempt only" in first["error"]["what"]
        return
    assert (status, first["xcom"]["attempt"], first.get("problem")) == (200, 1, None)
    assert first["envelope"]["uri"] != told["value_bearer"][1]["envelope"]["uri"]
    assert [other["attempt"] for other in told["others"][1]["xcoms"]] == [1]
    status, compared = told["compared"]
    assert (status, compared["compared"]) == (200, "every value"), compared
    assert compared["changes"] == [{"where": "['number']", "left": "2", "right": "1"}]


@has_none
def test_explorer_that_cannot_be_is_said() -> None:
    """An Airflow without such tabs says in its log that there is no explorer."""
    code = "from airflow import plugins_manager; plugins_manager.ensure_plugins_loaded()"
    done = run("-c", code, AIRFLOW__XCARGO__UI="True")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "the XCom explorer needs Airflow 3.1" in done.stdout + done.stderr
