"""Connections for Azure Blob Storage, from their fields to what a storage server sees."""

from __future__ import annotations

import base64
import hmac
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from tests.servers import Server
from tests.unit.airflow.connection_kit import (
    SECRET,
    Connection,
    Recorder,
    access,
    store,
)
from xcargo.errors import AccessDeniedError, ConfigurationError, MissingDependencyError

pytestmark = pytest.mark.usefixtures("bare")

URL = "az://my_conn@bucket/xcom"
KEY = base64.b64encode(b"not a real key, only 64 bytes long".ljust(64, b".")).decode()
PUBLIC = "https://acc.blob.core.windows.net"
HOSTILE = {
    "AZURE_STORAGE_ACCOUNT_NAME": "envaccount",
    "AZURE_STORAGE_ACCOUNT_KEY": base64.b64encode(b"env").decode(),
    "AZURE_STORAGE_SAS_TOKEN": "sv=env&sig=env",
    "AZURE_STORAGE_TOKEN": "env-token",
    "AZURE_STORAGE_ENDPOINT": "http://127.0.0.1:1/env",
    "AZURE_ENDPOINT": "http://127.0.0.1:1/env",
    "AZURE_STORAGE_USE_EMULATOR": "true",
    "AZURE_SKIP_SIGNATURE": "true",
    "AZURE_CREDENTIAL_TYPE": "azure_cli",
    "AZURE_USE_AZURE_CLI": "true",
    "AZURE_CLIENT_ID": "env-client",
    "AZURE_CLIENT_SECRET": "env-secret",
    "AZURE_TENANT_ID": "env-tenant",
    "AZURE_FEDERATED_TOKEN_FILE": "/nowhere/token",
    "AZURE_AUTHORITY_HOST": "http://127.0.0.1:1",
    "AZURE_STORAGE_CONNECTION_STRING": "AccountName=envaccount;AccountKey=AAAA",
}


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in HOSTILE.items():
        monkeypatch.setenv(name, value)


def conn(conn_type: str = "wasb", **fields: Any) -> Connection:
    return Connection(conn_type, **fields)


def put(connection: Connection | None = None, url: str = URL) -> None:
    store(url, connection).put("key", [b"value"])


