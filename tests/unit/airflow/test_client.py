"""`xcargo.connect`, as far as it can be seen without a server: where it reads, what it shows, what it may import.

What it reads over a real REST API is in tests/contract/test_client.py.
"""

from __future__ import annotations

import json
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, cast

import pytest

import xcargo
from tests.metadata import NOON
from tests.unit import golden_classes
from tests.unit.codecs.known_classes import KnownClasses
from tests.unit.conftest import HERE, make_pipeline
from xcargo.airflow.client.connect import Client, _AllowedClasses
from xcargo.airflow.client.values import StoredValue, StoredValues
from xcargo.codecs import Registry
from xcargo.errors import (
    AccessDeniedError,
    ConfigurationError,
    DecodeError,
    EnvelopeError,
    ObjectNotFoundError,
    ReferencesUnavailableError,
)
from xcargo.lifecycle.references import Run, XComFilter, XComRow
from xcargo.model.settings import LegacyRoot

if TYPE_CHECKING:
    from typing_extensions import Self

    from xcargo.lifecycle.references import ReferenceSource


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


def test_a_value_in_its_row_is_the_same_each_time() -> None:
    """With its keys in their order, as a handle too, and whatever was done with it before."""
    value = stored({"name": "x", "id": [3]}, keep_key_order=True)
    assert list(value.lazy().load().items()) == [("name", "x"), ("id", [3])]
    value.pull()["id"].append(4)
    assert list(value.pull().items()) == [("name", "x"), ("id", [3])]


def test_a_reference_that_another_backend_left_is_pulled(tmp_path: Path) -> None:
    """As a task pulls it, where the settings name its path."""
    (tmp_path / "old.json").write_text("[1]")
    pipeline = make_pipeline(legacy_roots=(LegacyRoot.parse(tmp_path.as_uri()),))
    value = StoredValue.of(XComRow(HERE, f"{tmp_path.as_uri()}/old.json", "rest"), pipeline)
    assert value.pull() == value.lazy().load() == [1]


def test_a_damaged_row_is_listed(tmp_path: Path) -> None:
    """Whatever its fields are, the table shows why it cannot be read, and pulling it is that error."""
    row: Any = make_pipeline(tmp_path.as_uri(), threshold_bytes=0).push([1], HERE)
    for changes in ({"size_bytes": "<b>"}, {"type": {"a": 1}}, {"preview": 3}, {"__id__": "xcargo/9"}):
        value = StoredValue.of(XComRow(HERE, {**row, **changes}, "rest"), make_pipeline(tmp_path.as_uri()))
        assert "envelope" in StoredValues([value])._repr_html_()
        assert "envelope" in value._repr_html_()
        with pytest.raises(EnvelopeError):
            value.pull()


def test_values_can_be_a_column_of_the_frame() -> None:
    """Small ones over runs, to be plotted."""
    values = StoredValues([stored({"accuracy": 0.5}), stored([1])])
    assert list(values.to_frame(pull=True)["value"]) == [{"accuracy": 0.5}, [1]]
    assert "value" not in values.to_frame()
    assert "dict" in values[0]._repr_html_()


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


def test_a_class_is_not_reached_through_a_module_that_imports_it() -> None:
    """A pattern allows what a package defines, not what it imports from elsewhere."""
    classes = _AllowedClasses(("tests.unit.*",))
    assert classes.class_of("tests.unit.golden_classes:Point") is golden_classes.Point
    with pytest.raises(DecodeError, match=r"no class tests\.unit\.golden_classes\.Generic"):
        classes.class_of("tests.unit.golden_classes:Generic")


