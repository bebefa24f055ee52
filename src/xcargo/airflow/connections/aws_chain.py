"""AWS credentials that are not simply written in the connection: the official hook, boto3, the environment."""

from __future__ import annotations

import configparser
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from xcargo.airflow.connections.fields import Fields
from xcargo.errors import AccessDeniedError, ConfigurationError, StoreUnavailableError, XCargoError

__all__ = ["BotoCredentials", "Chain", "of_environment", "of_hook", "profile_region"]

_UNKNOWN_LIFE = timedelta(minutes=15)
_NATIVE = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
"""What the client itself reads from the environment."""

_IN_PROFILE = (
    "aws_access_key_id",
    "credential_process",
    "credential_source",
    "login_session",
    "role_arn",
    "sso_session",
    "sso_start_url",
    "web_identity_token_file",
)
"""Entries that make a profile a source of credentials; a file often holds only a region."""


@dataclass(frozen=True)
class Chain:
    """Where credentials come from (None: the client finds them itself) and the region found on the way."""

    credentials: Callable[[], Mapping[str, Any]] | None
    region: str | None


class BotoCredentials:
    """The credentials of a boto3 session, in the client's words. boto renews them; this only asks.

    Raises AccessDeniedError, StoreUnavailableError or ConfigurationError when they cannot be renewed.
    """

    def __init__(self, fields: Fields, credentials: Any) -> None:
        self._fields = fields
        self._credentials = credentials

    def __call__(self) -> Mapping[str, Any]:
        try:
            frozen = self._credentials.get_frozen_credentials()
        except Exception as error:
            raise self._fields.failed(_kind(error), error) from error
        # botocore has no public name for it, and other credential classes have none at all.
        expires = getattr(self._credentials, "_expiry_time", None)
        if not isinstance(expires, datetime):
            expires = datetime.now(timezone.utc) + _UNKNOWN_LIFE
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": expires.astimezone(timezone.utc),
        }


def of_hook(fields: Fields) -> Chain:
    """What the official hook makes of the connection: profile, role by any method, ``[aws] session_factory``.

    Assuming a role asks STS at once. Raises MissingDependencyError, ConfigurationError, AccessDeniedError.
    """
    try:
        from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook
    except ImportError as error:
        raise fields.missing("needs the hook of the Amazon provider", "it", "amazon") from error

    class Hook(AwsGenericHook):  # type: ignore[misc,unused-ignore]
        # The connection is at hand. A look-up by the hook would be another request to the supervisor.
        @classmethod
        def get_connection(cls, conn_id: str) -> Any:  # noqa: ARG003
            return fields.connection

    def session() -> Any:
        return Hook(aws_conn_id=fields.root.connection_id, client_type="s3").get_session()

    return _of_session(fields, session)


def of_environment(fields: Fields) -> Chain:
    """The default chain: the client's own where it has all it takes, boto3 for profiles and SSO."""
    if any(os.environ.get(name) for name in _NATIVE):
        return Chain(None, None)
    profile = os.environ.get("AWS_PROFILE") or "default"
    section = _profile(profile)
    if "AWS_PROFILE" in os.environ or any(name in section for name in _IN_PROFILE):
        try:
            import boto3
        except ImportError as error:
            raise fields.missing(f"has its AWS credentials in profile {profile!r}", "boto3", "amazon") from error
        return _of_session(fields, boto3.session.Session)
    if os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        raise _none(fields)
    return Chain(None, None)


def profile_region() -> str | None:
    """The region of the environment's profile in the shared files."""
    return _profile(os.environ.get("AWS_PROFILE") or "default").get("region")


def _of_session(fields: Fields, make: Callable[[], Any]) -> Chain:
    try:
        session = make()
        credentials = session.get_credentials()
        if credentials is None:
            raise _none(fields)
        # Deferred credentials are fetched by asking for them; better now, with a message, than in the first request.
        provider = BotoCredentials(fields, credentials)
        provider()
    except XCargoError:
        raise
    except Exception as error:
        raise fields.failed(_kind(error), error) from error
    return Chain(provider, session.region_name)


def _kind(error: Exception) -> type[XCargoError]:
    """botocore's classes by name, so that a hook with another client behind it is judged alike."""
    names = {cls.__name__ for cls in type(error).__mro__}
    if "ClientError" in names:
        return AccessDeniedError
    if names & {"HTTPClientError", "ConnectionError", "TimeoutError"}:
        return StoreUnavailableError
    return ConfigurationError


def _none(fields: Fields) -> ConfigurationError:
    if fields.connection is not None:
        return ConfigurationError(
            f"Connection {fields.root.connection_id!r} gives no AWS credentials, and there are none around it",
            where=fields.root,
            hint="Give it login and password, a role_arn or a profile_name.",
        )
    return ConfigurationError(
        "There are no AWS credentials in this environment",
        where=fields.root,
        hint="Name a connection in the path: s3://connection_id@bucket/prefix.",
    )


def _profile(name: str) -> dict[str, str]:
    """The entries of a profile in the two shared files. An unreadable file counts as empty: boto3 will complain."""
    entries: dict[str, str] = {}
    for variable, default, section in (
        ("AWS_CONFIG_FILE", "~/.aws/config", name if name == "default" else f"profile {name}"),
        ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials", name),
    ):
        parser = configparser.RawConfigParser(strict=False)
        try:
            parser.read(Path(os.environ.get(variable) or default).expanduser())
        except (configparser.Error, UnicodeDecodeError, OSError, RuntimeError):
            continue
        if parser.has_section(section):
            entries.update(parser.items(section))
    return entries
