"""Signed URLs name the object that is meant, whatever its key is, and come only from credentials that can sign here."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote, urlsplit

import pytest

from tests.conftest import Connection
from tests.unit.conftest import google_key
from xcargo.airflow.connections import access_of
from xcargo.model.root import Root
from xcargo.stores.base import Limits
from xcargo.stores.client import Client
from xcargo.stores.object_store import ObjectStore
from xcargo.stores.signed import Method, _s3, _Wanted, signed_url

KEY = "a b/2026-11-25T00%3A00+00/ü=1~1"
LIFE = timedelta(seconds=60)


def never(*_: Any) -> str:
    raise AssertionError("obstore is not asked")


def test_azures_names_the_object_and_the_right() -> None:
    """One blob, one right. (That the service takes it is shown by the tests of stores and retries.)"""
    root = Root.parse("az://my-container/xcom")
    config = {"account_name": "mine"}
    for method, right in (("GET", "r"), ("HEAD", "r"), ("PUT", "cw"), ("DELETE", "d")):
        url = signed_url(root, config, {"access_key": "c2VjcmV0"}, never, method, KEY, LIFE)  # type: ignore[arg-type]
        assert url is not None
        assert unquote(urlsplit(url).path) == f"/my-container/xcom/{KEY}"
        query = parse_qs(urlsplit(url).query)
        assert (query["sp"], query["sr"]) == ([right], ["b"])
    assert "c2VjcmV0" not in url


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_googles_names_the_object_and_its_signature_fits(method: Method) -> None:
    """Held against the service's own rules, since its emulator looks at no signature."""
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    root = Root.parse("gs://conn@my-bucket/xcom")
    connection = Connection({"conn_type": "google_cloud_platform", "extra": {"keyfile_dict": google_key()}})
    signed = Client(root, access_of(root, lambda _: connection), Limits())._signed(method, KEY, LIFE)
    assert signed is not None
    url = urlsplit(signed)
    assert (url.netloc, unquote(url.path)) == ("storage.googleapis.com", f"/my-bucket/xcom/{KEY}")
    query, _, signature = url.query.partition("&X-Goog-Signature=")
    told = dict(parse_qsl(query))
    assert (told["X-Goog-SignedHeaders"], told["X-Goog-Expires"]) == ("host", "60")
    request = f"{method}\n{url.path}\n{query}\nhost:{url.netloc}\n\nhost\nUNSIGNED-PAYLOAD"
    scope = told["X-Goog-Credential"].partition("/")[2]
    digest = hashlib.sha256(request.encode()).hexdigest()
    text = "\n".join(("GOOG4-RSA-SHA256", told["X-Goog-Date"], scope, digest))
    key: Any = load_pem_private_key(google_key()["private_key"].encode(), None)
    key.public_key().verify(bytes.fromhex(signature), text.encode(), PKCS1v15(), SHA256())


EXAMPLE = {"access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}


def test_s3s_signature_is_that_of_amazons_own_example() -> None:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html gives URL and signature."""
    config = {"endpoint": "https://examplebucket.s3.amazonaws.com", "virtual_hosted_style_request": True}
    root, now = Root.parse("s3://examplebucket"), datetime(2013, 5, 24, tzinfo=timezone.utc)
    url = _s3(_Wanted(root, "test.txt", "GET", timedelta(days=1), ""), config, EXAMPLE, now)
    assert url == (
        "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256"
        "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
        "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )


@pytest.mark.parametrize(
    ("extra", "place"),
    [
        ({"region_name": "eu-north-1"}, "https://my-bucket.s3.eu-north-1.amazonaws.com/xcom/"),
        ({"endpoint_url": "https://minio.example:443/s3/"}, "https://minio.example/s3/my-bucket/xcom/"),
        ({"endpoint_url": "http://10.0.0.1:9000"}, "http://10.0.0.1:9000/my-bucket/xcom/"),
        (
            {"endpoint_url": "https://s.example", "config_kwargs": {"s3": {"addressing_style": "virtual"}}},
            "https://my-bucket.s.example/xcom/",
        ),
        ({"config_kwargs": {"s3": {"addressing_style": "path"}}}, "https://s3.us-east-1.amazonaws.com/my-bucket/xcom/"),
    ],
)
def test_s3s_names_the_object_as_obstore_does(extra: dict[str, Any], place: str) -> None:
    """The same place and the same signed scope, for each way in which a bucket is addressed; and a session's token."""
    fields = {
        "conn_type": "aws",
        "login": "key",
        "password": "secret",
        "extra": {"aws_session_token": "a/b+c", **extra},
    }
    root = Root.parse("s3://conn@my-bucket/xcom")
    store = ObjectStore(root, access_of(root, lambda _: Connection(fields)), Limits())
    ours, theirs = (urlsplit(store.signed_url(KEY, 60, name) or "") for name in ("attachment", ""))
    assert ours._replace(query="").geturl().startswith(place)
    assert unquote(ours.path) == unquote(theirs.path)
    told, others = (parse_qs(url.query) for url in (ours, theirs))
    assert told.pop("response-content-disposition") == ["attachment"]
    assert told["X-Amz-Security-Token"] == ["a/b+c"]
    assert told["X-Amz-Credential"][0].split("/")[2:] == others["X-Amz-Credential"][0].split("/")[2:]
    assert told.keys() == others.keys()


@pytest.mark.parametrize(
    ("root", "config"),
    [
        ("gs://b/x", {}),
        ("gs://b/x", {"service_account_key": json.dumps({**google_key(), "disable_oauth": True})}),
        ("az://b/x", {"account_name": "mine"}),
        ("s3://b/x", {"skip_signature": True}),
    ],
)
def test_what_cannot_sign_gives_none(root: str, config: dict[str, Any]) -> None:
    """Google without a key, an emulator's, identities, nobody."""
    assert signed_url(Root.parse(root), config, {}, never, "GET", KEY, LIFE) is None


def test_a_token_of_the_connections_own_is_handed_to_nobody() -> None:
    """It opens more than the object, and for longer: no URL for others is made of it."""
    root = Root.parse("az://conn@my-container/xcom")
    connection = Connection({"conn_type": "wasb", "login": "mine", "extra": {"sas_token": "sv=1&sp=racwdl&sig=secret"}})
    store = ObjectStore(root, access_of(root, lambda _: connection), Limits())
    assert store.signed_url(KEY, 60) is None
    connection = Connection({"conn_type": "wasb", "login": "mine", "password": "c2VjcmV0"})
    store = ObjectStore(root, access_of(root, lambda _: connection), Limits())
    assert "sig=" in (store.signed_url(KEY, 60) or "")


def test_a_url_that_does_not_tell_who_pays_is_not_made() -> None:
    """What a connection says by a header is not in a URL."""
    root = Root.parse("gs://conn@my-bucket/xcom")
    for project in ({}, {"quota_project_id": "payer"}):
        fields = {"conn_type": "google_cloud_platform", "extra": {"keyfile_dict": google_key(), **project}}
        store = ObjectStore(root, access_of(root, lambda _, fields=fields: Connection(fields)), Limits())  # type: ignore[misc]
        assert (store.signed_url(KEY, 60) is None) == bool(project)
