"""Parameters that are annotated with ``xcargo.Lazy``."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import BaseOperator
from airflow.sdk.definitions.xcom_arg import PlainXComArg

from xcargo import Lazy
from xcargo.airflow import compat
from xcargo.airflow.inputs import asks_for_handle


@dataclass
class Report:
    """A callable that compares by value, and so has no hash."""

    title: str

    def __call__(self, table: Lazy, rows: Any) -> None:
        """The task's function."""


@pytest.mark.parametrize(("argument", "asked"), [("table", True), ("rows", False)])
def test_a_callable_object_asks_by_its_annotations(monkeypatch: pytest.MonkeyPatch, argument: str, asked: bool) -> None:
    """As a function does, hashable or not."""
    upstream = BaseOperator(task_id="upstream")
    arguments = {"table": None, "rows": None} | {argument: PlainXComArg(upstream, "return_value")}
    task = SimpleNamespace(python_callable=Report("monthly"), op_kwargs=arguments)
    monkeypatch.setattr(compat, "task_of_context", lambda: task)
    assert asks_for_handle("upstream", "return_value") is asked
    assert not asks_for_handle("upstream", "another_key")
