"""Connections for Azure Blob Storage: what they give the client, and what a storage server sees."""

from __future__ import annotations

import base64
import hmac
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode

import pytest

from tests.servers import Server
from tests.unit.airflow.connection_kit import (
    SECRET,
    Connection,
    Recorder,
    access,
    options,
    put,
    set_variables,
    store,
)
from xcargo.errors import AccessDeniedError, ConfigurationError

pytestmark = pytest.mark.usefixtures("bare")

URL = "az://my_conn@bucket/xcom"
KEY = base64.b64encode(b"not a real key, only 64 bytes long".ljust(64, b".")).decode()
PUBLIC = "https://acc.blob.core.windows.net"
EMULATOR = "http://127.0.0.1:10000/acc"
SAS = "sv=2020-12-06&sig=x%3D"
CLIENT = {"tenant_id": "t", "client_id": "c", "client_secret": "pw"}
PRINCIPAL = {"credential_type": "client_secret", **CLIENT}
WORKLOAD = {f"workload_identity_{name}": name for name in ("client_id", "tenant_id", "token_file")}
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
    set_variables(monkeypatch, HOSTILE)


def conn(conn_type: str = "wasb", **fields: Any) -> Connection:
    return Connection(conn_type, **fields)


def string(text: str) -> Connection:
    return conn(login="ignored", password=SECRET, extra={"connection_string": text})


def account_sas(account: str, key: str) -> str:
    """An account SAS for blobs, signed as the service's documentation says."""
    expiry = (datetime.now(timezone.utc) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    fields = {"sp": "rwdlac", "ss": "b", "srt": "sco", "se": expiry, "spr": "https,http", "sv": "2020-12-06"}
    order = [account, fields["sp"], fields["ss"], fields["srt"], "", expiry, "", fields["spr"], fields["sv"], "", ""]
    digest = hmac.digest(base64.b64decode(key), "\n".join(order).encode(), "sha256")
    return urlencode({**fields, "sig": base64.b64encode(digest).decode()})


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
        (conn(host="acc.blob.core.chinacloudapi.cn", password=KEY), "acc", "https://acc.blob.core.chinacloudapi.cn"),
        (
            conn(password=KEY, extra={"account_name": "acc", "account_host": "blobs.corp.example"}),
            "acc",
            "https://blobs.corp.example",
        ),
        (
            string(f"AccountName=acc;AccountKey={KEY};EndpointSuffix=corp.example"),
            "acc",
            "https://acc.blob.corp.example",
        ),
        (string("UseDevelopmentStorage=true"), "devstoreaccount1", "http://127.0.0.1:10000/devstoreaccount1"),
        (conn(extra={"sas_token": f"{PUBLIC}?{SAS}"}), "acc", PUBLIC),
        (conn(extra={"sas_token": f"{EMULATOR}/xcom?{SAS}"}), "acc", EMULATOR),
    ],
)
def test_account_and_endpoint(hostile: None, connection: Connection, account: str, endpoint: str) -> None:
    """Account and endpoint by host, login, extra or connection string, not by the environment."""
    made = options(URL, connection)
    assert (made["account_name"], made["endpoint"], made["use_emulator"]) == (account, endpoint, False)


@pytest.mark.parametrize(
    ("connection", "expected"),
    [
        (conn(login="acc", password=KEY), {"access_key": KEY}),
        (conn("adls", host="acc", password=KEY), {"access_key": KEY}),
        (conn("azure_container_volume", login="acc", password=KEY), {"access_key": KEY}),
        (conn("azure_data_lake", host="acc", extra={"account_key": KEY}), {"access_key": KEY}),
        (conn(login="acc", extra={"shared_access_key": KEY}), {"access_key": KEY}),
        (conn(login="acc", extra={"extra__wasb__shared_access_key": KEY}), {"access_key": KEY}),
        (string(f"AccountName=acc;AccountKey={KEY};BlobEndpoint={EMULATOR};"), {"access_key": KEY}),
        (string(f"BlobEndpoint={PUBLIC};SharedAccessSignature={SAS}"), {"sas_token": SAS}),
        (conn(login="acc", extra={"sas_token": SAS}), {"sas_token": SAS}),
        (conn(login="acc", extra={"sas_token": f"?{SAS}"}), {"sas_token": SAS}),
        (conn(extra={"sas_token": f"{PUBLIC}/xcom?{SAS}"}), {"sas_token": SAS}),
        (conn(login="acc", extra={"anon": True}), {"skip_signature": True}),
        (conn(login="acc", extra={"use_azure_cli": True}), {"credential_type": "azure_cli", "use_azure_cli": True}),
        (conn(host="acc", login="c", password="pw", extra={"tenant_id": "t"}), PRINCIPAL),
        (conn("azure_data_lake", login="c", password="pw", extra={"tenant": "t", "account_name": "acc"}), PRINCIPAL),
        (
            conn(host="acc", extra={"client_secret_auth_config": {**CLIENT, "authority": "login.test"}}),
            {**PRINCIPAL, "authority_host": "https://login.test"},
        ),
        (
            conn(
                host="acc",
                extra=WORKLOAD,
            ),
            {"credential_type": "workload_identity", "client_id": "client_id", "federated_token_file": "token_file"},
        ),
    ],
)
def test_credentials(connection: Connection, expected: dict[str, Any]) -> None:
    """Each way of writing a key, a SAS or an identity, under the client's name."""
    assert options(URL, connection).items() >= {"skip_signature": False, **expected}.items()