class Api:
    """An API server of which each token is good for one listing; or one that redirects, forbids XComs, or is a page."""

    def __init__(
        self,
        redirects_to: str = "",
        *,
        forbids_xcoms: bool = False,
        page: str = "",
        version: str = "3.3.2",
        value: Any = "",
    ) -> None:
        self.headers: list[str | None] = []
        self.paths: list[str] = []
        self.tokens = 0

        class Handler(BaseHTTPRequestHandler):
            def do_GET(handler) -> None:
                self.headers.append(handler.headers.get("Authorization"))
                self.paths.append(handler.path)
                if redirects_to:
                    handler.send_response(302)
                    handler.send_header("Location", redirects_to)
                    handler.end_headers()
                elif page and page in handler.path:
                    handler.answer(200, "<html>Sign in</html>")
                elif handler.path.endswith("/version"):
                    handler.answer(200, {"version": version})
                elif "/dags/gone/" in handler.path:
                    handler.answer(404, {})
                elif value:
                    handler.answer(200, handler.one_xcom())
                elif handler.path.partition("?")[0].endswith("/xcomEntries"):
                    handler.answer(403, {"detail": "Forbidden"})
                elif forbids_xcoms:
                    run = {"dag_id": "d", "dag_run_id": "r"}
                    handler.answer(200, {**run, "dag_runs": [run], "total_entries": 1})
                elif self.headers.count(self.headers[-1]) > 2:
                    handler.answer(401, {})
                else:
                    handler.answer(200, {"dag_runs": [], "total_entries": 0})

            def one_xcom(handler) -> dict[str, Any]:
                """The one run, its one XCom, or that XCom's value."""
                xcom = {"dag_id": "d", "task_id": "t", "map_index": -1, "key": "return_value"}
                if "xcomEntries/" in handler.path:
                    return {**xcom, "value": value}
                run = {"dag_id": "d", "dag_run_id": "r"}
                return {**run, "dag_runs": [run], "xcom_entries": [xcom], "total_entries": 1}

            def do_POST(handler) -> None:
                self.tokens += 1
                handler.answer(201, {"access_token": f"token {self.tokens}"})

            def answer(handler, status: int, body: Any) -> None:
                handler.send_response(status)
                handler.end_headers()
                handler.wfile.write(json.dumps(body).encode())

            def log_message(handler, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> Self:
        Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def test_a_token_that_expired_is_asked_for_again() -> None:
    """With user and password; a token that was given is refused, by Airflow."""
    with Api() as api:
        client = xcargo.connect(api.url, username="u", password="p", path="file:///x")
        for _ in range(3):
            assert client.runs("d") == []
        assert api.tokens == 3
        with_token = xcargo.connect(api.url, token="t", path="file:///x")
        assert with_token.runs("d") == []
        with pytest.raises(AccessDeniedError, match=r"refuses the user \(401: Unauthorized\)"):
            with_token.runs("d")


def test_a_user_who_may_not_read_xcoms_is_told_so() -> None:
    """Airflow's refusal and its place, although the user may list the runs; not that there is no such XCom."""
    with Api(forbids_xcoms=True) as api:
        client = xcargo.connect(api.url, token="t", path="file:///x")
        assert [run.run_id for run in client.runs("d")] == ["r"]
        for read in (lambda: client.pull("d", "t"), lambda: client.values("d"), lambda: client.sql('FROM "d.t"')):
            with pytest.raises(
                AccessDeniedError, match=r"refuses the user \(403: Forbidden\) \[.*/xcomEntries\].*may read these"
            ):
                read()


def test_a_token_does_not_follow_a_redirect() -> None:
    """Its target is named and not asked."""
    with Api() as other, Api(redirects_to=f"{other.url}/elsewhere") as api:
        with pytest.raises(ConfigurationError, match=r"redirects to .*/elsewhere, which is not followed"):
            xcargo.connect(api.url, token="t", path="file:///x").runs("d")
        assert other.headers == []


def test_a_page_in_place_of_json_is_refused() -> None:
    """As a proxy that asks people to sign in answers, whatever it is asked for."""
    with Api(page="/") as api, pytest.raises(ConfigurationError, match="No REST API of Airflow answers there"):
        xcargo.connect(api.url, token="t", path="file:///x").runs("d")
    with Api(page="dagRuns") as api, pytest.raises(ReferencesUnavailableError, match="something else than JSON"):
        xcargo.connect(api.url, token="t", path="file:///x").runs("d")


def test_what_signs_in_is_shown_by_no_error_or_report() -> None:
    """A token out of a file with a line's end is taken; one with another such character, and a login, are not shown."""
    with Api() as api:
        assert xcargo.connect(api.url, token="t0ken\n", path="file:///x").runs("d") == []
        assert api.headers[-1] == "Bearer t0ken"
        for token in ("t0ken\nx", "t0k\u00e9n"):
            with pytest.raises(ConfigurationError, match="character that no token has") as caught:
                xcargo.connect(api.url, token=token, path="file:///x").runs("d")
            assert "t0k" not in str(caught.value)
        client = xcargo.connect(api.url.replace("//", "//me:p%40ss@"), path="file:///x")
        assert client.runs("d") == []
        assert (api.tokens, repr(client)) == (1, f"<xcargo.Client of {api.url}>")
    with pytest.raises(ConfigurationError) as caught:
        xcargo.connect("ftp://me:t0ken@host", path="file:///x")
    assert "t0ken" not in str(caught.value)


@pytest.mark.parametrize("text", ["{'__id__': {[1]: 2}}", "{'__id__': " + "-" * 100_000 + "1}"])
def test_a_text_that_only_begins_as_an_envelope_ends_no_listing(text: str) -> None:
    """Airflow 2 gives a dictionary as Python writes it; a text of a task's is read as that, and may be anything."""
    with Api(version="2.11.0", value=text) as api:
        assert xcargo.connect(api.url, token="t", path="file:///x").pull("d", "t") == text


def test_a_text_is_a_text_however_it_begins() -> None:
    """Airflow 3 gives a dictionary as JSON, so what looks like one in Python is what a task returned."""
    text = str(make_pipeline().push((1,), HERE))
    with Api(value=text) as api:
        assert xcargo.connect(api.url, token="t", path="file:///x").pull("d", "t") == text


def test_what_is_named_is_asked_for_by_its_name() -> None:
    """However many runs the Dag has, XComs the run, and instances the task."""
    with Api(value=1) as api:
        client = xcargo.connect(api.url, token="t", path="file:///x")
        assert client.pull("d", "t", run_id="r") == 1
        run, listing, value = (path for path in api.paths if "/dags/" in path)
        assert run == "/api/v2/dags/d/dagRuns/r"
        assert listing.startswith(f"{run}/taskInstances/t/xcomEntries?")
        assert "xcom_key=return_value" in listing
        assert value.startswith(f"{run}/taskInstances/t/xcomEntries/return_value?")
        api.paths.clear()
        with pytest.raises(ObjectNotFoundError, match=r"task 't'\[3\]"):
            client.pull("d", "t", run_id="r", map_index=3)
        assert not any("xcomEntries/" in path for path in api.paths)


def test_the_latest_is_looked_for_in_a_hundred_runs() -> None:
    """A task id that is misspelt is in none, and a Dag may have any number of runs."""
    asked = []

    class Source:
        def runs(self, where: XComFilter) -> list[Run]:
            return [Run("d", f"r{n}", date=NOON + timedelta(days=n)) for n in range(150)]

        def rows(self, where: XComFilter) -> list[XComRow]:
            asked.append(where.run_id)
            return []

    with pytest.raises(ObjectNotFoundError, match=r"client\.values\('d', run_id='latest'\)"):
        Client(cast("ReferenceSource", Source()), make_pipeline()).pull("d", "misspelt")
    assert asked == [f"r{n}" for n in range(149, 49, -1)]


@pytest.mark.parametrize(("version", "is_asked_for"), [("3.2.0", True), ("3.1.8", False), ("2.11.0", False)])
def test_runs_of_a_dag_whose_file_is_gone_are_looked_for_among_those_of_all(version: str, is_asked_for: bool) -> None:
    """Where Airflow can choose them itself it does; a deployment may have millions of runs."""
    with Api(version=version) as api:
        assert xcargo.connect(api.url, token="t", path="file:///x").runs("gone") == []
        assert "/dags/~/dagRuns?" in api.paths[-1]
        assert ("dag_id_pattern=gone" in api.paths[-1]) == is_asked_for


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
    with pytest.raises(ConfigurationError, match="cannot use the URL"):
        xcargo.connect("http://[::1", token="t", path="file:///x").runs("d")
    with pytest.raises(ConfigurationError, match="storage URL"):
        xcargo.connect("http://127.0.0.1:9", path="bucket/prefix")


def test_a_connection_whose_extra_is_no_json_is_refused(tmp_path: Path) -> None:
    """When the store is needed."""
    row: Any = make_pipeline(tmp_path.as_uri(), threshold_bytes=0).push([1], HERE)
    with Api(value={**row, "uri": "s3://bucket/d/r/t/k~0.msgpack"}) as api:
        client = xcargo.connect(api.url, token="t", path="s3://bucket", connection={"extra": "{,}"})
        with pytest.raises(ConfigurationError, match="extra of the connection is not JSON"):
            client.pull("d", "t")


def test_a_row_of_another_backend_is_listed_whatever_its_text() -> None:
    """Half a character in one row keeps no other from being listed."""
    value = StoredValue.of(XComRow(HERE, "\ud83d", "rest"), make_pipeline())
    assert (value.type, value.size_bytes, value.pull()) == ("str", 5, "\ud83d")
