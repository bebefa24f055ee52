"""What cannot be used of a connection is named: connection, field and what is allowed, never a value."""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.servers import Server
from tests.unit.airflow.connection_kit import SECRET, Connection, access, put, set_variables
from xcargo.errors import AccessDeniedError, ConfigurationError, MissingDependencyError

pytestmark = pytest.mark.usefixtures("bare")

S3, GS, AZ = "s3://my_conn@bucket/xcom", "gs://my_conn@bucket/xcom", "az://my_conn@bucket/xcom"
SFTP = "sftp://my_conn@127.0.0.1/xcom"
KEY = base64.b64encode(b"not a real key, only 64 bytes long".ljust(64, b".")).decode()
OPEN_KEY = {"client_email": "", "private_key": "", "private_key_id": "", "disable_oauth": True}
ROLE = "arn:aws:iam::1:role/x"
HALF_A_PAIR = {"session_kwargs": {"aws_access_key_id": "k", "aws_secret_access_key": None}}


def aws(**extra: Any) -> Connection:
    return Connection(login="k", password=SECRET, extra=extra)


def gcp(**extra: Any) -> Connection:
    return Connection("google_cloud_platform", extra=extra)


def wasb(**fields: Any) -> Connection:
    return Connection("wasb", **fields)


def acc(**extra: Any) -> Connection:
    return Connection("wasb", host="acc", extra=extra)


class Unreadable(Connection):
    """One whose extra Airflow cannot read: it logs that, and gives an empty object."""

    @property
    def extra_dejson(self) -> Any:
        return {}


def string(text: str) -> Connection:
    return Connection("wasb", extra={"connection_string": text})


def sftp(**extra: Any) -> Connection:
    return Connection("sftp", port=1, login="me", extra=extra)


