"""Signed URLs name the object that is meant, whatever its key is, and come only from credentials that can sign here."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from tests.conftest import Connection
from xcargo.airflow.connections import access_of
from xcargo.root import Root
from xcargo.stores.base import Limits
from xcargo.stores.objectstore import ObjectStore
from xcargo.stores.signed import signed_url

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


@pytest.mark.parametrize(
    ("root", "config"),
    [
        ("gs://b/x", {}),
        ("az://b/x", {"account_name": "mine"}),
        ("s3://b/x", {"skip_signature": True}),
    ],
)
def test_what_cannot_sign_gives_none(root: str, config: dict[str, Any]) -> None:
    """Google, identities, nobody."""
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
