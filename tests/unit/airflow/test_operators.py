"""The operator's way to a store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from xcargo.airflow import compat, operators, runtime
from xcargo.errors import ReferencesUnavailableError
from xcargo.stores import open_store
from xcargo.stores.base import Limits


def test_a_store_is_opened_with_the_retries_of_the_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And with every other bound that they name."""
    seen: list[Limits] = []

    def opened(root: Any, access: Any, limits: Limits) -> Any:
        seen.append(limits)
        return open_store(root, access, limits)

    monkeypatch.setenv("AIRFLOW__XCARGO__PATH", tmp_path.as_uri())
    monkeypatch.setenv("AIRFLOW__XCARGO__RETRY_WAIT_SECONDS", "1.5")
    monkeypatch.setattr(operators, "settings", runtime.settings.__wrapped__)
    monkeypatch.setattr(operators, "open_store", opened)
    assert operators.prefixes() == []
    assert [limits.retry_wait_seconds for limits in seen] == [1.5]


def test_no_prefixes_are_not_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty list, as a template may give, sweeps nothing; a text is no list of its letters."""
    monkeypatch.setenv("AIRFLOW__XCARGO__PATH", tmp_path.as_uri())
    monkeypatch.setattr(operators, "settings", runtime.settings.__wrapped__)
    monkeypatch.setattr(operators, "open_store", lambda *_: pytest.fail("a store was opened"))
    assert operators.XCargoGCOperator(task_id="gc", prefixes=[], via="database").execute({}) == []
    with pytest.raises(compat.fail_exception(), match="not the text 'my_dag'"):
        operators.XCargoGCOperator(task_id="gc", prefixes="my_dag", via="database").execute({})


def test_an_api_that_does_not_answer_is_worth_another_try(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing was deleted, and Airflow retries the task: the error is not the one that forbids it."""
    monkeypatch.setenv("AIRFLOW__XCARGO__PATH", tmp_path.as_uri())
    monkeypatch.setattr(operators, "settings", runtime.settings.__wrapped__)
    with pytest.raises(ReferencesUnavailableError, match="does not answer"):
        operators.XCargoGCOperator(task_id="gc", via="rest", api_url="http://127.0.0.1:9").execute({})
