"""Connections of type ``google_cloud_platform``: Google Cloud Storage."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from xcargo.airflow.connections.fields import Fields, url
from xcargo.errors import AccessDeniedError, ConfigurationError, StoreUnavailableError, XCargoError
from xcargo.stores.base import Access

__all__ = ["GoogleCredentials", "access"]

_TYPES = ("google_cloud_platform",)
_HOOK_ONLY = ("impersonation_chain", "credential_config_file", "key_secret_name", "idp_issuer_url", "scope", "scopes")
_CLIENT_ONLY_VARIABLES = ("GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH", "GOOGLE_BEARER_TOKEN")
_CLIENT_KINDS = ("service_account", "authorized_user")
_NOBODY = {"client_email": "", "private_key": "", "private_key_id": "", "disable_oauth": True}
"""What the client takes for an account that needs no token; without one it asks the metadata service."""

_UNKNOWN_LIFE = timedelta(minutes=15)
_SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"


def access(fields: Fields) -> Access:
    """Access to a GCS root.

    A key file or its content goes to the client as it is. Impersonation, Secret Manager, external accounts and scopes
    go through the official hook, whose credentials are renewed as they expire. Neither: Application Default
    Credentials, by the client for a service account, a user's login and the metadata service, by google-auth for the
    other kinds.
    """
    fields.require_type(_TYPES)
    config: dict[str, Any] = {}
    credentials: Callable[[], Mapping[str, Any]] | None = None
    key = _key(fields)
    if fields.flag("is_anonymous"):
        config.update(skip_signature=True, service_account_key=json.dumps(_NOBODY))
        _refuse_mixing(fields)
    elif any(fields.get(name) for name in _HOOK_ONLY):
        credentials = _of_hook(fields)
    elif key:
        config.update(skip_signature=False, service_account_key=json.dumps(key))
        _refuse_mixing(fields)
    else:
        config, credentials = _default(fields)
    endpoint = _endpoint(fields, key)
    if endpoint:
        config["base_url"] = endpoint
    return Access(config=config, client=_client(fields), credentials=credentials)


class GoogleCredentials:
    """google-auth credentials in the client's words. A token is fetched when there is none that lasts.

    Raises AccessDeniedError, StoreUnavailableError or ConfigurationError when it cannot be.
    """

    def __init__(self, fields: Fields, credentials: Any) -> None:
        self._fields = fields
        self._credentials = credentials

    def __call__(self) -> Mapping[str, Any]:
        try:
            if not self._credentials.valid:
                import requests
                from google.auth.transport.requests import Request

                # A session of its own, closed: hours lie between two tokens.
                with requests.Session() as session:
                    self._credentials.refresh(Request(session))
        except Exception as error:
            raise self._fields.failed(_kind(error), error) from error
        expiry = self._credentials.expiry  # naive, in UTC
        expires = expiry.replace(tzinfo=timezone.utc) if expiry else datetime.now(timezone.utc) + _UNKNOWN_LIFE
        return {"token": self._credentials.token, "expires_at": expires}


def _key(fields: Fields) -> dict[str, Any]:
    """The service account key that the connection names or holds; empty when it does neither."""
    path = fields.text("key_path")
    if path and fields.get("keyfile_dict"):
        raise fields.error("key_path", "and keyfile_dict cannot both be given")
    name = "key_path" if path else "keyfile_dict"
    key = _json_file(fields, name, path) if path else dict(fields.mapping(name))
    if not key:
        return {}
    if not isinstance(key.get("client_email"), str) or not isinstance(key.get("private_key"), str):
        raise fields.error(name, "is not a service account key: client_email and private_key belong into it")
    # Pasted into a form, line ends often arrive as two characters.
    key["private_key"] = key["private_key"].replace("\\n", "\n")
    key.setdefault("private_key_id", "")
    return key


def _json_file(fields: Fields, name: str, path: str) -> dict[str, Any]:
    try:
        content = json.loads(Path(path).expanduser().read_text())
    except OSError as error:
        raise fields.error(name, f"names a file that cannot be read ({error.strerror})") from None
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise fields.error(name, "names a file that is not a JSON object") from None
    return content


def _refuse_mixing(fields: Fields) -> None:
    """These variables, which only the client knows, cannot be overridden: it would use both or fail confusingly."""
    for variable in _CLIENT_ONLY_VARIABLES:
        if os.environ.get(variable):
            raise ConfigurationError(
                f"The environment variable {variable} would take the place of connection {fields.root.connection_id!r}",
                where=fields.root,
                hint=f"Unset {variable}.",
            )


def _endpoint(fields: Fields, key: Mapping[str, Any]) -> str:
    for name in ("gcs.endpoint", "endpoint", "endpoint_url"):
        if fields.get(name):
            return url(fields, name, fields.get(name))
    if key.get("gcs_base_url"):
        return url(fields, "keyfile_dict.gcs_base_url", key["gcs_base_url"])
    if os.environ.get("GOOGLE_BASE_URL"):
        return url(fields, "(from the environment) GOOGLE_BASE_URL", os.environ["GOOGLE_BASE_URL"])
    return ""


def _client(fields: Fields) -> dict[str, Any]:
    """Who pays and whose quota is used travels in a header."""
    project = fields.text("quota_project_id")
    if not project and fields.flag("gcs.requester-pays"):
        project = fields.text("project")
    return {"default_headers": {"x-goog-user-project": project}} if project else {}


def _of_hook(fields: Fields) -> GoogleCredentials:
    """The official hook's credentials, with a first token, so that what is wrong is said here."""
    try:
        from airflow.providers.google.common.hooks.base_google import GoogleBaseHook
    except ImportError as error:
        raise fields.missing("needs the hook of the Google provider", "it", "google") from error

    class Hook(GoogleBaseHook):  # type: ignore[misc,unused-ignore]
        # The connection is at hand. A look-up by the hook would be another request to the supervisor.
        @classmethod
        def get_connection(cls, conn_id: str) -> Any:  # noqa: ARG003
            return fields.connection

    return _first_token(fields, lambda: Hook(gcp_conn_id=str(fields.root.connection_id)).get_credentials())


