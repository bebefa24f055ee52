"""Signed URLs read one object alone, and come only from credentials that can sign here."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import pytest

from tests.conftest import Connection
from tests.servers import Server
from tests.unit.conftest import google_key
from xcargo.airflow.connections import access_of
from xcargo.model.coordinate import Coordinate
from xcargo.model.root import Root
from xcargo.stores.base import Limits
from xcargo.stores.object_store import ObjectStore

KEY = Coordinate("a b", "2026-11-25T00:00+00", "ü", "x=1").object_key(suffix=".bin")
OLD_KEY = "a%20b/2026-11-25T00%3A00/t/k~0123456789abcdef"
GOOGLE = {"conn_type": "google_cloud_platform", "extra": {"keyfile_dict": google_key()}}
AZURE = {"conn_type": "wasb", "login": "mine", "password": "c2VjcmV0"}
AWS = {"conn_type": "aws", "login": "id", "password": "c2VjcmV0", "extra": {"region_name": "eu-north-1"}}


def signed(url: str, fields: dict[str, Any], key: str = KEY) -> str | None:
    """A signed URL of a connection with these fields."""
    root = Root.parse(url)
    return ObjectStore(root, access_of(root, lambda _: Connection(fields)), Limits()).signed_url(key, 60)


@pytest.mark.servers
@pytest.mark.parametrize("kind", ["s3", "azure"])
def test_a_signed_url_reads_its_object_alone(kind: str, request: pytest.FixtureRequest) -> None:
    """Whoever has it reads that object, without any credentials, and no other object by it."""
    server: Server = request.getfixturevalue(f"{kind}_server")
    root = Root.parse(server.root + "/signed")
    store = ObjectStore(root, access_of(root, lambda _: Connection(server.connection)), Limits())
    url = store.signed_url(KEY, 60)
    assert url is not None
    store.put(KEY, [b"payload"])
    store.put(KEY + "2", [b"another"])
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=10) as answer:
        assert answer.read() == b"payload"
    with pytest.raises(urllib.error.HTTPError):
        opener.open(url.replace(".bin", ".bin2"), timeout=10)


@pytest.mark.parametrize(
    ("root", "fields", "begins"),
    [
        ("s3://c@bucket/x", AWS, "https://bucket.s3.eu-north-1.amazonaws.com/x/"),
        ("gs://c@bucket/x", GOOGLE, "https://storage.googleapis.com/bucket/x/"),
        ("az://c@box/x", AZURE, "https://mine.blob.core.windows.net/box/x/"),
    ],
)
def test_keys_of_an_account_sign_without_a_request(root: str, fields: dict[str, Any], begins: str) -> None:
    """The URL names the object as it is called, for a minute, and holds no secret."""
    url = signed(root, fields)
    assert url is not None
    assert url.startswith(f"{begins}{KEY}?")
    assert "c2VjcmV0" not in url
    assert "PRIVATE" not in url


@pytest.mark.parametrize(
    ("root", "fields", "key"),
    [
        ("gs://c@b/x", {"conn_type": "google_cloud_platform"}, KEY),
        ("gs://c@b/x", {**GOOGLE, "extra": {"keyfile_dict": {**google_key(), "disable_oauth": True}}}, KEY),
        ("gs://c@b/x", {**GOOGLE, "extra": {**GOOGLE["extra"], "quota_project_id": "payer"}}, KEY),  # type: ignore[dict-item]
        (
            "az://c@b/x",
            {"conn_type": "wasb", "login": "mine", "extra": {"sas_token": "sv=1&sp=racwdl&sig=x"}},
            KEY,
        ),
        ("s3://c@b/x", {"conn_type": "aws", "extra": {"config_kwargs": {"signature_version": "unsigned"}}}, KEY),
        ("gs://c@b/x", GOOGLE, OLD_KEY),
        ("az://c@b/x", AZURE, OLD_KEY),
    ],
    ids=["identity", "emulator", "payer in a header", "SAS token", "unsigned", "old key on Google", "old key on Azure"],
)
def test_what_cannot_sign_or_would_give_more_away_gives_none(root: str, fields: dict[str, Any], key: str) -> None:
    """A connection's own SAS token opens more than the object, and for longer: it is handed to nobody."""
    assert signed(root, json.loads(json.dumps(fields)), key) is None
