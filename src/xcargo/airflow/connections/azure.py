"""Connections of type ``wasb``, ``adls``, ``azure_data_lake`` and their kin: Azure Blob Storage.

A key or SAS of the connection travels as a credentials callable, and an identity with its kind named: the client would
otherwise prefer whatever ``AZURE_STORAGE_TOKEN`` or another variable holds.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from typing import Any
from urllib.parse import SplitResult, urlsplit

from xcargo.airflow.connections import ConnectionFields, RenewedCredentials, StaticCredentials
from xcargo.stores.base import Access

__all__ = ["access"]

_TYPES = ("wasb", "adls", "azure_data_lake", "azure", "azure_container_volume", "azure_fileshare")
_CLIENT_LOGIN = ("adls", "azure_data_lake", "azure")
"""Types whose login is a client id, never an account name."""

_SCOPE = "https://storage.azure.com/.default"
_NOT_BY_CLIENT = ("AZURE_CLIENT_CERTIFICATE_PATH", "AZURE_USERNAME")
_HARMLESS = ("additionally_allowed_tenants", "disable_instance_discovery", "authority")
_AUTHORITIES = {
    ".core.chinacloudapi.cn": "https://login.chinacloudapi.cn",
    ".core.usgovcloudapi.net": "https://login.microsoftonline.us",
}
_ACCOUNT_NAME = re.compile(r"[a-z0-9][a-z0-9-]{1,62}")
_EMULATOR_ACCOUNT = "devstoreaccount1"
# Published by Microsoft as the key of every storage emulator.
_EMULATOR_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def access(fields: ConnectionFields) -> Access:
    """Access to an Azure root.

    What counts of a connection, in this order: ``connection_string``; ``anon``; a client secret (with a tenant);
    ``shared_access_key``; ``sas_token``; the password, as account key; ``account_key``; workload identity; managed
    identity. None of them: the default chain of the environment. Nothing is imported or asked for any of these,
    except azure-identity for what only it knows (a client certificate).
    """
    fields.require_type(_TYPES)
    text = fields.text("connection_string")
    is_named = fields.connection is not None or fields.root.account or os.environ.get("AZURE_STORAGE_ACCOUNT_NAME")
    if not text and not is_named:
        text = os.environ.get("AZURE_STORAGE_CONNECTION_STRING", "")
    if text:
        return _from_connection_string(fields, text)
    if fields.connection is None:
        return _default(fields, _account_of_environment(fields))
    sas = fields.text("sas_token")
    tenant = fields.text("tenant_id", "tenant", "tenantId")
    tenant = tenant or str(fields.mapping("client_secret_auth_config").get("tenant_id") or "")
    is_client = bool(tenant) or fields.conn_type in _CLIENT_LOGIN
    account = _account_of_connection(fields, login_is_account=not is_client)
    if fields.flag("anon", "is_anonymous"):
        return _access(account, {"skip_signature": True})
    if tenant:
        return _with_client_secret(fields, account, tenant)
    if fields.get("shared_access_key"):
        return _with_key(fields, account, name="shared_access_key", key=fields.text("shared_access_key"))
    if sas:
        return _with_sas(fields, account, name="sas_token", sas=sas.partition("?")[2] if "://" in sas else sas)
    if fields.password:
        return _with_key(fields, account, name="password", key=fields.password)
    if fields.get("account_key"):
        return _with_key(fields, account, name="account_key", key=fields.text("account_key"))
    return _with_identity(fields, account)


# --- accounts


@dataclass(frozen=True)
class _Account:
    """Account name and Blob endpoint; an empty endpoint leaves it to the client and its environment."""

    name: str
    endpoint: str = ""

    def config(self) -> dict[str, Any]:
        """The client's options. An endpoint of ours also rules out AZURE_STORAGE_USE_EMULATOR's."""
        if not self.endpoint:
            return {"account_name": self.name}
        return {"account_name": self.name, "endpoint": self.endpoint, "use_emulator": False}


def _account_of_connection(fields: ConnectionFields, *, login_is_account: bool) -> _Account:
    """The account of a connection: its ``account_name``, host, the URL of its SAS, or its login, if that is a name.

    Raises ConfigurationError when it names none.
    """
    name = fields.text("account_name")
    account_host, sas = fields.text("account_host"), fields.text("sas_token")
    if account_host:
        return _account_at(fields, "account_host", account_host, name=name)
    if "://" in sas:
        parts = urlsplit(sas)
        base = f"{parts.scheme}://{parts.netloc}{_emulated_account(parts)}"
        return _account_at(fields, "sas_token", base, name=name)
    if re.search("[.:/]", fields.host):
        return _account_at(fields, "host", fields.host, name=name)
    if name:
        return _public_account(fields, "account_name", name)
    # A host without a dot beside an account as login is what the official hook ignores.
    if login_is_account and fields.login:
        return _public_account(fields, "login", fields.login)
    if fields.host:
        return _public_account(fields, "host", fields.host)
    environment = os.environ.get("AZURE_STORAGE_ACCOUNT_NAME")
    if environment:
        return _Account(_account_name(fields, "(from the environment) AZURE_STORAGE_ACCOUNT_NAME", environment))
    raise fields.error("host", "must name the storage account, as https://account.blob.core.windows.net or account")


def _account_of_environment(fields: ConnectionFields) -> _Account:
    """The account of a root without a connection."""
    in_path = fields.root.account
    if in_path and "." in in_path:
        return _account_at(fields, "the account in the path", in_path)
    if in_path:
        return _Account(_account_name(fields, "the account in the path", in_path))
    name = os.environ.get("AZURE_STORAGE_ACCOUNT_NAME", "")
    if not name:
        raise fields.error(
            "AZURE_STORAGE_ACCOUNT_NAME",
            "is not set and the path names no account: write az://connection_id@container/prefix "
            "or abfss://container@account.dfs.core.windows.net/prefix",
        )
    # The client reads this variable too, but whether http is meant has to be known here.
    endpoint = os.environ.get("AZURE_STORAGE_ENDPOINT") or os.environ.get("AZURE_ENDPOINT")
    return _Account(name, fields.url("AZURE_STORAGE_ENDPOINT", endpoint) if endpoint else "")


def _public_account(fields: ConnectionFields, field: str, name: str) -> _Account:
    return _Account(_account_name(fields, field, name), f"https://{name}.blob.core.windows.net")


def _account_at(fields: ConnectionFields, field: str, text: str, *, name: str = "") -> _Account:
    """An account by URL or host name: ``account.blob.…``, or for an emulator ``host:port/account``."""
    parts = urlsplit(fields.url(field, text if "://" in text else f"https://{text}"))
    host = parts.hostname or ""
    if _names_no_account(host):
        account = name or _emulated_account(parts).strip("/")
        if not account:
            raise fields.error(field, "must end with the account name, as http://127.0.0.1:10000/account")
        return _Account(_account_name(fields, field, account), f"{parts.scheme}://{parts.netloc}/{account}")
    # The Blob API, which the client speaks, has its own host beside that of Data Lake Storage.
    netloc = parts.netloc.replace(".dfs.core.", ".blob.core.", 1)
    return _Account(_account_name(fields, field, name or host.partition(".")[0]), f"{parts.scheme}://{netloc}")


def _emulated_account(parts: SplitResult) -> str:
    """``/account`` of an emulator's URL, else ""; the path of an account's own host is a container."""
    first = parts.path.strip("/").partition("/")[0]
    return f"/{first}" if first and _names_no_account(parts.hostname or "") else ""


def _names_no_account(host: str) -> bool:
    """Whether a host is an emulator's: an IP address or a name without a dot."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return "." not in host
    return True