def test_a_managed_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """A named identity is asked for where App Service serves it."""
    set_variables(monkeypatch, {"IDENTITY_ENDPOINT": "http://msi.test/token", "IDENTITY_HEADER": "header-1"})
    made = options(URL, conn(host="acc", extra={"managed_identity_client_id": "c"}))
    expected = {"credential_type": "managed_identity", "client_id": "c", "msi_endpoint": "http://msi.test/token"}
    assert made.items() >= expected.items()


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


def test_an_account_in_the_path() -> None:
    """Azure's own spelling of a URL names the account, without a connection."""
    assert options("abfss://bucket@acc.dfs.core.windows.net/xcom")["account_name"] == "acc"


# --- a real Blob server, which checks keys and SAS


@pytest.mark.servers
@pytest.mark.parametrize("form", ["key", "sas", "connection_string"])
def test_credentials_hold_against_a_hostile_environment(
    azure_server: Server, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """A key or SAS puts, gets and lists, a key also deletes, whatever the environment holds."""
    account, key = azure_server.connection["login"], azure_server.connection["password"]
    text = f"AccountName={account};AccountKey={key};BlobEndpoint={azure_server.endpoint}"
    connection = {
        "key": conn(login=account, password=key, host=azure_server.endpoint),
        "sas": conn(host=azure_server.endpoint, extra={"sas_token": account_sas(account, key)}),
        "connection_string": None,
    }[form]
    if connection:
        set_variables(monkeypatch, HOSTILE)
    else:
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", text)
    opened = store("az://my_conn@xcom/demo" if connection else "az://xcom/demo", connection)
    opened.put(form, [b"value"])
    assert azure_server.raw_get(f"demo/{form}") == b"value"
    assert bytes(opened.get(form)) == b"value"
    assert form in [info.key for info in opened.list()]
    if form != "sas":  # azurite fails on a batch that is authorized by a SAS
        opened.delete([form])
        assert f"demo/{form}" not in azure_server.list_keys()


@pytest.mark.servers
def test_a_wrong_signature_is_refused_without_being_shown(azure_server: Server) -> None:
    """AccessDeniedError names the connection; the signature is in the address of each request."""
    sas = account_sas(azure_server.connection["login"], KEY)
    with pytest.raises(AccessDeniedError, match="my_conn") as caught:
        put(URL, conn(host=azure_server.endpoint, extra={"sas_token": sas}))
    assert "sig=" not in str(caught.value)
    assert parse_qs(sas)["sig"][0] not in str(caught.value)


# --- identities: token services on loopback


@pytest.fixture
def login(wire: Recorder) -> Recorder:
    """The recorder as token service too."""
    wire.replies["/tenant-1/"] = {"access_token": "entra-token", "expires_in": 3600, "token_type": "Bearer"}
    return wire


def asked_for(record: Recorder) -> dict[str, str]:
    """The fields of the request for a token."""
    return {name: values[0] for name, values in parse_qs(record.requests[0].body.decode()).items()}


def test_a_client_secret(login: Recorder, hostile: None) -> None:
    """A service principal's token is fetched and sent, ``anon`` sends nothing, whatever the environment holds."""
    extra = {"tenant_id": "tenant-1", "account_name": "acc", "authority_host": login.url}
    put(URL, conn(host=f"{login.url}/acc", login="client-1", password="pw-1", extra=extra))
    assert login.requests[0].target == "/tenant-1/oauth2/v2.0/token"
    assert asked_for(login).items() >= {"client_id": "client-1", "client_secret": "pw-1"}.items()
    assert asked_for(login)["scope"] == "https://storage.azure.com/.default"
    assert login.last.headers["authorization"] == "Bearer entra-token"
    assert login.last.target == "/acc/bucket/xcom/key"
    put(URL, conn(host=f"{login.url}/acc", extra={"anon": True}))
    assert "authorization" not in login.last.headers


def test_the_environments_client_secret(login: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that names only the account leaves the credentials to the environment's default chain."""
    variables = {"AZURE_CLIENT_ID": "env-client", "AZURE_CLIENT_SECRET": "x", "AZURE_TENANT_ID": "tenant-1"}
    set_variables(monkeypatch, {**variables, "AZURE_AUTHORITY_HOST": login.url})
    put(URL, conn(host=f"{login.url}/acc"))
    assert asked_for(login)["client_id"] == "env-client"
    assert login.last.headers["authorization"] == "Bearer entra-token"


def test_an_environment_without_a_connection(wire: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Account, endpoint and key of the environment serve a root that names no connection."""
    variables = {"AZURE_STORAGE_ACCOUNT_NAME": "envaccount", "AZURE_STORAGE_ACCOUNT_KEY": KEY}
    set_variables(monkeypatch, {**variables, "AZURE_STORAGE_ENDPOINT": f"{wire.url}/envaccount"})
    put("az://bucket/xcom")
    assert wire.last.headers["authorization"].startswith("SharedKey envaccount:")


@pytest.mark.filterwarnings("default")  # azure-identity and what it imports
def test_a_client_certificate_is_left_to_azure_identity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What only azure-identity knows is asked of it, and its refusal is a ConfigurationError or AccessDeniedError."""
    pytest.importorskip("azure.identity")
    path = tmp_path / "not-a-certificate.pem"
    path.write_text("-----BEGIN NOTHING-----")
    variables = {"AZURE_CLIENT_ID": "c", "AZURE_TENANT_ID": "t", "AZURE_CLIENT_CERTIFICATE_PATH": str(path)}
    set_variables(monkeypatch, variables)
    with pytest.raises((ConfigurationError, AccessDeniedError), match="'my_conn' gives no credentials"):
        access(URL, conn(login="acc"))
