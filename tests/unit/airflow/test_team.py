"""The team of the task in this process, as Airflow has it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from airflow.sdk.execution_time.context import set_current_context

from xcargo.airflow import compat


@pytest.mark.parametrize(("name", "team"), [("team_a", "team_a"), (None, "")])
def test_a_task_has_the_team_of_its_run(name: str | None, team: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While its code runs the context counts, whatever the environment says; a task without a team has none."""
    monkeypatch.setenv("AIRFLOW_CTX_TEAM_NAME", "team_b")
    with set_current_context({"dag_run": SimpleNamespace(team_name=name)}):
        assert compat.team() == team


def test_before_airflow_told_teams_a_task_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run without the field is of no team: what routes keep for teams stays closed."""
    with set_current_context({"dag_run": SimpleNamespace()}):
        assert compat.team() == ""


def test_after_the_tasks_code_the_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A result is pushed when the context is gone; Airflow leaves the team in the environment."""
    monkeypatch.delenv("AIRFLOW_CTX_TEAM_NAME", raising=False)
    monkeypatch.delenv("AIRFLOW_CTX_DAG_ID", raising=False)
    assert compat.team() is None
    monkeypatch.setenv("AIRFLOW_CTX_DAG_ID", "dag")
    assert compat.team() == ""
    monkeypatch.setenv("AIRFLOW_CTX_TEAM_NAME", "team_a")
    assert compat.team() == "team_a"


def test_the_task_runner_leaves_the_team_in_the_environment() -> None:
    """By the name that is read here, and from the field of the run that is read here."""
    from airflow.sdk.api.datamodels._generated import DagRun
    from airflow.sdk.execution_time.context import AIRFLOW_VAR_NAME_FORMAT_MAPPING

    assert AIRFLOW_VAR_NAME_FORMAT_MAPPING["AIRFLOW_CONTEXT_TEAM_NAME"]["env_var_format"] == "AIRFLOW_CTX_TEAM_NAME"
    assert AIRFLOW_VAR_NAME_FORMAT_MAPPING["AIRFLOW_CONTEXT_DAG_ID"]["env_var_format"] == "AIRFLOW_CTX_DAG_ID"
    assert "team_name" in DagRun.model_fields
