"""Requests for unfinished uploads go where the store's requests go, with the same credentials."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.airflow.connection_kit import Connection, Recorder, access, set_variables
from tests.unit.airflow.test_connections_google import conn, issuer
from xcargo.errors import AccessDeniedError, StoreError, StoreUnavailableError
from xcargo.stores.base import Upload, Uploads

pytestmark = pytest.mark.usefixtures("bare")

S3 = "s3://my_conn@bucket/xcom"
NONE = (200, "<ListMultipartUploadsResult/>")


def uploads(url: str, connection: Any = None) -> Uploads:
    opened = access(url, connection).uploads
    assert opened is not None
    return opened(2.0)


def keys(**extra: Any) -> Connection:
    return Connection(login="AKIA1", password="secret", extra=extra)


def test_s3_keys_region_and_endpoint(wire: Recorder) -> None:
    """With a session token; the prefix is that of the root."""
    wire.replies["/"] = NONE
    assert list(uploads(S3, keys(aws_session_token="tok", region_name="eu-west-7", endpoint_url=wire.url)).list()) == []
    assert wire.last.target.startswith("/bucket?uploads&prefix=xcom%2F")
    assert "Credential=AKIA1/" in wire.last.headers["authorization"]
    assert "/eu-west-7/s3/" in wire.last.headers["authorization"]
    assert wire.last.headers["x-amz-security-token"] == "tok"


def test_s3_through_a_proxy_with_the_bucket_in_the_host(wire: Recorder) -> None:
    """Nobody signs where the connection says so; whoever asks pays where it says so."""
    wire.replies["http://bucket.s3.example.test/"] = NONE
    options = {
        "config_kwargs": {
            "proxies": {"http": wire.url},
            "s3": {"addressing_style": "virtual"},
            "signature_version": "unsigned",
        },
        "extra_args": {"RequestPayer": "requester"},
    }
    list(uploads(S3, keys(endpoint_url="http://s3.example.test", **options)).list("dag"))
    assert wire.last.target.startswith("http://bucket.s3.example.test/?uploads&prefix=xcom%2Fdag%2F")
    assert "authorization" not in wire.last.headers
    assert wire.last.headers["x-amz-request-payer"] == "requester"


def test_s3_keys_of_the_environment(wire: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the same variables as the store's client reads."""
    variables = {"AWS_ACCESS_KEY_ID": "ENV1", "AWS_SECRET_ACCESS_KEY": "s", "AWS_ENDPOINT_URL": wire.url}
    set_variables(monkeypatch, variables)
    wire.replies["/"] = NONE
    list(uploads("s3://bucket").list())
    assert "Credential=ENV1/" in wire.last.headers["authorization"]
    assert wire.last.target.startswith("/bucket?uploads&prefix=&")


def test_pages_are_turned_on_s3(wire: Recorder) -> None:
    """From the last key and upload of the page before."""
    entry = (
        "<Upload><Key>xcom/{0}</Key><UploadId>{0}</UploadId><Initiated>2026-01-01T00:00:00.000Z</Initiated></Upload>"
    )
    first = (
        "<IsTruncated>true</IsTruncated><NextKeyMarker>xcom/a</NextKeyMarker><NextUploadIdMarker>a</NextUploadIdMarker>"
    )
    pages = [f"{first}{entry.format('a')}", entry.format("b")]
    wire.replies["/"] = lambda: (200, f"<ListMultipartUploadsResult>{pages.pop(0)}</ListMultipartUploadsResult>")
    assert [upload.key for upload in uploads(S3, keys(endpoint_url=wire.url)).list()] == ["a", "b"]
    assert "key-marker=xcom%2Fa" in wire.last.target
    assert "upload-id-marker=a" in wire.last.target


def test_a_google_account_signs_for_itself(wire: Recorder, key: dict[str, Any]) -> None:
    """No token service is asked; who pays travels in the header."""
    wire.replies["/"] = NONE
    connection = conn(keyfile_dict=key, endpoint_url=wire.url, quota_project_id="payer")
    assert list(uploads("gs://my_conn@bucket/xcom", connection).list()) == []
    assert wire.last.target.startswith("/bucket?uploads&prefix=xcom%2F")
    assert wire.last.headers["x-goog-user-project"] == "payer"
    assert issuer(wire) == key["client_email"]
    assert len(wire.requests) == 1


@pytest.mark.parametrize(("url", "code"), [(S3, "aws"), ("gs://my_conn@bucket/xcom", "gcs")])
@pytest.mark.parametrize(
    ("status", "error"), [(403, AccessDeniedError), (501, StoreError), (503, StoreUnavailableError)], ids=str
)
def test_what_the_store_refuses_is_an_error_of_ours(
    wire: Recorder,
    key: dict[str, Any],
    url: str,
    code: str,
    status: int,
    error: type[StoreError],
) -> None:
    """With what to do about a missing right; a server that is busy is asked again."""
    wire.replies["/"] = (status, "<Error><Code>Because</Code><Message>so</Message></Error>")
    connection = keys(endpoint_url=wire.url) if code == "aws" else conn(keyfile_dict=key, endpoint_url=wire.url)
    opened = uploads(url, connection)
    for request in (lambda: list(opened.list()), lambda: opened.abort(Upload("k", "id", None))):  # type: ignore[arg-type]
        with pytest.raises(StoreError) as caught:
            request()
        assert type(caught.value) is error
        assert "Because" in str(caught.value)
        assert (f"xcargo policy {code}" in str(caught.value)) is (status == 403)
    assert len(wire.requests) == (6 if status == 503 else 2)


@pytest.mark.parametrize(("profile", "error"), [("", StoreUnavailableError), ("gone", StoreError)])
def test_no_answer_is_told_from_a_wrong_setting(
    monkeypatch: pytest.MonkeyPatch, profile: str, error: type[StoreError]
) -> None:
    """Nobody listens; a profile that is nowhere."""
    set_variables(monkeypatch, {"AWS_PROFILE": profile} if profile else {})
    with pytest.raises(StoreError) as caught:
        list(uploads(S3, keys(endpoint_url="http://127.0.0.1:9")).list())
    assert type(caught.value) is error


@pytest.mark.parametrize(
    ("rule", "days"),
    [
        ({"action": {"type": "AbortIncompleteMultipartUpload"}, "condition": {"age": 7}}, 7),
        ({"action": {"type": "AbortIncompleteMultipartUpload"}, "condition": {"age": 3, "matchesPrefix": ["x"]}}, 3),
        ({"action": {"type": "AbortIncompleteMultipartUpload"}, "condition": {"age": 3, "matchesPrefix": ["y"]}}, None),
        ({"action": {"type": "Delete"}, "condition": {"age": 7}}, None),
    ],
)
def test_googles_rule(wire: Recorder, key: dict[str, Any], rule: Any, days: int | None) -> None:
    """One that holds for all keys below the root."""
    wire.replies["/storage/v1/b/bucket"] = {"lifecycle": {"rule": [rule]}}
    connection = conn(keyfile_dict=key, endpoint_url=wire.url)
    assert uploads("gs://my_conn@bucket/xcom", connection).rule_days() == days
