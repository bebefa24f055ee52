"""An ``aws`` connection: what it gives the client, and what an S3 server sees."""

from __future__ import annotations

import ssl
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.servers import Server
from tests.unit.airflow.connection_kit import (
    SECRET,
    Connection,
    Recorder,
    access,
    options,
    put,
    put_and_get,
    recorder,
    set_variables,
    store,
)
from xcargo.errors import ConfigurationError, StoreError, StoreUnavailableError

pytestmark = pytest.mark.usefixtures("bare")

URL = "s3://my_conn@bucket/xcom"
HOSTILE = {
    "AWS_ACCESS_KEY_ID": "ENVKEY",
    "AWS_SECRET_ACCESS_KEY": "env-secret",
    "AWS_SESSION_TOKEN": "env-token",
    "AWS_REGION": "env-region-1",
    "AWS_DEFAULT_REGION": "env-region-2",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
    "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1",
    "AWS_ENDPOINT": "http://127.0.0.1:1",
    "AWS_SKIP_SIGNATURE": "true",
    "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
    "AWS_BUCKET": "env-bucket",
    "AWS_PROFILE": "nobody",
    "AWS_ROLE_ARN": "arn:aws:iam::1:role/env",
    "AWS_WEB_IDENTITY_TOKEN_FILE": "/nowhere/token",
}
KEYS = {"aws_access_key_id": "k", "aws_secret_access_key": "s"}
KMS = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "key-1", "BucketKeyEnabled": True}
KMS_OPTIONS = {"server_side_encryption": "aws:kms", "sse_kms_key_id": "key-1", "sse_bucket_key_enabled": True}
STORE = "http://store.test:9000"
AT_STORE = {"endpoint": STORE, "aws_endpoint_url_s3": STORE, "virtual_hosted_style_request": False}


def keys(**extra: Any) -> Connection:
    return Connection(login="CONNKEY", password=SECRET, extra=extra)


def s3(**options: Any) -> dict[str, Any]:
    return {"config_kwargs": {"s3": options}}


@pytest.mark.parametrize(
    ("connection", "expected"),
    [
        (keys(aws_session_token="t"), {"access_key_id": "CONNKEY", "secret_access_key": SECRET, "token": "t"}),
        (keys(), {"token": None, "skip_signature": False}),
        (Connection("s3", login="k", password="s"), {"access_key_id": "k", "secret_access_key": "s"}),
        (Connection(extra=KEYS), {"access_key_id": "k", "secret_access_key": "s"}),
        (
            Connection(extra={"session_kwargs": {**KEYS, "aws_session_token": "t", "region_name": "eu-south-1"}}),
            {"access_key_id": "k", "secret_access_key": "s", "token": "t", "region": "eu-south-1"},
        ),
        (Connection(extra={"config_kwargs": {"signature_version": "unsigned"}}), {"skip_signature": True}),
        (
            Connection(login="k\n", password="s\n", extra={"session_kwargs": {"aws_session_token": "t\n"}}),
            {"access_key_id": "k", "secret_access_key": "s", "token": "t"},
        ),
        (keys(region_name="eu-west-3"), {"region": "eu-west-3"}),
        (keys(config_kwargs={"region_name": "eu-west-2"}), {"region": "eu-west-2"}),
        (keys(), {"region": "us-east-1", "virtual_hosted_style_request": True}),
        (keys(endpoint_url=f"{STORE}/"), AT_STORE),
        (keys(host=STORE), AT_STORE),
        (keys(endpoint_url="http://127.0.0.1:1", service_config={"s3": {"endpoint_url": STORE}}), AT_STORE),
        (keys(endpoint_url=STORE, **s3(addressing_style="auto")), AT_STORE),
        (keys(endpoint_url=STORE, **s3(addressing_style="path")), AT_STORE),
        (
            keys(endpoint_url=STORE, **s3(addressing_style="virtual")),
            {"endpoint": "http://bucket.store.test:9000", "virtual_hosted_style_request": True},
        ),
        (Connection(host="minio", login="k", password="s", extra={"endpoint_url": STORE}), {"endpoint": STORE}),
        (keys(**s3(addressing_style="path")), {"virtual_hosted_style_request": False}),
        (keys(region_name="cn-north-1"), {"endpoint": "https://bucket.s3.cn-north-1.amazonaws.com.cn"}),
        (
            keys(config_kwargs={"use_dualstack_endpoint": True, "use_fips_endpoint": True}),
            {"endpoint": "https://bucket.s3-fips.dualstack.us-east-1.amazonaws.com"},
        ),
        (keys(**s3(use_accelerate_endpoint=True)), {"endpoint": "https://bucket.s3-accelerate.amazonaws.com"}),
        (keys(extra_args=KMS), KMS_OPTIONS),
        (keys(service_config={"s3": KMS}), KMS_OPTIONS),
        (
            keys(extra_args={"RequestPayer": "requester", "ChecksumAlgorithm": "SHA256"}),
            {"request_payer": "requester", "checksum_algorithm": "SHA256"},
        ),
        (keys(**s3(payload_signing_enabled=True)), {"unsigned_payload": False}),
        (
            keys(config_kwargs={"connect_timeout": 2, "read_timeout": 1.5}),
            {"connect_timeout": "2000ms", "read_timeout": "1500ms"},
        ),
        (keys(config_kwargs={"proxies": {"https": "proxy:3128"}}), {"proxy_url": "http://proxy:3128"}),
        (
            keys(endpoint_url=STORE, config_kwargs={"proxies": {"http": "http://me:pw@proxy:3128"}}),
            {"proxy_url": "http://me:pw@proxy:3128"},
        ),
        (keys(verify=False), {"allow_invalid_certificates": True}),
        (keys(verify="False"), {"allow_invalid_certificates": True}),
    ],
)
def test_what_a_connection_gives_the_client(connection: Connection, expected: dict[str, Any]) -> None:
    """Each field in each of its spellings, under the client's name."""
    assert options(URL, connection).items() >= expected.items()