def _default(fields: Fields) -> tuple[dict[str, Any], GoogleCredentials | None]:
    """Application Default Credentials: options for the client, or google-auth's where the client cannot read them."""
    path = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    if not path:
        home = os.environ.get("CLOUDSDK_CONFIG") or "~/.config/gcloud"
        found = Path(home).expanduser() / "application_default_credentials.json"
        path = str(found) if found.is_file() else None
    if path is None:
        native = ("GOOGLE_SERVICE_ACCOUNT_KEY", *_CLIENT_ONLY_VARIABLES)
        if os.environ.get("NO_GCE_CHECK", "").lower() == "true" and not any(os.environ.get(name) for name in native):
            raise ConfigurationError(
                "There are no Google credentials in this environment",
                where=fields.root,
                hint="Name a connection with a key in the path: gs://connection_id@bucket/prefix.",
            )
        return {}, None
    kind = _json_file(fields, "GOOGLE_APPLICATION_CREDENTIALS", path).get("type")
    if kind in _CLIENT_KINDS:
        return {"application_credentials": path}, None
    try:
        import google.auth
    except ImportError as error:
        what = f"has Application Default Credentials of kind {kind!r}"
        raise fields.missing(what, "google-auth", "google") from error
    return {}, _first_token(fields, lambda: google.auth.default(scopes=[_SCOPE])[0])


def _first_token(fields: Fields, make: Callable[[], Any]) -> GoogleCredentials:
    try:
        provider = GoogleCredentials(fields, make())
        provider()
    except XCargoError:
        raise
    except Exception as error:
        raise fields.failed(_kind(error), error) from error
    return provider


def _kind(error: Exception) -> type[XCargoError]:
    names = {cls.__name__ for cls in type(error).__mro__}
    if "TransportError" in names:
        return StoreUnavailableError
    return AccessDeniedError if "RefreshError" in names else ConfigurationError