def _account_name(fields: ConnectionFields, field: str, name: str) -> str:
    if not _ACCOUNT_NAME.fullmatch(name):
        raise fields.error(field, "must name a storage account: lower case letters and digits")
    return name


# --- credentials


def _from_connection_string(fields: ConnectionFields, text: str) -> Access:
    """Access by ``Name=value;...``. Raises ConfigurationError when it names no account or holds no credentials."""
    name = "connection_string"
    parts: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        key, equals, value = part.partition("=")
        if not equals:
            raise fields.error(name, "must be parts Name=value with semicolons between them")
        parts[key.strip().lower()] = value.strip()
    if parts.get("usedevelopmentstorage", "").lower() == "true":
        base = fields.url(name, parts.get("developmentstorageproxyuri") or "http://127.0.0.1")
        account = _Account(_EMULATOR_ACCOUNT, f"{base}:10000/{_EMULATOR_ACCOUNT}")
        return _with_key(fields, account, name=name, key=_EMULATOR_KEY)
    account_name = parts.get("accountname", "")
    if parts.get("blobendpoint"):
        account = _account_at(fields, name, parts["blobendpoint"], name=account_name)
    elif account_name:
        protocol = fields.choice(name, parts.get("defaultendpointsprotocol") or "https", ("http", "https"))
        suffix = parts.get("endpointsuffix") or "core.windows.net"
        endpoint = fields.url(name, f"{protocol}://{account_name}.blob.{suffix}")
        account = _Account(_account_name(fields, name, account_name), endpoint)
    else:
        raise fields.error(name, "must hold AccountName or BlobEndpoint")
    if parts.get("accountkey"):
        return _with_key(fields, account, name=name, key=parts["accountkey"])
    if parts.get("sharedaccesssignature"):
        return _with_sas(fields, account, name=name, sas=parts["sharedaccesssignature"])
    raise fields.error(name, "holds neither AccountKey nor SharedAccessSignature")


