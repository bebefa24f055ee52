"""Roles, profiles and the official hook: real STS calls against moto on loopback, the outcome seen on the wire."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.unit.airflow.connection_kit import (
    SECRET,
    Connection,
    Recorder,
    access,
    put,
    recorder,
    seconds_left,
    set_variables,
)
from xcargo.errors import AccessDeniedError, ConfigurationError, StoreUnavailableError

pytest.importorskip("airflow.providers.amazon")
moto_server = pytest.importorskip("moto.server")

pytestmark = [
    pytest.mark.usefixtures("bare"),
    pytest.mark.servers,
    # Airflow and its providers, not this product.
    pytest.mark.filterwarnings("default"),
]

URL = "s3://my_conn@bucket/xcom"
ROLE = "arn:aws:iam::123456789012:role/xcom"


@pytest.fixture(scope="module")
def sts() -> Iterator[str]:
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield "http://{}:{}".format(*server.get_host_and_port())
    finally:
        server.stop()


def role(sts: str, s3: str, **extra: Any) -> Connection:
    """A connection that assumes a role at ``sts`` and uses it at ``s3``."""
    services = {"sts": {"endpoint_url": sts}, "s3": {"endpoint_url": s3}}
    config = {"retries": {"max_attempts": 0}, "connect_timeout": 2}
    fields = {"region_name": "eu-west-1", "role_arn": ROLE, "service_config": services, "config_kwargs": config}
    return Connection(login="CONNKEY", password=SECRET, extra={**fields, **extra})


def profiles(home: Path) -> None:
    (home / ".aws").mkdir()
    (home / ".aws" / "credentials").write_text("[team]\naws_access_key_id=PROFILEKEY\naws_secret_access_key=x\n")
    (home / ".aws" / "config").write_text(
        "[profile team]\nregion=eu-south-1\n"
        f"[profile roaming]\nrole_arn={ROLE}\nsource_profile=team\nregion=eu-south-2\n"
    )


def test_assume_role(sts: str, wire: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The role's temporary key and token sign, not the connection's own; the hook does not look the connection up."""
    sdk = pytest.importorskip("airflow.sdk")
    described = {"conn_type": "aws", "login": "CONNKEY", "password": "x", "extra": role(sts, wire.url).extra}
    monkeypatch.setenv("AIRFLOW_CONN_MY_CONN", json.dumps(described))
    connection = sdk.Connection.get("my_conn")
    monkeypatch.delenv("AIRFLOW_CONN_MY_CONN")
    put(URL, connection)
    assert wire.last.headers["x-amz-security-token"]
    assert signer(wire) == ("ASIA", "eu-west-1")


def signer(wire: Recorder) -> tuple[str, str]:
    """How the key that signed the last request begins, and the region that it is of."""
    key, _, region, *_ = wire.last.headers["authorization"].partition("Credential=")[2].split("/")
    return (key[:4] if key.startswith("ASIA") else key), region


def test_whose_keys_sign(bare: Path, sts: str, wire: Recorder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A token file (IAM roles for service accounts, by the connection); a profile, a role in one; boto's chain."""
    profiles(bare)
    (tmp_path / "token").write_text("web-identity")
    web_identity = role(
        sts,
        wire.url,
        assume_role_method="assume_role_with_web_identity",
        assume_role_with_web_identity_federation="file",
        assume_role_with_web_identity_token_file=str(tmp_path / "token"),
    )
    web_identity.login = web_identity.password = None
    put(URL, web_identity)
    assert signer(wire) == ("ASIA", "eu-west-1")

    profile = Connection(extra={"profile_name": "team", "endpoint_url": wire.url})
    put(URL, profile)
    assert signer(wire) == ("PROFILEKEY", "eu-south-1")
    credentials = access(URL, profile).credentials
    assert credentials is not None
    assert 890 < seconds_left(credentials()["expires_at"]) <= 900  # keys without an end are asked for again in time

    variables = {"AWS_PROFILE": "roaming", "AWS_ENDPOINT_URL_STS": sts, "AWS_ENDPOINT_URL_S3": wire.url}
    with monkeypatch.context() as environment:
        set_variables(environment, variables)
        put("s3://bucket/xcom")
    assert signer(wire) == ("ASIA", "eu-south-2")

    set_variables(monkeypatch, {"AWS_ACCESS_KEY_ID": "ENVKEY", "AWS_SECRET_ACCESS_KEY": "x"})
    put(URL, Connection(extra={"endpoint_url": wire.url, "region_name": "eu-west-1"}))
    assert signer(wire) == ("ENVKEY", "eu-west-1")


@pytest.mark.parametrize(("duration", "is_renewed"), [(900, True), (3600, False)])
def test_temporary_credentials_are_renewed_near_their_end(sts: str, duration: int, is_renewed: bool) -> None:
    """They carry STS's expiry; an hour's are kept, those within boto's window of renewal are renewed when asked."""
    connection = role(sts, "http://127.0.0.1:1", assume_role_kwargs={"DurationSeconds": duration})
    credentials = access(URL, connection).credentials
    assert credentials is not None
    first, second = credentials(), credentials()
    assert duration - 300 < seconds_left(first["expires_at"]) <= duration
    assert (first["access_key_id"] != second["access_key_id"]) is is_renewed


def temporary_keys() -> tuple[int, str]:
    """STS's answer, with keys that last for two minutes."""
    end = datetime.now(timezone.utc) + timedelta(minutes=2)
    return 200, (
        "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIAKEY</AccessKeyId>"
        f"<SecretAccessKey>x</SecretAccessKey><SessionToken>t</SessionToken><Expiration>{end.isoformat()}</Expiration>"
        "</Credentials></AssumeRoleResult></AssumeRoleResponse>"
    )


def test_a_renewal_that_fails_says_why() -> None:
    """When STS is gone by the time credentials end, the error is ours and names the connection."""
    with recorder() as record:
        record.replies["/"] = temporary_keys
        credentials = access(URL, role(record.url, "http://127.0.0.1:1")).credentials
        assert credentials is not None
    with pytest.raises(StoreUnavailableError, match="Connection 'my_conn'"):
        credentials()


def test_a_role_that_is_refused() -> None:
    """STS's refusal is an AccessDeniedError naming the connection, raised before the first object; moto grants all."""
    refusal = "<Code>AccessDenied</Code><Message>not authorized to perform: sts:AssumeRole</Message>"
    with recorder() as sts:
        sts.replies["/"] = (403, f"<ErrorResponse><Error><Type>Sender</Type>{refusal}</Error></ErrorResponse>")
        with pytest.raises(AccessDeniedError, match=r"'my_conn'.*sts:AssumeRole") as caught:
            access(URL, role(sts.url, "http://127.0.0.1:1"))
    assert SECRET not in str(caught.value)


SAML = {"role_arn": ROLE, "assume_role_method": "assume_role_with_saml"}


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ({"profile_name": "nobody"}, "nobody"),
        (SAML, "assume_role_with_saml"),
        (SAML | {"assume_role_with_saml": {"principal_arn": "p", "idp_auth_method": "pigeon"}}, "pigeon"),
        ({"role_arn": ROLE, "assume_role_method": "assume_role_with_web_identity"}, "federation"),
        ({}, "gives no AWS credentials"),
    ],
)
def test_what_the_hook_cannot_use(extra: dict[str, Any], says: str) -> None:
    """What the official hook refuses ends as a ConfigurationError that names the connection and its reason."""
    with pytest.raises(ConfigurationError, match=says) as caught:
        access(URL, Connection(extra={"region_name": "eu-west-1", **extra}))
    assert "my_conn" in str(caught.value)
