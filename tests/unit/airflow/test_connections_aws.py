"""An ``aws`` connection, from its fields to what an S3 server sees."""

from __future__ import annotations

import json
import ssl
import subprocess
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
    from_json,
    recorder,
    store,
)
from xcargo.errors import (
    AccessDeniedError,
    ConfigurationError,
    MissingDependencyError,
    StoreUnavailableError,
)

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


def keys(**extra: Any) -> Connection:
    return Connection(login="CONNKEY", password=SECRET, extra=extra)


def put(url: str = URL, connection: Any = None) -> None:
    store(url, connection).put("key", [b"value"])


# --- a real S3 server, which checks signatures


@pytest.mark.servers
@pytest.mark.parametrize(
    "form",
    [
        lambda c, e: c,
        lambda c, e: {**c, "extra": {**c["extra"], "endpoint_url": "http://127.0.0.1:1", **_service(e)}},
        lambda c, e: {**c, "extra": {"host": e}},
        lambda c, e: {"conn_type": "s3", **{k: v for k, v in c.items() if k != "conn_type"}},
        lambda c, e: {
            "conn_type": "aws",
            "extra": {"aws_access_key_id": c["login"], "aws_secret_access_key": c["password"], "endpoint_url": e},
        },
        lambda c, e: {
            "conn_type": "aws",
            "extra": {
                "session_kwargs": {"aws_access_key_id": c["login"], "aws_secret_access_key": c["password"]},
                "endpoint_url": e,
            },
        },
    ],
    ids=["login", "endpoint-of-the-service-wins", "legacy-host", "legacy-type", "extra-keys", "session_kwargs"],
)
def test_keys_reach_a_server_that_checks_them(s3_server: Server, form: Any) -> None:
    """Each way of writing keys and endpoint puts and gets an object."""
    opened = store(s3_server.root, from_json(form(s3_server.connection, s3_server.endpoint)))
    opened.put("a/b", [b"value"])
    assert bytes(opened.get("a/b")) == b"value"
    assert s3_server.raw_get("demo/a/b") == b"value"


def _service(endpoint: str) -> dict[str, Any]:
    return {"service_config": {"s3": {"endpoint_url": endpoint}}}


