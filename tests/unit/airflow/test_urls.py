"""What is refused before any URL is signed. That they work is in tests/contract, for every Airflow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from xcargo import ConfigurationError, collect, collector, download_url, upload_url
from xcargo.airflow import runtime


@pytest.fixture(autouse=True)
def fresh_settings() -> Iterator[None]:
    runtime.settings.cache_clear()
    yield
    runtime.settings.cache_clear()


def test_a_store_that_signs_no_urls_is_named_at_parse_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the alternative; unless some route leads to a store that does."""
    monkeypatch.setenv("AIRFLOW__XCARGO__PATH", "file:///tmp/xcom")
    with pytest.raises(ConfigurationError, match=r"a file:// store has none.*S3, Google or Azure.*xcargo\.File"):
        collector("model.bin")
    monkeypatch.setenv("AIRFLOW__XCARGO__ROUTES", json.dumps([{"name": "pods", "dag": "p_*", "path": "s3://c@bucket"}]))
    runtime.settings.cache_clear()
    assert callable(collector("model.bin"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "out/model.bin"}, "is not the name of a file"),
        ({"name": ""}, "is not the name of a file"),
        ({"name": "model.bin", "decode": True}, "cannot be decoded"),
        ({"name": "a.csv", "decode": True, "media_type": "image/png"}, "image/png cannot be decoded"),
    ],
)
def test_arguments_are_checked_at_parse_time(
    monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], message: str
) -> None:
    """A Dag with a wrong one cannot be imported."""
    monkeypatch.setenv("AIRFLOW__XCARGO__PATH", "s3://c@bucket/xcom")
    with pytest.raises(ConfigurationError, match=message):
        collector(**arguments)


@pytest.mark.parametrize("function", [upload_url, lambda: download_url("a"), lambda: collect("a.txt")])
def test_outside_of_a_task_there_is_no_url(function: Any) -> None:
    """The error says where one is signed."""
    with pytest.raises(ConfigurationError, match=r"inside a running task only.*macros\.xcargo\.upload_url"):
        function()