@pytest.mark.parametrize("bucket", ["dotted.bucket", "Upper_case"])
def test_a_bucket_that_no_certificate_covers_is_in_the_path(bucket: str) -> None:
    """At AWS too, whatever the partition."""
    for region, domain in (("eu-west-1", None), ("cn-north-1", "https://s3.cn-north-1.amazonaws.com.cn")):
        made = options(f"s3://my_conn@{bucket}/x", keys(region_name=region))
        assert (made["virtual_hosted_style_request"], made.get("endpoint")) == (False, domain)


@pytest.mark.parametrize(
    ("variables", "connection", "expected"),
    [
        ({"AWS_DEFAULT_REGION": "eu-north-1"}, keys(), {"region": "eu-north-1"}),
        ({"AWS_REGION": "eu-north-1"}, keys(region_name="eu-west-3"), {"region": "eu-west-3"}),
        ({"AWS_ENDPOINT_URL": STORE}, keys(), AT_STORE),
        (
            {"AWS_ENDPOINT_URL_S3": STORE},
            keys(service_config={"s3": {"endpoint_url": None}}),
            {"endpoint": "https://bucket.s3.us-east-1.amazonaws.com"},
        ),
    ],
    ids=["region", "region-of-the-connection", "endpoint", "explicitly-aws"],
)
def test_the_environment_fills_gaps(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], connection: Connection, expected: dict[str, Any]
) -> None:
    """Region and endpoint of the environment count where the connection has none."""
    set_variables(monkeypatch, variables)
    assert options(URL, connection).items() >= expected.items()


# --- a real S3 server, which checks signatures


@pytest.mark.servers
def test_keys_hold_against_a_hostile_environment(s3_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys, endpoint, region and style of the connection hold against every variable that the client reads."""
    set_variables(monkeypatch, HOSTILE)
    put_and_get(s3_server.root, Connection(**s3_server.connection), "hostile")
    assert s3_server.raw_get("demo/hostile") == b"value"


@pytest.mark.servers
def test_a_profile_in_the_shared_files(s3_server: Server, bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a connection, keys in ~/.aws/credentials are read by boto3, and the region in ~/.aws/config too."""
    pytest.importorskip("boto3")
    login, password = s3_server.connection["login"], s3_server.connection["password"]
    (bare / ".aws").mkdir()
    (bare / ".aws" / "credentials").write_text(
        f"[default]\naws_access_key_id={login}\naws_secret_access_key={password}\n"
    )
    (bare / ".aws" / "config").write_text("[default]\nregion=eu-south-2\n")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint)
    put_and_get("s3://xcom/demo", None, "profile")
    assert options("s3://xcom/demo")["region"] == "eu-south-2"


# --- what goes over the wire