def account_sas(account: str, key: str) -> str:
    """An account SAS for blobs, signed as the service's documentation says."""
    expiry = (datetime.now(timezone.utc) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    fields = {"sp": "rwdlac", "ss": "b", "srt": "sco", "se": expiry, "spr": "https,http", "sv": "2020-12-06"}
    order = [account, fields["sp"], fields["ss"], fields["srt"], "", expiry, "", fields["spr"], fields["sv"], "", ""]
    digest = hmac.digest(base64.b64decode(key), "\n".join(order).encode(), "sha256")
    return urlencode({**fields, "sig": base64.b64encode(digest).decode()})


# --- a real Blob server, which checks keys and SAS


FORMS = [
    "wasb-host",
    "adls-host",
    "azure_data_lake-account_key",
    "azure_container_volume",
    "shared_access_key",
    "prefixed",
    "account_key",
    "connection_string",
    "connection_string-sas",
    "sas_token",
    "sas_token-question-mark",
    "sas_token-url",
    "account_host",
]


def forms(endpoint: str, account: str, key: str) -> dict[str, Connection]:
    sas = account_sas(account, key)
    string = f"DefaultEndpointsProtocol=http;AccountName={account};AccountKey={key};BlobEndpoint={endpoint};"
    shared = f"BlobEndpoint={endpoint};SharedAccessSignature={sas}"
    return {
        "wasb-host": conn(login=account, password=key, host=endpoint),
        "adls-host": conn("adls", password=key, host=endpoint),
        "azure_data_lake-account_key": conn("azure_data_lake", host=endpoint, extra={"account_key": key}),
        "azure_container_volume": conn("azure_container_volume", login=account, password=key, host=endpoint),
        "shared_access_key": conn(login=account, host=endpoint, extra={"shared_access_key": key}),
        "prefixed": conn(login=account, host=endpoint, extra={"extra__wasb__shared_access_key": key}),
        "account_key": conn(login=account, host=endpoint, extra={"account_key": key}),
        "connection_string": conn(login="ignored", password=SECRET, extra={"connection_string": string}),
        "connection_string-sas": conn("adls", extra={"extra__adls__connection_string": shared}),
        "sas_token": conn(login=account, host=endpoint, extra={"sas_token": sas}),
        "sas_token-question-mark": conn(login=account, host=endpoint, extra={"sas_token": f"?{sas}"}),
        "sas_token-url": conn(extra={"sas_token": f"{endpoint}/xcom?{sas}"}),
        "account_host": conn(password=key, extra={"account_name": account, "account_host": endpoint}),
    }


@pytest.mark.servers
@pytest.mark.parametrize("form", FORMS)
def test_keys_and_signatures_reach_a_server_that_checks_them(azure_server: Server, hostile: None, form: str) -> None:
    """Each way of writing a key or SAS puts, gets and lists, a key also deletes, whatever the environment holds."""
    described = azure_server.connection
    connection = forms(azure_server.endpoint, described["login"], described["password"])[form]
    opened = store("az://my_conn@xcom/demo", connection)
    opened.put(form, [b"value"])
    assert bytes(opened.get(form)) == b"value"
    assert azure_server.raw_get(f"demo/{form}") == b"value"
    assert form in [info.key for info in opened.list()]
    if "sas" not in form:  # azurite fails on a batch that is authorized by a SAS
        opened.delete([form])
        assert f"demo/{form}" not in azure_server.list_keys()


@pytest.mark.servers
@pytest.mark.parametrize("form", ["key", "sas"])
def test_what_is_wrong_is_refused_without_being_shown(azure_server: Server, form: str) -> None:
    """A wrong key or signature ends as AccessDeniedError that names the connection, not the secret."""
    described = azure_server.connection
    sas = account_sas(described["login"], KEY)
    connection = (
        conn(login=described["login"], password=KEY, host=azure_server.endpoint)
        if form == "key"
        else conn(host=azure_server.endpoint, extra={"sas_token": sas})
    )
    with pytest.raises(AccessDeniedError, match="my_conn") as caught:
        put(connection)
    assert KEY not in str(caught.value)
    assert parse_qs(sas)["sig"][0] not in str(caught.value)
    assert "sig=" not in str(caught.value)


@pytest.mark.servers
def test_a_connection_string_of_the_environment(azure_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """AZURE_STORAGE_CONNECTION_STRING serves a root that names no connection."""
    described = azure_server.connection
    parts = {
        "AccountName": described["login"],
        "AccountKey": described["password"],
        "BlobEndpoint": azure_server.endpoint,
    }
    text = ";".join(f"{name}={value}" for name, value in parts.items())
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", text)
    put(url="az://xcom/demo")
    assert azure_server.raw_get("demo/key") == b"value"


# --- which account, where


@pytest.mark.parametrize(
    ("connection", "account", "endpoint"),
    [
        (conn(login="acc", password=KEY), "acc", PUBLIC),
        (conn(host="acc", password=KEY), "acc", PUBLIC),
        (conn("adls", host="acc", password=KEY), "acc", PUBLIC),
        (conn(host="acc.blob.core.windows.net", password=KEY), "acc", PUBLIC),
        (conn(host=f"{PUBLIC}/", password=KEY), "acc", PUBLIC),
        (conn(host=f"{PUBLIC}/container", password=KEY), "acc", PUBLIC),
        (conn("adls", host="https://acc.dfs.core.windows.net", password=KEY), "acc", PUBLIC),
        (conn(login="acc", host="ad-id", password=KEY), "acc", PUBLIC),
        (conn("azure_data_lake", password=KEY, extra={"account_name": "acc"}), "acc", PUBLIC),
        (
            conn(host="acc.blob.core.chinacloudapi.cn", password=KEY),
            "acc",
            "https://acc.blob.core.chinacloudapi.cn",
        ),
        (
            conn(password=KEY, extra={"account_name": "acc", "account_host": "blobs.corp.example"}),
            "acc",
            "https://blobs.corp.example",
        ),
        (
            conn(
                extra={"connection_string": f"AccountName=acc;AccountKey={KEY};EndpointSuffix=core.usgovcloudapi.net"}
            ),
            "acc",
            "https://acc.blob.core.usgovcloudapi.net",
        ),
        (
            conn(extra={"connection_string": "UseDevelopmentStorage=true"}),
            "devstoreaccount1",
            "http://127.0.0.1:10000/devstoreaccount1",
        ),
        (conn(extra={"sas_token": f"{PUBLIC}?sv=1&sig=x"}), "acc", PUBLIC),
    ],
)
def test_account_and_endpoint(hostile: None, connection: Connection, account: str, endpoint: str) -> None:
    """Account and endpoint by host, login, extra or connection string, not by the environment."""
    config = access(URL, connection).config
    assert (config["account_name"], config["endpoint"]) == (account, endpoint)


def test_an_account_in_the_path() -> None:
    """Azure's own spelling of a URL names the account, without a connection."""
    assert access("abfss://bucket@acc.dfs.core.windows.net/xcom").config["account_name"] == "acc"


# --- identities: token services on loopback


@pytest.fixture
def login(wire: Recorder) -> Recorder:
    """The recorder as token service too."""
    token = {"access_token": "entra-token", "expires_in": 3600, "token_type": "Bearer"}
    wire.replies["/tenant-1/"] = token
    return wire


def form_of(record: Recorder) -> dict[str, str]:
    """The fields of the request for a token."""
    return {name: values[0] for name, values in parse_qs(record.requests[0].body.decode()).items()}


@pytest.mark.parametrize("form", ["wasb", "adls", "azure_data_lake", "config"])
def test_a_client_secret(login: Recorder, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    """A service principal's token is fetched and sent, and no key, SAS or token of the environment instead."""
    for name, value in HOSTILE.items():
        monkeypatch.setenv(name, value)
    common = {"account_name": "acc", "authority_host": login.url}
    host = f"{login.url}/acc"
    connection = {
        "wasb": conn(host=host, login="client-1", password="pw-1", extra={"tenant_id": "tenant-1", **common}),
        "adls": conn("adls", host=host, login="client-1", password="pw-1", extra={"tenant_id": "tenant-1", **common}),
        "azure_data_lake": conn(
            "azure_data_lake",
            login="client-1",
            password="pw-1",
            extra={"extra__azure_data_lake__tenant": "tenant-1", "account_host": host, **common},
        ),
        "config": conn(
            host=host,
            extra={
                "client_secret_auth_config": {
                    "tenant_id": "tenant-1",
                    "client_id": "client-1",
                    "client_secret": "pw-1",
                    "authority": login.url,
                },
                "account_name": "acc",
            },
        ),
    }[form]
    put(connection)
    assert login.requests[0].target == "/tenant-1/oauth2/v2.0/token"
    asked = form_of(login)
    assert (asked["client_id"], asked["client_secret"]) == ("client-1", "pw-1")
    assert asked["scope"] == "https://storage.azure.com/.default"
    assert login.last.headers["authorization"] == "Bearer entra-token"
    assert login.last.target == "/acc/bucket/xcom/key"


def test_workload_identity(login: Recorder, hostile: None, tmp_path: Path) -> None:
    """A pod's federated token is exchanged for the client and tenant that the connection names."""
    (tmp_path / "federated").write_text("pod-token")
    put(
        conn(
            host=f"{login.url}/acc",
            extra={
                "workload_identity_client_id": "client-1",
                "workload_identity_tenant_id": "tenant-1",
                "workload_identity_token_file": str(tmp_path / "federated"),
                "authority_host": login.url,
            },
        )
    )
    asked = form_of(login)
    assert (asked["client_id"], asked["client_assertion"]) == ("client-1", "pod-token")
    assert login.last.headers["authorization"] == "Bearer entra-token"


def test_a_managed_identity(wire: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A named managed identity is asked for where App Service serves it, with its header."""
    wire.replies["/msi"] = {
        "access_token": "msi-token",
        "expires_in": "3600",
        "expires_on": "4102444800",
        "not_before": "1",
        "resource": "https://storage.azure.com",
        "token_type": "Bearer",
    }
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{wire.url}/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", "header-1")
    put(conn(host=f"{wire.url}/acc", extra={"managed_identity_client_id": "client-1"}))
    assert parse_qs(urlsplit(wire.requests[0].target).query)["client_id"] == ["client-1"]
    assert wire.requests[0].headers["x-identity-header"] == "header-1"
    assert wire.last.headers["authorization"] == "Bearer msi-token"


def test_anonymous(wire: Recorder, hostile: None) -> None:
    """``anon`` sends no credentials, not even the environment's."""
    put(conn(host=f"{wire.url}/acc", extra={"anon": True}))
    assert "authorization" not in wire.last.headers
    assert wire.last.target == "/acc/bucket/xcom/key"


def test_the_environments_client_secret(login: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that names only the account leaves the credentials to the environment's default chain."""
    for name, value in {
        "AZURE_CLIENT_ID": "env-client",
        "AZURE_CLIENT_SECRET": "x",
        "AZURE_TENANT_ID": "tenant-1",
        "AZURE_AUTHORITY_HOST": login.url,
    }.items():
        monkeypatch.setenv(name, value)
    put(conn(host=f"{login.url}/acc"))
    assert form_of(login)["client_id"] == "env-client"
    assert login.last.headers["authorization"] == "Bearer entra-token"


def test_an_environment_without_a_connection(wire: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Account, endpoint and key of the environment serve a root that names no connection."""
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "envaccount")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", KEY)
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", f"{wire.url}/envaccount")
    put(url="az://bucket/xcom")
    assert wire.last.headers["authorization"].startswith("SharedKey envaccount:")


@pytest.mark.parametrize(
    ("host", "authority"),
    [
        ("acc.blob.core.chinacloudapi.cn", "https://login.chinacloudapi.cn"),
        ("acc.blob.core.usgovcloudapi.net", "https://login.microsoftonline.us"),
        ("acc.blob.core.windows.net", None),
    ],
)
def test_sovereign_clouds_have_their_own_login(host: str, authority: str | None) -> None:
    """Tokens are asked for at the login of the cloud that the account is in."""
    connection = conn(host=host, login="client-1", password=SECRET, extra={"tenant_id": "tenant-1"})
    assert access(URL, connection).config.get("authority_host") == authority


@pytest.mark.filterwarnings("default")  # azure-identity and what it imports
def test_a_client_certificate_is_left_to_azure_identity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What only azure-identity knows is asked of it, and its refusal is a ConfigurationError or AccessDeniedError."""
    pytest.importorskip("azure.identity")
    (tmp_path / "not-a-certificate.pem").write_text("-----BEGIN NOTHING-----")
    for name, value in {
        "AZURE_CLIENT_ID": "c",
        "AZURE_TENANT_ID": "t",
        "AZURE_CLIENT_CERTIFICATE_PATH": str(tmp_path / "not-a-certificate.pem"),
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises((ConfigurationError, AccessDeniedError), match=r"'my_conn' gives no credentials"):
        access(URL, conn(login="acc"))


def test_azure_identity_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without azure-identity a client certificate ends in the install command."""
    monkeypatch.setenv("AZURE_CLIENT_CERTIFICATE_PATH", "/cert.pem")
    monkeypatch.setitem(sys.modules, "azure.identity", None)
    monkeypatch.setitem(sys.modules, "azure.core.exceptions", None)
    with pytest.raises(MissingDependencyError, match=r"Run: pip install 'airflow-provider-xcargo\[azure\]'"):
        access(URL, conn(login="acc"))


# --- complaints


@pytest.mark.parametrize(
    ("connection", "says"),
    [
        (conn("aws", password=SECRET), "of type 'aws'; az:// needs one of type 'wasb' or 'adls'"),
        (conn(password=KEY), "host must name the storage account"),
        (conn(login="An Account", password=KEY), "login must name a storage account"),
        (conn(login="acc", password=SECRET), "password does not hold an account key"),
        (conn(login="acc", extra={"account_key": SECRET}), "account_key does not hold an account key"),
        (conn(login="acc", extra={"sas_token": SECRET}), "sas_token does not hold a shared access signature"),
        (conn(host="http://127.0.0.1:10000", password=KEY), "host must end with the account name"),
        (conn(host="http://my store/", password=KEY), "host must be a URL"),
        (conn(extra={"connection_string": SECRET}), "connection_string must be parts Name=value"),
        (conn(extra={"connection_string": f"AccountKey={KEY}"}), "must hold AccountName or BlobEndpoint"),
        (conn(extra={"connection_string": "AccountName=acc"}), "holds neither AccountKey nor SharedAccessSignature"),
        (
            conn(extra={"connection_string": f"AccountName=acc;AccountKey={SECRET}!"}),
            "connection_string does not hold an account key",
        ),
        (
            conn(extra={"connection_string": f"AccountName=acc;DefaultEndpointsProtocol=ftp;AccountKey={KEY}"}),
            "must be one of http, https",
        ),
        (conn(host="acc", login="client", extra={"tenant_id": "t"}), "tenant_id needs a client id as login"),
        (
            conn(
                host="acc", login="c", password=SECRET, extra={"tenant_id": "t", "client_secret_auth_config": {"x": 1}}
            ),
            "client_secret_auth_config holds what cannot be used: x",
        ),
        (
            conn(host="acc", extra={"client_secret_auth_config": f"{{{SECRET}"}),
            "client_secret_auth_config is not valid JSON",
        ),
        (conn(host="acc", extra={"workload_identity_client_id": "c"}), "AZURE_FEDERATED_TOKEN_FILE is not set"),
        (
            conn(
                host="acc",
                extra={"workload_identity_client_id": "c", "workload_identity_token_file": "/token"},
            ),
            "workload_identity_tenant_id is needed, or AZURE_TENANT_ID",
        ),
        (conn(host="acc", extra={"anon": "sometimes"}), "anon must be true or false"),
    ],
)
def test_what_cannot_be_used_is_named(connection: Connection, says: str) -> None:
    """Each unusable field is a ConfigurationError with connection and field, never a secret."""
    with pytest.raises(ConfigurationError) as caught:
        access(URL, connection)
    assert says in str(caught.value)
    assert "'my_conn'" in str(caught.value)
    assert SECRET not in repr(caught.value) + str(caught.value)
    assert KEY not in repr(caught.value) + str(caught.value)


def test_no_account_at_all() -> None:
    """Neither a connection nor the path nor the environment names an account: said at once, with what to do."""
    with pytest.raises(ConfigurationError, match=r"AZURE_STORAGE_ACCOUNT_NAME.*az://connection_id@container"):
        access("az://bucket/xcom")


def test_nothing_shows_a_secret() -> None:
    """repr of the access and of its credentials holds no secret."""
    found = access(URL, conn(login="acc", password=KEY))
    assert KEY not in repr(found) + repr(found.credentials)
