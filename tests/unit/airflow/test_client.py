"""`xcargo.connect`, as far as it can be seen without a server: where it reads, what it shows, what it may import.

What it reads over a real REST API is in tests/contract/test_client.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import xcargo
from tests.unit import golden_classes
from tests.unit.codecs.known_classes import KnownClasses
from tests.unit.conftest import HERE, make_pipeline
from xcargo.airflow.client.connect import Client
from xcargo.airflow.client.values import StoredValue, StoredValues
from xcargo.codecs import Registry
from xcargo.errors import ConfigurationError, DecodeError, ReferencesUnavailableError
from xcargo.lifecycle.references import XComRow


def stored(value: Any, **settings: Any) -> StoredValue:
    """A value as it is listed."""
    pipeline = make_pipeline(**settings)
    return StoredValue.of(XComRow(HERE, pipeline.push(value, HERE), "rest"), pipeline)


def test_what_a_row_says_is_shown_without_its_markup() -> None:
    """A preview, a type or an id is text."""
    values = StoredValues([stored({"<script>": "x"}, threshold_bytes=0), stored("<b>"), stored([1, {"a": None}])])
    shown = values._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown
    assert [value.type for value in values] == ["dict", "str", "list"]
    assert values.pull() == [{"<script>": "x"}, "<b>", [1, {"a": None}]]
    assert list(values.to_frame()["size_bytes"][1:]) == [5, 14]
    assert "<b>dict · " in values[0].lazy()._repr_html_()


@pytest.mark.parametrize("patterns", [[], ["tests.unit.other.*"], ["tests.unit.golden_classes.*"]])
def test_only_classes_that_the_user_allowed_are_imported(tmp_path: Path, patterns: list[str]) -> None:
    """Of any other the error says how to allow it."""
    url = tmp_path.as_uri()
    row = make_pipeline(url, codecs=Registry(classes=KnownClasses(golden_classes.__name__))).push(
        golden_classes.Parcel(golden_classes.Order("A", golden_classes.Point(1, 2))), HERE
    )
    client = xcargo.connect("http://127.0.0.1:9", path=url, allowed_classes=patterns)
    value = client.describe(XComRow(HERE, row, "rest"))
    if patterns == ["tests.unit.golden_classes.*"]:
        assert isinstance(value.pull(), golden_classes.Parcel)
    else:
        with pytest.raises(DecodeError, match=r"golden_classes\.Parcel.*allowed_classes"):
            value.pull()


def test_the_login_of_airflowctl_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The URL of the environment that it names; a token out of the variable."""
    (tmp_path / "staging.json").write_text(json.dumps({"api_url": "http://127.0.0.1:9"}))
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    monkeypatch.setenv("AIRFLOW_CLI_ENVIRONMENT", "staging")
    monkeypatch.setenv("AIRFLOW_CLI_TOKEN", "t")
    client = xcargo.connect(path="file:///x")
    assert isinstance(client, Client)
    with pytest.raises(ReferencesUnavailableError, match=r"127\.0\.0\.1:9"):
        client.runs("dag")


def test_a_wrong_url_or_path_says_how_to_write_it() -> None:
    """Before any request."""
    with pytest.raises(ConfigurationError, match="Write it as the web page is opened"):
        xcargo.connect("airflow.example.com", path="file:///x")
    with pytest.raises(ConfigurationError, match="storage URL"):
        xcargo.connect("http://127.0.0.1:9", path="bucket/prefix")