@pytest.mark.servers
def test_a_hostile_environment_changes_nothing(s3_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys, endpoint, region and style of the connection hold against every variable that the client reads."""
    for name, value in HOSTILE.items():
        monkeypatch.setenv(name, value)
    opened = store(s3_server.root, from_json(s3_server.connection))
    opened.put("hostile", [b"value"])
    assert s3_server.raw_get("demo/hostile") == b"value"


@pytest.mark.servers
def test_a_wrong_secret_is_refused_without_being_shown(s3_server: Server) -> None:
    """A wrong secret ends as AccessDeniedError that names the connection, not the secret."""
    opened = store(s3_server.root, from_json({**s3_server.connection, "password": SECRET}))
    with pytest.raises(AccessDeniedError, match=s3_server.connection_id) as caught:
        opened.put("key", [b"value"])
    assert SECRET not in str(caught.value)


@pytest.mark.servers
def test_an_airflow_connection_of_the_environment(s3_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow's own Connection class serves as the stand-in does."""
    sdk = pytest.importorskip("airflow.sdk")
    monkeypatch.setenv(*next(iter(s3_server.env().items())))
    opened = store(s3_server.root, sdk.Connection.get(s3_server.connection_id))
    opened.put("airflow", [b"value"])
    assert s3_server.raw_get("demo/airflow") == b"value"


@pytest.mark.servers
def test_a_profile_in_the_shared_files(s3_server: Server, bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a connection, keys in ~/.aws/credentials are found by boto3, and the region in ~/.aws/config too."""
    pytest.importorskip("boto3")
    _write_profile(bare, s3_server.connection["login"], s3_server.connection["password"])
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint)
    opened = store("s3://xcom/demo")
    opened.put("profile", [b"value"])
    assert s3_server.raw_get("demo/profile") == b"value"
    assert access("s3://xcom/demo").config["region"] == "us-east-1"


def _write_profile(home: Path, key: str, secret: str, name: str = "default") -> None:
    folder = home / ".aws"
    folder.mkdir(exist_ok=True)
    (folder / "credentials").write_text(f"[{name}]\naws_access_key_id={key}\naws_secret_access_key={secret}\n")
    section = name if name == "default" else f"profile {name}"
    (folder / "config").write_text(f"[{section}]\nregion=us-east-1\n")


# --- what goes over the wire


def test_the_environments_session_token_stays_out(wire: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys of the connection are signed with alone: the environment's token is not sent along."""
    for name, value in HOSTILE.items():
        monkeypatch.setenv(name, value)
    put(connection=keys(endpoint_url=wire.url))
    assert "x-amz-security-token" not in wire.last.headers
    assert "Credential=CONNKEY/" in wire.last.headers["authorization"]


def test_a_session_token_of_the_connection_is_sent(wire: Recorder) -> None:
    """``aws_session_token`` goes with the keys."""
    put(connection=keys(endpoint_url=wire.url, aws_session_token="conn-token"))
    assert wire.last.headers["x-amz-security-token"] == "conn-token"


@pytest.mark.parametrize(
    ("extra", "variables", "region"),
    [
        ({"region_name": "eu-west-3"}, HOSTILE, "eu-west-3"),
        ({"config_kwargs": {"region_name": "eu-west-2"}}, {}, "eu-west-2"),
        ({}, {"AWS_DEFAULT_REGION": "eu-north-1"}, "eu-north-1"),
        ({}, {}, "us-east-1"),
    ],
    ids=["connection", "config_kwargs", "environment", "default"],
)
def test_region(
    wire: Recorder,
    monkeypatch: pytest.MonkeyPatch,
    extra: dict[str, Any],
    variables: dict[str, str],
    region: str,
) -> None:
    """The region is the connection's, else the environment's, else us-east-1."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    put(connection=keys(endpoint_url=wire.url, **extra))
    assert f"/{region}/s3/aws4_request" in wire.last.headers["authorization"]


def test_an_endpoint_of_the_environment_fills_the_gap(wire: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS_ENDPOINT_URL counts when the connection names no endpoint, also over http."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", wire.url)
    put(connection=keys())
    assert wire.last.target == "/bucket/xcom/key"


@pytest.mark.parametrize(
    ("style", "host", "target"),
    [
        (None, "store.test", "/bucket/xcom/key"),
        ("auto", "store.test", "/bucket/xcom/key"),
        ("path", "store.test", "/bucket/xcom/key"),
        ("virtual", "bucket.store.test", "/xcom/key"),
    ],
)
def test_addressing_style(wire: Recorder, style: str | None, host: str, target: str) -> None:
    """The bucket is in the path of an endpoint of one's own, and in the host name when the connection says so."""
    options = {"proxies": {"http": wire.url}, **({"s3": {"addressing_style": style}} if style else {})}
    put(connection=keys(endpoint_url="http://store.test/", config_kwargs=options))
    assert wire.last.target == f"http://{host}{target}"
    assert wire.last.headers["host"] == host


def test_a_proxy_of_the_environment(wire: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP_PROXY is used when the connection names no proxy, and NO_PROXY is heeded."""
    monkeypatch.setenv("HTTP_PROXY", wire.url)
    put(connection=keys(endpoint_url="http://store.test"))
    assert wire.last.target == "http://store.test/bucket/xcom/key"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    put(connection=keys(endpoint_url=wire.url))
    assert wire.last.target == "/bucket/xcom/key"


def test_unsigned(wire: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """``signature_version`` unsigned sends no credentials, not even the environment's."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ENVKEY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    put(connection=Connection(extra={"endpoint_url": wire.url, "config_kwargs": {"signature_version": "unsigned"}}))
    assert "authorization" not in wire.last.headers


@pytest.mark.parametrize(
    "extra",
    [
        {"extra_args": {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "key-1", "BucketKeyEnabled": True}},
        {
            "service_config": {
                "s3": {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "key-1", "BucketKeyEnabled": True}
            }
        },
    ],
    ids=["extra_args", "service_config"],
)
def test_encryption(wire: Recorder, extra: dict[str, Any]) -> None:
    """The upload arguments for encryption reach the server as boto3 would send them."""
    put(connection=keys(endpoint_url=wire.url, **extra))
    sent = {name: value for name, value in wire.last.headers.items() if "encryption" in name}
    assert sent == {
        "x-amz-server-side-encryption": "aws:kms",
        "x-amz-server-side-encryption-aws-kms-key-id": "key-1",
        "x-amz-server-side-encryption-bucket-key-enabled": "true",
    }


def test_other_upload_arguments(wire: Recorder) -> None:
    """Requester pays, a checksum and a signed payload reach the server."""
    connection = keys(
        endpoint_url=wire.url,
        extra_args={"RequestPayer": "requester", "ChecksumAlgorithm": "SHA256"},
        config_kwargs={"s3": {"payload_signing_enabled": True}},
    )
    put(connection=connection)
    assert wire.last.headers["x-amz-request-payer"] == "requester"
    assert "x-amz-checksum-sha256" in wire.last.headers
    assert len(wire.last.headers["x-amz-content-sha256"]) == 64


def test_time_limits(wire: Recorder) -> None:
    """connect_timeout and read_timeout of ``config_kwargs`` are taken over by the client."""
    options = {"connect_timeout": 2, "read_timeout": 1.5}
    connection = keys(endpoint_url=wire.url, config_kwargs=options)
    assert dict(access(URL, connection).client) == {"connect_timeout": "2000ms", "read_timeout": "1500ms"}
    put(connection=connection)
    assert wire.last.method == "PUT"


# --- AWS itself, which no test may reach


@pytest.mark.parametrize(
    ("bucket", "extra", "style", "endpoint"),
    [
        ("bucket", {}, True, None),
        ("dotted.bucket", {}, False, None),
        ("Upper_case", {}, False, None),
        ("bucket", {"config_kwargs": {"s3": {"addressing_style": "path"}}}, False, None),
        ("bucket", {"region_name": "cn-north-1"}, True, "https://bucket.s3.cn-north-1.amazonaws.com.cn"),
        ("dotted.bucket", {"region_name": "cn-north-1"}, False, "https://s3.cn-north-1.amazonaws.com.cn"),
        (
            "bucket",
            {"region_name": "eu-west-1", "config_kwargs": {"use_dualstack_endpoint": True, "use_fips_endpoint": True}},
            True,
            "https://bucket.s3-fips.dualstack.eu-west-1.amazonaws.com",
        ),
        (
            "bucket",
            {"config_kwargs": {"s3": {"use_accelerate_endpoint": True}}},
            True,
            "https://bucket.s3-accelerate.amazonaws.com",
        ),
    ],
)
def test_addresses_at_aws(bucket: str, extra: dict[str, Any], style: bool, endpoint: str | None) -> None:
    """Buckets are in the host name where its certificate allows, and other partitions have their own names."""
    config = access(f"s3://my_conn@{bucket}/xcom", keys(**extra)).config
    assert (config["virtual_hosted_style_request"], config.get("endpoint")) == (style, endpoint)


def test_a_host_says_where_an_endpoint_belongs() -> None:
    """Values meant for the store in ``host`` do not go to Amazon; beside an endpoint the field does no harm."""
    with pytest.raises(ConfigurationError, match=r'Write the endpoint into its extra: \{"endpoint_url"'):
        access(URL, Connection(host="minio", login="k", password=SECRET))
    connection = Connection(host="minio", login="k", password=SECRET, extra={"endpoint_url": "http://minio:9000"})
    assert access(URL, connection).config["endpoint"] == "http://minio:9000"


def test_an_endpoint_that_is_explicitly_none_is_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """``service_config.s3.endpoint_url`` null means AWS, whatever the general endpoint or the environment say."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    connection = keys(endpoint_url="http://127.0.0.1:2", service_config={"s3": {"endpoint_url": None}})
    assert access(URL, connection).config["endpoint"] == "https://bucket.s3.us-east-1.amazonaws.com"


# --- certificates


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    trustme = pytest.importorskip("trustme")
    ca = trustme.CA()
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    return path, context


@pytest.mark.parametrize("how", ["default", "false", "text-false", "path", "environment", "path-over-environment"])
def test_verify(authority: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """A private authority is refused by default, and accepted by verify=false, a path, or AWS_CA_BUNDLE."""
    path, context = authority
    verify: Any = {"false": False, "text-false": "False", "path": str(path), "path-over-environment": str(path)}
    if how.endswith("environment"):
        monkeypatch.setenv("AWS_CA_BUNDLE", "/nowhere.pem" if how.startswith("path") else str(path))
    with recorder(context) as wire:
        extra = {"endpoint_url": wire.url, **({"verify": verify[how]} if how in verify else {})}
        if how == "default":
            with pytest.raises(StoreUnavailableError):
                put(connection=keys(**extra))
            assert wire.requests == []
            return
        put(connection=keys(**extra))
        assert wire.last.method == "PUT"
        # Over TLS the body is not hashed a second time.
        assert wire.last.headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"


# --- no connection


def test_keys_of_the_environment(wire: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a connection the client takes keys, token, endpoint and region of the environment."""
    variables = {"AWS_ACCESS_KEY_ID": "ENVKEY", "AWS_SECRET_ACCESS_KEY": "x", "AWS_SESSION_TOKEN": "env-token"}
    for name, value in {**variables, "AWS_ENDPOINT_URL_S3": wire.url, "AWS_REGION": "eu-west-1"}.items():
        monkeypatch.setenv(name, value)
    put("s3://bucket/xcom")
    assert "Credential=ENVKEY/" in wire.last.headers["authorization"]
    assert wire.last.headers["x-amz-security-token"] == "env-token"
    assert wire.last.target == "/bucket/xcom/key"


def test_keys_of_a_container(wire: Recorder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The credentials of a pod (EKS) are fetched by the client, with the token of the pod."""
    wire.replies["/credentials"] = {
        "AccessKeyId": "PODKEY",
        "SecretAccessKey": "x",
        "Token": "pod-token",
        "Expiration": "2999-01-01T00:00:00Z",
    }
    (tmp_path / "token").write_text("pod-identity")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{wire.url}/credentials")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", wire.url)
    put("s3://bucket/xcom")
    assert wire.requests[0].headers["authorization"] == "pod-identity"
    assert wire.last.headers["x-amz-security-token"] == "pod-token"


def test_no_credentials_at_all() -> None:
    """Nothing around and no metadata service: said at once, with what to do, instead of a request into the void."""
    with pytest.raises(ConfigurationError, match=r"no AWS credentials.*s3://connection_id@bucket"):
        access("s3://bucket/xcom")


def test_a_region_alone_is_no_profile(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ~/.aws/config with only a region gives the region, and does not ask for boto3."""
    monkeypatch.setitem(sys.modules, "boto3", None)
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
    (bare / ".aws").mkdir()
    (bare / ".aws" / "config").write_text("[default]\nregion = eu-south-2\n")
    found = access("s3://bucket/xcom")
    assert (found.config["region"], found.credentials) == ("eu-south-2", None)


def test_a_profile_needs_boto3(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without boto3 a profile ends in the install command."""
    _write_profile(bare, "KEY", SECRET, "team")
    monkeypatch.setenv("AWS_PROFILE", "team")
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(MissingDependencyError, match=r"'team'.*pip install 'airflow-provider-xcargo\[amazon\]'"):
        access("s3://bucket/xcom")


# --- complaints


@pytest.mark.parametrize(
    ("connection", "says"),
    [
        (Connection("http", password=SECRET), "of type 'http'; s3:// needs one of type 'aws'"),
        (Connection(extra=[SECRET]), "extra is not a JSON object"),
        (Connection(login="key", extra={}), "login and password must both be set"),
        (Connection(extra={"aws_secret_access_key": SECRET}), "aws_access_key_id and aws_secret_access_key"),
        (
            Connection(host="http://minio:9000", login="k", password=SECRET),
            "host is not read in a connection of type aws",
        ),
        (keys(endpoint_url=f"store {SECRET}"), "endpoint_url must be a URL"),
        (keys(endpoint_url="store.test:9000"), "endpoint_url must be a URL"),
        (keys(endpoint_url="http://store.test:port"), "endpoint_url must be a URL"),
        (keys(endpoint_url=f"https://me:{SECRET}@store.test"), "endpoint_url must be a URL"),
        (keys(endpoint_url={"a": 1}), "endpoint_url must be a URL"),
        (keys(service_config={"s3": {"endpoint_url": "ftp://x"}}), "service_config.s3.endpoint_url must be a URL"),
        (keys(service_config={"s3": SECRET}), "service_config.s3 is not valid JSON"),
        (keys(service_config=f"{{{SECRET}"), "service_config is not valid JSON"),
        (keys(config_kwargs={"s3": {"addressing_style": "sideways"}}), "must be one of auto, path, virtual"),
        (
            keys(endpoint_url="http://127.0.0.1:1", config_kwargs={"s3": {"addressing_style": "virtual"}}),
            "IP address",
        ),
        (keys(config_kwargs={"signature_version": "s3"}), "must be one of s3v4, v4, unsigned"),
        (keys(config_kwargs={"read_timeout": "soon"}), "config_kwargs.read_timeout must be a number"),
        (keys(config_kwargs={"proxies": {"https": "my proxy"}}), "config_kwargs.proxies must be a URL"),
        (keys(config_kwargs={"client_cert": "/c.pem"}), "client_cert cannot be used"),
        (keys(verify="/nowhere/ca.pem"), "verify names a file that cannot be read"),
        (keys(verify=__file__), "verify names a file without a PEM certificate"),
        (keys(verify=3), "verify must be true, false or the path"),
        (keys(role_arn="arn:x", assume_role_method="ask_nicely"), "assume_role_method must be one of assume_role,"),
        (keys(extra_args={"ACL": "public-read"}), "extra_args may hold ServerSideEncryption"),
        (keys(extra_args={"ServerSideEncryption": "rot13"}), "must be one of AES256, aws:kms, aws:kms:dsse"),
        (keys(extra_args={"SSEKMSKeyId": "k"}), "SSEKMSKeyId needs ServerSideEncryption"),
    ],
)
def test_what_cannot_be_used_is_named(connection: Connection, says: str) -> None:
    """Each unusable field is a ConfigurationError with connection, field and what is allowed, never a secret."""
    with pytest.raises(ConfigurationError) as caught:
        access(URL, connection)
    assert says in str(caught.value)
    assert "'my_conn'" in str(caught.value)
    assert SECRET not in repr(caught.value) + str(caught.value)
    assert caught.value.__cause__ is None


def test_a_bad_bundle_of_the_environment_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing AWS_CA_BUNDLE is an error over TLS, and of no concern to plain http."""
    monkeypatch.setenv("AWS_CA_BUNDLE", "/nowhere/ca.pem")
    with pytest.raises(ConfigurationError, match="AWS_CA_BUNDLE"):
        access(URL, keys(endpoint_url="https://store.test"))
    access(URL, keys(endpoint_url="http://store.test"))


def test_nothing_shows_a_secret() -> None:
    """repr of the access and of its credentials holds no secret."""
    found = access(URL, keys(aws_session_token=SECRET))
    assert SECRET not in repr(found) + repr(found.credentials)


def test_keys_import_no_cloud_library() -> None:
    """A connection with keys imports neither boto3 nor google-auth or azure-identity."""
    program = (
        "import sys, json\n"
        "from tests.unit.airflow.connection_kit import Connection, access\n"
        "access('s3://c@b/p', Connection(login='k', password='s', extra={'region_name': 'r'}))\n"
        "print(json.dumps([m for m in ('boto3', 'google.auth', 'azure.identity') if m in sys.modules]))\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert json.loads(ran.stdout) == []