def test_what_reaches_the_wire(wire: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the connection's keys sign, or none, whatever is in the environment; upload arguments are headers."""
    set_variables(monkeypatch, HOSTILE)
    put(URL, keys(endpoint_url=wire.url, region_name="eu-west-3", extra_args={**KMS, "ChecksumAlgorithm": "SHA256"}))
    headers = wire.last.headers
    assert "Credential=CONNKEY/" in headers["authorization"]
    assert "/eu-west-3/s3/aws4_request" in headers["authorization"]
    assert "x-amz-security-token" not in headers
    assert "x-amz-checksum-sha256" in headers
    assert headers["x-amz-server-side-encryption"] == "aws:kms"
    assert headers["x-amz-server-side-encryption-aws-kms-key-id"] == "key-1"
    assert wire.last.target == "/bucket/xcom/key"
    put(URL, Connection(extra={"endpoint_url": wire.url, "config_kwargs": {"signature_version": "unsigned"}}))
    assert "authorization" not in wire.last.headers


def test_a_bucket_that_wants_a_checksum_says_how(wire: Recorder) -> None:
    """Object Lock refuses an object without one; the error names the field that sends it."""
    message = "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock"
    wire.replies["/bucket"] = (400, f"<Error><Code>InvalidRequest</Code><Message>{message}</Message></Error>")
    with pytest.raises(StoreError, match='"ChecksumAlgorithm": "SHA256"'):
        put(URL, keys(endpoint_url=wire.url))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    trustme = pytest.importorskip("trustme")
    ca = trustme.CA()
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    return path, context


@pytest.mark.parametrize("source", ["none", "verify", "AWS_CA_BUNDLE"])
def test_a_private_authority_has_to_be_named(
    authority: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    """It is refused by default, and accepted by ``verify``, before AWS_CA_BUNDLE, or by AWS_CA_BUNDLE."""
    path, context = authority
    with recorder(context) as wire:
        connection = keys(endpoint_url=wire.url, **({"verify": str(path)} if source == "verify" else {}))
        if source != "none":
            monkeypatch.setenv("AWS_CA_BUNDLE", str(path) if source == "AWS_CA_BUNDLE" else "/nowhere.pem")
            put(URL, connection)
            assert wire.last.headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
        else:
            with pytest.raises(StoreUnavailableError):
                put(URL, connection, timeout_seconds=0.5)
            assert wire.requests == []


# --- no connection


def test_keys_of_a_container(wire: Recorder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a connection: the credentials of a pod (EKS), fetched with its token, and then those of variables."""
    reply = {"AccessKeyId": "PODKEY", "SecretAccessKey": "x", "Token": "pod-token"}
    wire.replies["/credentials"] = {**reply, "Expiration": "2999-01-01T00:00:00Z"}
    (tmp_path / "token").write_text("pod-identity")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{wire.url}/credentials")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "token"))
    set_variables(monkeypatch, {"AWS_ENDPOINT_URL": wire.url, "AWS_REGION": "eu-west-1"})
    put("s3://bucket/xcom")
    assert wire.requests[0].headers["authorization"] == "pod-identity"
    assert wire.last.headers["x-amz-security-token"] == "pod-token"
    variables = {"AWS_ACCESS_KEY_ID": "ENVKEY", "AWS_SECRET_ACCESS_KEY": "x", "AWS_SESSION_TOKEN": "env-token"}
    set_variables(monkeypatch, variables)
    put("s3://bucket/xcom")
    assert "Credential=ENVKEY/" in wire.last.headers["authorization"]
    assert wire.last.headers["x-amz-security-token"] == "env-token"


def test_a_region_alone_is_no_profile(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ~/.aws/config with only a region gives the region, and does not ask for boto3."""
    monkeypatch.setitem(sys.modules, "boto3", None)
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
    (bare / ".aws").mkdir()
    (bare / ".aws" / "config").write_text("[default]\nregion = eu-south-2\n")
    made = access("s3://bucket/xcom")
    assert (made.config["region"], made.credentials) == ("eu-south-2", None)


def test_a_bundle_of_the_environment_is_of_no_concern_to_http(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing AWS_CA_BUNDLE is an error over TLS alone."""
    monkeypatch.setenv("AWS_CA_BUNDLE", "/nowhere/ca.pem")
    with pytest.raises(ConfigurationError, match="AWS_CA_BUNDLE"):
        access(URL, keys(endpoint_url="https://store.test"))
    assert store(URL, keys(endpoint_url=STORE))