@pytest.mark.parametrize(
    ("url", "connection", "says"),
    [
        (S3, Connection("http", password=SECRET), "of type 'http'; s3:// needs one of type 'aws'"),
        (S3, Connection(extra=[SECRET]), "extra is not a JSON object"),
        (
            S3,
            Unreadable(login="k", password="p", extra=f'{{"endpoint_url": "{SECRET}",}}'),
            "extra is not a JSON object",
        ),
        (S3, Connection("", schema=f"'{{{SECRET}}}'"), "holds nothing that Airflow can read"),
        (S3, Connection(login="key"), "login and password must both be set"),
        (S3, Connection(login=f"k\n{SECRET}", password="p"), "login holds a character that no key has"),
        (S3, aws(aws_session_token=f"t\n{SECRET}"), "aws_session_token holds a character that no key has"),
        (S3, Connection(extra=HALF_A_PAIR), "session_kwargs must both be set"),
        (S3, Connection(extra={"aws_secret_access_key": SECRET}), "aws_access_key_id and aws_secret_access_key"),
        (S3, Connection(host="minio", login="k", password=SECRET), 'endpoint into its extra: {"endpoint_url": "https'),
        (S3, aws(endpoint_url=f"store {SECRET}"), "endpoint_url must be a URL"),
        (S3, aws(endpoint_url="store.test:9000"), "endpoint_url must be a URL"),
        (S3, aws(endpoint_url="http://store.test:port"), "endpoint_url must be a URL"),
        (S3, aws(endpoint_url=f"https://me:{SECRET}@store.test"), "endpoint_url must be a URL"),
        (S3, aws(endpoint_url={"a": 1}), "endpoint_url must be a URL"),
        (S3, aws(service_config={"s3": {"endpoint_url": "ftp://x"}}), "service_config.s3.endpoint_url must be a URL"),
        (S3, aws(service_config={"s3": SECRET}), "service_config.s3 is not valid JSON"),
        (S3, aws(service_config={"s3": [SECRET]}), "service_config.s3 must be a JSON object"),
        (S3, aws(service_config=f"{{{SECRET}"), "service_config is not valid JSON"),
        (S3, aws(config_kwargs={"s3": {"addressing_style": "sideways"}}), "must be one of auto, path, virtual"),
        (S3, aws(endpoint_url="http://127.0.0.1:1", config_kwargs={"s3": {"addressing_style": "virtual"}}), "IP addr"),
        (S3, aws(config_kwargs={"signature_version": "s3"}), "must be one of s3v4, v4, unsigned"),
        (S3, aws(config_kwargs={"read_timeout": "soon"}), "config_kwargs.read_timeout must be a number"),
        (S3, aws(config_kwargs={"read_timeout": float("inf")}), "config_kwargs.read_timeout must be a number"),
        (S3, aws(config_kwargs={"proxies": {"https": "my proxy"}}), "config_kwargs.proxies must be a URL"),
        (S3, aws(config_kwargs={"connect_timout": 2}), "config_kwargs.connect_timout is not known"),
        (S3, aws(config_kwargs={"s3": {"adressing_style": "path"}}), "Did you mean 'addressing_style'"),
        (S3, aws(config_kwargs={"client_cert": "/c.pem"}), "client_cert cannot be used"),
        (S3, aws(verify="/nowhere/ca.pem"), "verify names a file that cannot be read"),
        (S3, aws(verify=__file__.replace("errors", "aws")), "verify names a file without a PEM certificate"),
        (S3, aws(verify=3), "verify must be true, false or the path"),
        (S3, aws(role_arn=ROLE, assume_role_method="ask"), "assume_role_method must be one of assume_role,"),
        (S3, aws(extra_args={"ACL": "public-read"}), "extra_args may hold ServerSideEncryption"),
        (S3, aws(extra_args={"ServerSideEncryption": "rot13"}), "must be one of AES256, aws:kms, aws:kms:dsse"),
        (S3, aws(extra_args={"ChecksumAlgorithm": "MD5"}), "must be one of SHA256, CRC64NVME"),
        (S3, aws(extra_args={"SSEKMSKeyId": "k"}), "SSEKMSKeyId needs ServerSideEncryption"),
        (GS, Connection("aws", password=SECRET), "of type 'aws'; gs:// needs one of type 'google_cloud_platform'"),
        (GS, gcp(keyfile_dict=f"{{{SECRET}"), "keyfile_dict is not valid JSON"),
        (GS, gcp(keyfile_dict=[SECRET]), "keyfile_dict must be a JSON object"),
        (GS, gcp(keyfile_dict={"private_key": SECRET}), "keyfile_dict is not a service account key"),
        (GS, gcp(key_path="/nowhere.json"), "key_path names a file that cannot be read (No such file or directory)"),
        (GS, gcp(key_path=__file__), "key_path names a file that is not a JSON object"),
        (GS, gcp(key_path="/a", keyfile_dict={"private_key": SECRET}), "key_path and keyfile_dict cannot both be set"),
        (GS, gcp(keyfile_dict=OPEN_KEY, endpoint="127.0.0.1:4443"), "endpoint must be a URL"),
        (GS, gcp(keyfile_dict={**OPEN_KEY, "gcs_base_url": "4443"}), "keyfile_dict.gcs_base_url must be a URL"),
        (GS, gcp(is_anonymous="perhaps"), "is_anonymous must be true or false"),
        (AZ, Connection("aws", password=SECRET), "of type 'aws'; az:// needs one of type 'wasb' or 'adls'"),
        (AZ, wasb(password=KEY), "host must name the storage account"),
        (AZ, wasb(login="An Account", password=KEY), "login must name a storage account"),
        (AZ, wasb(login="acc", password=SECRET), "password does not hold an account key"),
        (AZ, wasb(login="acc", extra={"account_key": SECRET}), "account_key does not hold an account key"),
        (AZ, wasb(login="acc", extra={"sas_token": SECRET}), "sas_token does not hold a shared access signature"),
        (AZ, wasb(host="http://127.0.0.1:10000", password=KEY), "host must end with the account name"),
        (AZ, wasb(host="http://my store/", password=KEY), "host must be a URL"),
        (AZ, string(SECRET), "connection_string must be parts Name=value"),
        (AZ, string(f"AccountKey={KEY}"), "must hold AccountName or BlobEndpoint"),
        (AZ, string("AccountName=acc"), "neither AccountKey nor SharedAccessSignature"),
        (AZ, string(f"AccountName=acc;AccountKey={SECRET}!"), "connection_string does not hold an account key"),
        (AZ, string(f"AccountName=acc;DefaultEndpointsProtocol=ftp;AccountKey={KEY}"), "must be one of http, https"),
        (AZ, wasb(host="acc", login="client", extra={"tenant_id": "t"}), "tenant_id needs a client id as login"),
        (AZ, acc(tenant_id="t", client_secret_auth_config={"x": 1}), "auth_config holds what cannot be used: x"),
        (AZ, acc(client_secret_auth_config=f"{{{SECRET}"), "client_secret_auth_config is not valid JSON"),
        (AZ, acc(workload_identity_client_id="c"), "AZURE_FEDERATED_TOKEN_FILE is not set"),
        (
            AZ,
            acc(workload_identity_client_id="c", workload_identity_token_file="/token"),
            "workload_identity_tenant_id is needed, or AZURE_TENANT_ID",
        ),
        (AZ, acc(anon="sometimes"), "anon must be true or false"),
    ],
)
def test_what_cannot_be_used_is_named(url: str, connection: Connection, says: str) -> None:
    """Each unusable field is a ConfigurationError when the connection is read."""
    with pytest.raises(ConfigurationError) as caught:
        access(url, connection)
    assert says in str(caught.value)
    assert "'my_conn'" in str(caught.value)
    assert SECRET not in repr(caught.value) + str(caught.value)
    assert KEY not in repr(caught.value) + str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("url", "connection", "says"),
    [
        (SFTP, sftp(host_key="AAAA"), "host_key cannot be checked"),  # not silently unchecked
        (SFTP, sftp(private_key=SECRET), "private_key is not a private key"),
        (SFTP, sftp(flavour=SECRET), "flavour"),
        ("https://files.example/xcom", None, r"https:// cannot do this.*endpoint_url"),
        (GS, gcp(keyfile_dict={"client_email": "a@b", "private_key": SECRET}, endpoint="http://127.0.0.1:1"), "key"),
    ],
)
def test_what_the_client_cannot_use_is_named_at_first_use(url: str, connection: Connection | None, says: str) -> None:
    """So is what only the client or the file system understands, when it is made."""
    pytest.importorskip("paramiko")
    with pytest.raises(ConfigurationError, match=says) as caught:
        put(url, connection)
    assert SECRET not in str(caught.value)


