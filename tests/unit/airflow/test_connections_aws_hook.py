"""Roles, profiles and the official hook: real STS calls against moto on loopback, the outcome seen on the wire."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.unit.airflow.connection_kit import (
    SECRET,
    Connection,
    Recorder,
    access,
    recorder,
    seconds_left,
    store,
)
from xcargo.errors import AccessDeniedError, ConfigurationError, MissingDependencyError, StoreUnavailableError

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


def role(sts: str, wire: Recorder, **extra: Any) -> Connection:
    """A connection that assumes a role at ``sts`` and uses it at ``wire``."""
    services = {"sts": {"endpoint_url": sts}, "s3": {"endpoint_url": wire.url}}
    fields = {"region_name": "eu-west-1", "role_arn": ROLE, "service_config": services, **extra}
    return Connection(login="CONNKEY", password=SECRET, extra=fields)


def put(connection: Connection) -> None:
    store(URL, connection).put("key", [b"value"])


def test_assume_role(sts: str, wire: Recorder) -> None:
    """The role's temporary key and token sign the requests, not the connection's own key."""
    put(role(sts, wire, assume_role_kwargs={"RoleSessionName": "xcom"}))
    assert "Credential=ASIA" in wire.last.headers["authorization"]
    assert "/eu-west-1/s3/" in wire.last.headers["authorization"]
    assert wire.last.headers["x-amz-security-token"]


def test_assume_role_with_web_identity(sts: str, wire: Recorder, tmp_path: Path) -> None:
    """A token file stands in for keys (IAM roles for service accounts, by the connection)."""
    (tmp_path / "token").write_text("web-identity")
    connection = role(
        sts,
        wire,
        assume_role_method="assume_role_with_web_identity",
        assume_role_with_web_identity_federation="file",
        assume_role_with_web_identity_token_file=str(tmp_path / "token"),
    )
    connection.login = connection.password = None
    put(connection)
    assert "Credential=ASIA" in wire.last.headers["authorization"]


def test_temporary_credentials_are_renewed(sts: str, wire: Recorder) -> None:
    """Credentials carry STS's expiry, and being asked again near it gives new ones."""
    found = access(URL, role(sts, wire, assume_role_kwargs={"DurationSeconds": 900}))
    assert found.credentials is not None
    first, second = found.credentials(), found.credentials()
    assert 600 < seconds_left(first["expires_at"]) <= 900
    # 900 s are within boto's window of renewal, so each answer is a fresh one.
    assert first["access_key_id"] != second["access_key_id"]


def test_a_renewal_that_fails_says_why(wire: Recorder) -> None:
    """When STS is gone by the time credentials end, the error is ours and names the connection."""
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    options = {"retries": {"max_attempts": 0}, "connect_timeout": 2}
    try:
        sts = "http://{}:{}".format(*server.get_host_and_port())
        found = access(URL, role(sts, wire, config_kwargs=options))
    finally:
        server.stop()
    assert found.credentials is not None
    found.credentials._read.args[0]._expiry_time = datetime.now(timezone.utc)  # an hour later
    with pytest.raises(StoreUnavailableError, match="Connection 'my_conn'"):
        found.credentials()


def test_credentials_that_last_are_kept(sts: str, wire: Recorder) -> None:
    """An hour's credentials are asked of STS once."""
    found = access(URL, role(sts, wire, assume_role_kwargs={"DurationSeconds": 3600}))
    assert found.credentials is not None
    assert found.credentials() == found.credentials()


def test_a_profile_of_the_connection(bare: Path, wire: Recorder) -> None:
    """``profile_name`` takes keys and region of that profile, whatever the environment holds."""
    _profiles(bare)
    put(Connection(extra={"profile_name": "team", "endpoint_url": wire.url}))
    assert "Credential=PROFILEKEY/" in wire.last.headers["authorization"]
    assert "/eu-south-1/s3/" in wire.last.headers["authorization"]


def _profiles(home: Path) -> None:
    (home / ".aws").mkdir()
    (home / ".aws" / "credentials").write_text(
        "[team]\naws_access_key_id=PROFILEKEY\naws_secret_access_key=x\n"
        "[default]\naws_access_key_id=DEFAULTKEY\naws_secret_access_key=x\n"
    )
    (home / ".aws" / "config").write_text("[profile team]\nregion=eu-south-1\n")