def _with_key(fields: ConnectionFields, account: _Account, *, name: str, key: str) -> Access:
    try:
        base64.b64decode(key, validate=True)
    except ValueError:
        raise fields.error(name, "does not hold an account key, which is base64 text") from None
    return _access(account, {}, StaticCredentials(access_key=key))


def _with_sas(fields: ConnectionFields, account: _Account, *, name: str, sas: str) -> Access:
    token = sas.strip().lstrip("?&")
    if "sig=" not in token:
        raise fields.error(name, "does not hold a shared access signature, which has a part sig=")
    return _access(account, {}, StaticCredentials(sas_token=token))


def _with_client_secret(fields: ConnectionFields, account: _Account, tenant: str) -> Access:
    options = fields.mapping("client_secret_auth_config")
    unknown = sorted(set(options) - {"tenant_id", "client_id", "client_secret", *_HARMLESS})
    if unknown:
        raise fields.error("client_secret_auth_config", f"holds what cannot be used: {', '.join(unknown)}")
    client_id = fields.login or str(options.get("client_id") or "") or fields.text("client_id")
    client_secret = fields.password or str(options.get("client_secret") or "") or fields.text("client_secret")
    if not client_id or not client_secret:
        raise fields.error("tenant_id", "needs a client id as login and a client secret as password")
    config = {
        "credential_type": "client_secret",
        "tenant_id": tenant,
        "client_id": client_id,
        "client_secret": client_secret,
        **_authority(fields, account),
    }
    return _access(account, config)


def _with_identity(fields: ConnectionFields, account: _Account) -> Access:
    """Workload identity when there is a federated token, else a managed identity that is named, else the default."""
    managed = fields.text("managed_identity_client_id")
    tenant = fields.text("workload_identity_tenant_id")
    client = fields.text("workload_identity_client_id") or managed
    token_file = fields.text("workload_identity_token_file") or os.environ.get("AZURE_FEDERATED_TOKEN_FILE", "")
    if token_file and (tenant or client):
        config = {
            "credential_type": "workload_identity",
            "federated_token_file": token_file,
            "tenant_id": tenant or os.environ.get("AZURE_TENANT_ID", ""),
            "client_id": client or os.environ.get("AZURE_CLIENT_ID", ""),
            **_authority(fields, account),
        }
        for name in ("tenant_id", "client_id"):
            if not config[name]:
                raise fields.error(f"workload_identity_{name}", f"is needed, or AZURE_{name.upper()}")
        return _access(account, config)
    if fields.get("workload_identity_client_id"):
        raise fields.error("workload_identity_client_id", "needs a token file: AZURE_FEDERATED_TOKEN_FILE is not set")
    if managed:
        return _access(account, {"credential_type": "managed_identity", "client_id": managed, **_identity_endpoint()})
    return _default(fields, account)


def _default(fields: ConnectionFields, account: _Account) -> Access:
    """The default chain of the environment: the client's own, azure-identity's for what the client does not know."""
    if fields.flag("use_azure_cli"):
        return _access(account, {"credential_type": "azure_cli", "use_azure_cli": True})
    if not any(os.environ.get(name) for name in _NOT_BY_CLIENT):
        return _access(account, {**_authority(fields, account), **_identity_endpoint()})
    needs = "has Azure credentials other than a secret and needs azure-identity"
    identity = fields.library("azure.identity", needs=needs, extra="azure")
    with fields.mapped_errors():
        credential = identity.DefaultAzureCredential()
    return _access(account, {}, RenewedCredentials(fields, partial(_token, credential)))


def _token(credential: Any) -> Mapping[str, Any]:
    token = credential.get_token(_SCOPE)
    return {"token": token.token, "expires_at": datetime.fromtimestamp(token.expires_on, timezone.utc)}


def _authority(fields: ConnectionFields, account: _Account) -> dict[str, Any]:
    """Where tokens are asked for, if not at the public cloud's login."""
    authority = fields.mapping("client_secret_auth_config").get("authority") or fields.get(
        "authority_host", "authority"
    )
    if authority:
        text = str(authority)
        return {"authority_host": fields.url("authority_host", text if "://" in text else f"https://{text}")}
    if os.environ.get("AZURE_AUTHORITY_HOST"):
        return {}
    for domain, authority in _AUTHORITIES.items():
        if account.endpoint.endswith(domain):
            return {"authority_host": authority}
    return {}


def _identity_endpoint() -> dict[str, Any]:
    """App Service and its like serve managed identities elsewhere than virtual machines do."""
    endpoint = os.environ.get("IDENTITY_ENDPOINT")
    return {"msi_endpoint": endpoint} if endpoint and os.environ.get("IDENTITY_HEADER") else {}


def _access(
    account: _Account, config: Mapping[str, Any], credentials: Callable[[], Mapping[str, Any]] | None = None
) -> Access:
    # The environment's AZURE_SKIP_SIGNATURE would send requests without any credentials.
    return Access(config={**account.config(), "skip_signature": False, **config}, credentials=credentials)
