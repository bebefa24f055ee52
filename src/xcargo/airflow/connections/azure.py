"""Connections of type ``wasb``, ``adls``, ``azure_data_lake`` and their kin: Azure Blob Storage.

A key or SAS given by the connection travels as a credentials callable, and an identity with its kind named: the client
would otherwise prefer whatever ``AZURE_STORAGE_TOKEN`` or another variable holds.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from xcargo.airflow.connections import azure_account
from xcargo.airflow.connections.azure_account import Account
from xcargo.airflow.connections.fields import Fields, url
from xcargo.errors import AccessDeniedError, ConfigurationError
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


def access(fields: Fields) -> Access:
    """Access to an Azure root.

    What counts of a connection, in this order: ``connection_string``; ``anon``; a client secret (with a tenant);
    ``shared_access_key``; ``sas_token``; the password, as account key; ``account_key``; workload identity; managed
    identity. None of them: the default chain of the environment. Nothing is imported or asked for any of these,
    except azure-identity for what only it knows (a client certificate).
    """
    fields.require_type(_TYPES)
    text = fields.text("connection_string")
    if (
        not text
        and fields.connection is None
        and not os.environ.get("AZURE_STORAGE_ACCOUNT_NAME")
        and not fields.root.account
    ):
        text = os.environ.get("AZURE_STORAGE_CONNECTION_STRING", "")
    if text:
        string = azure_account.ConnectionString.parse(fields, text)
        if string.key:
            return _with_key(fields, string.account, "connection_string", string.key)
        if string.sas:
            return _with_sas(fields, string.account, "connection_string", string.sas)
        raise fields.error("connection_string", "holds neither AccountKey nor SharedAccessSignature")
    if fields.connection is None:
        return _default(fields, azure_account.of_environment(fields))
    return _of_fields(fields)


class _Static:
    """A credential that does not expire, or whose end is not known to us."""

    def __init__(self, kind: str, value: str) -> None:
        self._kind = kind
        self._value = value

    def __call__(self) -> Mapping[str, Any]:
        return {self._kind: self._value, "expires_at": None}


class _IdentityToken:
    """Tokens of an azure-identity credential, which caches and renews them.

    Raises AccessDeniedError or ConfigurationError when there is none.
    """

    def __init__(self, fields: Fields, credential: Any) -> None:
        self._fields = fields
        self._credential = credential

    def __call__(self) -> Mapping[str, Any]:
        try:
            token = self._credential.get_token(_SCOPE)
        except Exception as error:
            is_refusal = any(cls.__name__ == "ClientAuthenticationError" for cls in type(error).__mro__)
            raise self._fields.failed(AccessDeniedError if is_refusal else ConfigurationError, error) from error
        return {"token": token.token, "expires_at": datetime.fromtimestamp(token.expires_on, timezone.utc)}


def _of_fields(fields: Fields) -> Access:
    secret = fields.mapping("client_secret_auth_config")
    tenant = fields.text("tenant_id", "tenant", "tenantId") or str(secret.get("tenant_id") or "")
    sas = fields.text("sas_token")
    is_client = bool(tenant) or fields.conn_type in _CLIENT_LOGIN
    account = azure_account.of_connection(fields, sas if "://" in sas else "", login_is_account=not is_client)
    if fields.flag("anon", "is_anonymous"):
        return _access(account, {"skip_signature": True})
    if tenant:
        return _with_client_secret(fields, account, tenant, secret)
    if fields.get("shared_access_key"):
        return _with_key(fields, account, "shared_access_key", fields.text("shared_access_key"))
    if sas:
        return _with_sas(fields, account, "sas_token", sas.partition("?")[2] if "://" in sas else sas)
    if fields.password:
        return _with_key(fields, account, "password", fields.password)
    if fields.get("account_key"):
        return _with_key(fields, account, "account_key", fields.text("account_key"))
    return _with_identity(fields, account)


def _with_key(fields: Fields, account: Account, name: str, key: str) -> Access:
    try:
        base64.b64decode(key, validate=True)
    except ValueError:
        raise fields.error(name, "does not hold an account key, which is base64 text") from None
    return _access(account, {}, _Static("access_key", key))


def _with_sas(fields: Fields, account: Account, name: str, sas: str) -> Access:
    token = sas.strip().lstrip("?&")
    if "sig=" not in token:
        raise fields.error(name, "does not hold a shared access signature, which has a part sig=")
    return _access(account, {}, _Static("sas_token", token))


def _with_client_secret(fields: Fields, account: Account, tenant: str, more: Mapping[str, Any]) -> Access:
    unknown = sorted(set(more) - {"tenant_id", "client_id", "client_secret", *_HARMLESS})
    if unknown:
        raise fields.error("client_secret_auth_config", f"holds what cannot be used: {', '.join(unknown)}")
    client_id = fields.login or str(more.get("client_id") or "") or fields.text("client_id")
    client_secret = fields.password or str(more.get("client_secret") or "") or fields.text("client_secret")
    if not client_id or not client_secret:
        raise fields.error("tenant_id", "needs a client id as login and a client secret as password")
    config = {
        "credential_type": "client_secret",
        "tenant_id": tenant,
        "client_id": client_id,
        "client_secret": client_secret,
        **_authority(fields, account, more),
    }
    return _access(account, config)


def _with_identity(fields: Fields, account: Account) -> Access:
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
            **_authority(fields, account, {}),
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


def _default(fields: Fields, account: Account) -> Access:
    if fields.flag("use_azure_cli"):
        return _access(account, {"credential_type": "azure_cli", "use_azure_cli": True})
    if any(os.environ.get(name) for name in _NOT_BY_CLIENT):
        return _access(account, {}, _of_azure_identity(fields))
    return _access(account, {**_authority(fields, account, {}), **_identity_endpoint()})


def _of_azure_identity(fields: Fields) -> _IdentityToken:
    try:
        from azure.identity import DefaultAzureCredential
    except ImportError as error:
        raise fields.missing("has Azure credentials other than a secret", "azure-identity", "azure") from error
    try:
        provider = _IdentityToken(fields, DefaultAzureCredential())
    except Exception as error:
        raise fields.failed(ConfigurationError, error) from error
    provider()
    return provider


def _authority(fields: Fields, account: Account, more: Mapping[str, Any]) -> dict[str, Any]:
    """Where tokens are asked for, if not at the public cloud's login."""
    given = more.get("authority") or fields.get("authority_host", "authority")
    if given:
        text = str(given)
        return {"authority_host": url(fields, "authority_host", text if "://" in text else f"https://{text}")}
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


def _access(account: Account, config: Mapping[str, Any], credentials: _Static | _IdentityToken | None = None) -> Access:
    # The environment's AZURE_SKIP_SIGNATURE would send requests without any credentials.
    return Access(config={**account.config(), "skip_signature": False, **config}, credentials=credentials)
