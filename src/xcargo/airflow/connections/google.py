"""Connections of type ``google_cloud_platform``: Google Cloud Storage."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

from xcargo.airflow.connections import ConnectionFields, RenewedCredentials
from xcargo.errors import ConfigurationError
from xcargo.stores.base import Access

__all__ = ["access"]

_TYPES = ("google_cloud_platform",)
_HOOK_ONLY = ("impersonation_chain", "credential_config_file", "key_secret_name", "idp_issuer_url", "scope", "scopes")
_CLIENT_ONLY_VARIABLES = ("GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH", "GOOGLE_BEARER_TOKEN")
_CLIENT_VARIABLES = ("GOOGLE_SERVICE_ACCOUNT_KEY", *_CLIENT_ONLY_VARIABLES)
_CLIENT_KINDS = ("service_account", "authorized_user")
_ANONYMOUS_KEY = {"client_email": "", "private_key": "", "private_key_id": "", "disable_oauth": True}
"""What the client takes for an account that needs no token; without one it asks the metadata service."""

_UNKNOWN_LIFE = timedelta(minutes=15)
_SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"


def access(fields: ConnectionFields) -> Access:
    """Access to a GCS root.

    A key file or its content goes to the client as it is. Impersonation, Secret Manager, external accounts and scopes
    go through the official hook, whose credentials are renewed as they expire. Neither: Application Default
    Credentials, by the client for a service account, a user's login and the metadata service, by google-auth for the
    other kinds.
    """
    fields.require_type(_TYPES)
    config: dict[str, Any] = {}
    credentials: RenewedCredentials | None = None
    key = _key(fields)
    if fields.flag("is_anonymous"):
        config.update(skip_signature=True, service_account_key=json.dumps(_ANONYMOUS_KEY))
        _refuse_mixing(fields)
    elif any(fields.get(name) for name in _HOOK_ONLY):
        credentials = _from_hook(fields)
    elif key:
        config.update(skip_signature=False, service_account_key=json.dumps(key))
        _refuse_mixing(fields)
    elif path := _default_credentials_path():
        kind = _json_file(fields, "GOOGLE_APPLICATION_CREDENTIALS", path).get("type")
        if kind in _CLIENT_KINDS:
            config["application_credentials"] = path
        else:
            credentials = _from_google_auth(fields, kind)
    else:
        _require_source(fields)
    endpoint = _endpoint(fields, key)
    if endpoint:
        config["base_url"] = endpoint
    return Access(config=config, client=_client(fields), credentials=credentials)


def _key(fields: ConnectionFields) -> dict[str, Any]:
    """The service account key that the connection names or holds; empty when it does neither."""
    path = fields.text("key_path")
    if path and fields.get("keyfile_dict"):
        raise fields.error("key_path", "and keyfile_dict cannot both be set")
    name = "key_path" if path else "keyfile_dict"
    key = _json_file(fields, name, path) if path else dict(fields.mapping(name))
    if not key:
        return {}
    if not isinstance(key.get("client_email"), str) or not isinstance(key.get("private_key"), str):
        raise fields.error(name, "is not a service account key: it must have client_email and private_key")
    # Pasted into a form, line ends often arrive as two characters.
    key["private_key"] = key["private_key"].replace("\\n", "\n")
    key.setdefault("private_key_id", "")
    return key


def _json_file(fields: ConnectionFields, name: str, path: str) -> dict[str, Any]:
    text = fields.file(name, path)
    try:
        content = json.loads(text)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise fields.error(name, "names a file that is not a JSON object") from None
    return content


def _refuse_mixing(fields: ConnectionFields) -> None:
    """These variables, which only the client knows, cannot be overridden: it would use both or fail confusingly."""
    for variable in _CLIENT_ONLY_VARIABLES:
        if os.environ.get(variable):
            raise ConfigurationError(
                f"The environment variable {variable} would override connection {fields.root.connection_id!r}",
                where=fields.root,
                hint=f"Unset {variable}.",
            )


def _endpoint(fields: ConnectionFields, key: Mapping[str, Any]) -> str:
    for name in ("gcs.endpoint", "endpoint", "endpoint_url"):
        if fields.get(name):
            return fields.url(name, fields.get(name))
    if key.get("gcs_base_url"):
        return fields.url("keyfile_dict.gcs_base_url", key["gcs_base_url"])
    if os.environ.get("GOOGLE_BASE_URL"):
        return fields.url("(from the environment) GOOGLE_BASE_URL", os.environ["GOOGLE_BASE_URL"])
    return ""


def _client(fields: ConnectionFields) -> dict[str, Any]:
    """Who pays and whose quota is used travels in a header."""
    project = fields.text("quota_project_id")
    if not project and fields.flag("gcs.requester-pays"):
        project = fields.text("project")
    return {"default_headers": {"x-goog-user-project": project}} if project else {}


def _default_credentials_path() -> str | None:
    """The file of Application Default Credentials, by variable or where gcloud writes it."""
    path = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    if path:
        return path
    home = Path(os.environ.get("CLOUDSDK_CONFIG") or "~/.config/gcloud").expanduser()
    by_gcloud = home / "application_default_credentials.json"
    return str(by_gcloud) if by_gcloud.is_file() else None


def _require_source(fields: ConnectionFields) -> None:
    """The client's own variables or the metadata service are left; raises where the latter is said not to exist."""
    is_off = os.environ.get("NO_GCE_CHECK", "").lower() == "true"
    if is_off and not any(os.environ.get(name) for name in _CLIENT_VARIABLES):
        raise fields.no_credentials("Google", needed="a key_path or keyfile_dict")


def _from_hook(fields: ConnectionFields) -> RenewedCredentials:
    hook = fields.hook("airflow.providers.google.common.hooks.base_google", "GoogleBaseHook", extra="google")
    with fields.mapped_errors():
        credentials = hook(gcp_conn_id=str(fields.root.connection_id)).get_credentials()
    return RenewedCredentials(fields, partial(_token, credentials))


def _from_google_auth(fields: ConnectionFields, kind: Any) -> RenewedCredentials:
    needs = f"has Application Default Credentials of kind {kind!r} and needs google-auth"
    auth = fields.library("google.auth", needs=needs, extra="google")
    with fields.mapped_errors():
        credentials = auth.default(scopes=[_SCOPE])[0]
    return RenewedCredentials(fields, partial(_token, credentials))


def _token(credentials: Any) -> Mapping[str, Any]:
    if not credentials.valid:
        import requests
        from google.auth.transport.requests import Request

        # A session of its own, closed: hours pass between two tokens.
        with requests.Session() as session:
            credentials.refresh(Request(session))
    expiry = credentials.expiry  # naive, in UTC
    expires = expiry.replace(tzinfo=timezone.utc) if expiry else datetime.now(timezone.utc) + _UNKNOWN_LIFE
    return {"token": credentials.token, "expires_at": expires}