def test_keys_without_an_end_are_asked_again_in_time(bare: Path, wire: Recorder) -> None:
    """Credentials of which boto knows no expiry are taken for a quarter of an hour."""
    _profiles(bare)
    found = access(URL, Connection(extra={"profile_name": "team", "endpoint_url": wire.url}))
    assert found.credentials is not None
    assert 890 < seconds_left(found.credentials()["expires_at"]) <= 900


def test_a_connection_without_keys_uses_the_default_chain(wire: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that only names endpoint and region leaves the credentials to boto's chain."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ENVKEY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    put(Connection(extra={"endpoint_url": wire.url, "region_name": "eu-west-1"}))
    assert "Credential=ENVKEY/" in wire.last.headers["authorization"]


def test_a_role_in_a_profile_of_the_environment(
    bare: Path, sts: str, wire: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a connection, AWS_PROFILE may name a profile that assumes a role; boto3 does it."""
    _profiles(bare)
    with (bare / ".aws" / "config").open("a") as file:
        file.write(f"[profile roaming]\nrole_arn={ROLE}\nsource_profile=team\nregion=eu-south-2\n")
    monkeypatch.setenv("AWS_PROFILE", "roaming")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", wire.url)
    store("s3://bucket/xcom").put("key", [b"value"])
    assert "Credential=ASIA" in wire.last.headers["authorization"]
    assert "/eu-south-2/s3/" in wire.last.headers["authorization"]


def test_a_role_that_is_refused(wire: Recorder) -> None:
    """STS's refusal is an AccessDeniedError naming the connection, raised before the first object."""
    with recorder() as refusing:
        # moto grants every role; this is STS's answer to one who may not.
        refusal = "<Code>AccessDenied</Code><Message>not authorized to perform: sts:AssumeRole</Message>"
        text = f"<ErrorResponse><Error><Type>Sender</Type>{refusal}</Error></ErrorResponse>"
        refusing.replies["/"] = (403, text)
        with pytest.raises(AccessDeniedError, match=r"Connection 'my_conn'.*sts:AssumeRole") as caught:
            access(URL, role(refusing.url, wire))
    assert SECRET not in str(caught.value)


def test_an_sts_that_is_not_there(wire: Recorder) -> None:
    """An unreachable STS is a StoreUnavailableError: another try may succeed."""
    options = {"retries": {"max_attempts": 0}, "connect_timeout": 2}
    with pytest.raises(StoreUnavailableError, match="my_conn"):
        access(URL, role("http://127.0.0.1:1", wire, config_kwargs=options))


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ({"profile_name": "nobody"}, "nobody"),
        ({"role_arn": ROLE, "assume_role_method": "assume_role_with_saml"}, "assume_role_with_saml"),
        (
            {
                "role_arn": ROLE,
                "assume_role_method": "assume_role_with_saml",
                "assume_role_with_saml": {"principal_arn": "p", "idp_auth_method": "carrier_pigeon"},
            },
            "carrier_pigeon",
        ),
        ({"role_arn": ROLE, "assume_role_method": "assume_role_with_web_identity"}, "federation"),
        ({}, "gives no AWS credentials"),
    ],
)
def test_what_the_hook_cannot_use(extra: dict[str, Any], says: str) -> None:
    """What the official hook refuses ends as a ConfigurationError that names the connection and its reason."""
    with pytest.raises(ConfigurationError, match=says) as caught:
        access(URL, Connection(extra={"region_name": "eu-west-1", **extra}))
    assert "my_conn" in str(caught.value)


def test_a_connection_of_airflow_itself(sts: str, wire: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow's Connection class serves the hook, which does not look it up a second time."""
    sdk = pytest.importorskip("airflow.sdk")
    described = role(sts, wire)
    fields = {"conn_type": "aws", "login": "CONNKEY", "password": "x", "extra": described.extra}
    monkeypatch.setenv("AIRFLOW_CONN_MY_CONN", json.dumps(fields))
    connection = sdk.Connection.get("my_conn")
    monkeypatch.delenv("AIRFLOW_CONN_MY_CONN")
    put(connection)
    assert "Credential=ASIA" in wire.last.headers["authorization"]


def test_the_provider_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the Amazon provider a role ends in the install command."""
    monkeypatch.setitem(sys.modules, "airflow.providers.amazon.aws.hooks.base_aws", None)
    with pytest.raises(
        MissingDependencyError, match=r"'my_conn'.*Run: pip install 'airflow-provider-xcargo\[amazon\]'"
    ):
        access(URL, Connection(extra={"role_arn": ROLE}))