@pytest.mark.servers
@pytest.mark.parametrize("cloud", ["s3_server", "azure_server"])
def test_a_wrong_secret_is_refused_without_being_shown(request: pytest.FixtureRequest, cloud: str) -> None:
    """AccessDeniedError names the connection, not the secret."""
    server: Server = request.getfixturevalue(cloud)
    with pytest.raises(AccessDeniedError, match=server.connection_id) as caught:
        put(server.root, Connection(**{**server.connection, "password": KEY}))
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("connection", [Connection("generic"), None])
def test_a_scheme_that_nobody_knows(connection: Connection | None) -> None:
    """An unknown scheme is named, with those that are known."""
    url = "carrier-pigeon://my_conn@coop/xcom" if connection else "carrier-pigeon://coop/xcom"
    with pytest.raises(ConfigurationError, match=r"'carrier-pigeon'.*s3, gs, az, file"):
        access(url, connection)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("s3://bucket/xcom", r"no AWS credentials.*s3://connection_id@bucket"),
        ("gs://bucket/xcom", r"no Google credentials.*gs://connection_id@bucket"),
        ("az://bucket/xcom", r"AZURE_STORAGE_ACCOUNT_NAME.*az://connection_id@container"),
    ],
)
def test_no_credentials_at_all(url: str, says: str) -> None:
    """Nothing in the environment and no metadata service: an error at once, with what to do."""
    with pytest.raises(ConfigurationError, match=says):
        access(url)


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"])
def test_a_variable_that_ends_with_a_line_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The client would panic, or sign with another key than was meant."""
    set_variables(monkeypatch, {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", name: f"{SECRET}\n"})
    with pytest.raises(ConfigurationError, match=f"variable {name} holds a character that no key has") as caught:
        access("s3://bucket/xcom")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("module", "url", "connection", "variables", "says"),
    [
        (
            "airflow.providers.amazon.aws.hooks.base_aws",
            S3,
            Connection(extra={"role_arn": ROLE}),
            {},
            r"'my_conn' needs the hook of the Amazon provider.*\[amazon\]",
        ),
        ("boto3", "s3://bucket/xcom", None, {"AWS_PROFILE": "team"}, r"profile 'team' and needs boto3.*\[amazon\]"),
        (
            "airflow.providers.google.common.hooks.base_google",
            GS,
            gcp(impersonation_chain="x@example.com"),
            {},
            r"'my_conn' needs the hook of the Google provider.*\[google\]",
        ),
        (
            "google.auth",
            "gs://bucket/xcom",
            None,
            {"GOOGLE_APPLICATION_CREDENTIALS": "external.json"},
            r"'external_account' and needs google-auth.*\[google\]",
        ),
        (
            "azure.identity",
            AZ,
            wasb(login="acc"),
            {"AZURE_CLIENT_CERTIFICATE_PATH": "/cert.pem"},
            r"'my_conn' .*needs azure-identity.*\[azure\]",
        ),
    ],
)
def test_a_library_that_is_missing_is_named_with_the_command(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    module: str,
    url: str,
    connection: Connection | None,
    variables: dict[str, str],
    says: str,
) -> None:
    """What needs an official library says so, with the command that installs it."""
    (tmp_path / "external.json").write_text('{"type": "external_account"}')
    monkeypatch.chdir(tmp_path)
    set_variables(monkeypatch, variables)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=rf"{says}") as caught:
        access(url, connection)
    assert "Run: pip install 'airflow-provider-xcargo[" in str(caught.value)


@pytest.mark.parametrize(
    ("url", "connection"),
    [(S3, aws(region_name="r")), (GS, gcp(keyfile_dict=OPEN_KEY)), (AZ, wasb(login="acc", password=KEY))],
)
def test_keys_need_no_library(monkeypatch: pytest.MonkeyPatch, url: str, connection: Connection) -> None:
    """A connection with keys of its own needs no package of a cloud or of an Airflow provider."""
    for module in ("airflow.providers", "boto3", "google.auth", "azure.identity"):
        monkeypatch.setitem(sys.modules, module, None)
    assert access(url, connection).config
