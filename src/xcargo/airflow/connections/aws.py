"""Connections of type ``aws``: Amazon S3 and what speaks its protocol.

Keys of the connection travel as a credentials callable, not as client options: an environment's ``AWS_SESSION_TOKEN``
would otherwise be sent along with them.
"""

from __future__ import annotations

import configparser
import ipaddress
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from xcargo.airflow.connections import ConnectionFields, RenewedCredentials, StaticCredentials
from xcargo.stores.base import Access

__all__ = ["access"]

_TYPES = ("aws", "s3")
_ASSUME_ROLE = ("assume_role", "assume_role_with_saml", "assume_role_with_web_identity")
_STYLES = ("auto", "path", "virtual")
_SIGNATURES = ("s3v4", "v4", "unsigned")
_ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_ENCRYPTIONS = ("AES256", "aws:kms", "aws:kms:dsse")
_CHECKSUMS = ("SHA256", "CRC64NVME")
_VIRTUAL_HOST = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_PARTITIONS = {"cn-": "amazonaws.com.cn", "us-iso-": "c2s.ic.gov", "us-isob-": "sc2s.sgov.gov", "eusc-": "amazonaws.eu"}
_UNKNOWN_LIFE = timedelta(minutes=15)
_NEEDED = "login and password, a role_arn or a profile_name"

_UPLOAD = {
    "ServerSideEncryption": "server_side_encryption",
    "SSEKMSKeyId": "sse_kms_key_id",
    "BucketKeyEnabled": "sse_bucket_key_enabled",
    "RequestPayer": "request_payer",
    "ChecksumAlgorithm": "checksum_algorithm",
}
"""Names of boto3's upload arguments -> the client's options."""

_CONFIG_KWARGS = {
    "config_kwargs": (
        *("region_name", "signature_version", "connect_timeout", "read_timeout", "client_cert", "s3"),
        *("proxies", "proxies_config", "use_dualstack_endpoint", "use_fips_endpoint"),
    ),
    "config_kwargs.s3": (
        *("addressing_style", "payload_signing_enabled", "use_accelerate_endpoint", "use_dualstack_endpoint"),
    ),
}
"""What is read of botocore's options. A misspelled one is refused; others of botocore's mean nothing here."""

_CLIENT_VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
"""What the client itself reads from the environment."""

_PROFILE_SOURCES = (
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


def access(fields: ConnectionFields) -> Access:
    """Access to an S3 root.

    With key and secret in the connection nothing else is imported or asked. Role, profile, or a connection without
    keys: the official hook's session, asked again before its credentials expire. No connection: keys, web identity,
    container or instance role of the environment by the client itself, profiles and SSO by boto3.
    """
    fields.require_type(_TYPES)
    if fields.connection is not None and fields.get("role_arn"):
        fields.choice("assume_role_method", fields.get("assume_role_method") or "assume_role", _ASSUME_ROLE)
    _refuse_misspelled(fields)
    source = _source(fields)
    region = _region(fields) or source.region or _profile().get("region") or "us-east-1"
    config: dict[str, Any] = {"region": region}
    if source.credentials is not None:
        # The environment's AWS_SKIP_SIGNATURE would send requests without them.
        config["skip_signature"] = False
    elif _is_unsigned(fields):
        config["skip_signature"] = True
    config.update(_addressing(fields, region))
    is_signed_payload = fields.mapping("config_kwargs.s3").get("payload_signing_enabled")
    if is_signed_payload is not None:
        config["unsigned_payload"] = not is_signed_payload
    config.update(_upload(fields))
    endpoint = config.get("endpoint", "")
    client = {**_tls(fields, endpoint), **_proxy(fields, endpoint), **_timeouts(fields)}
    return Access(config=config, client=client, credentials=source.credentials)


def _refuse_misspelled(fields: ConnectionFields) -> None:
    for name, known in _CONFIG_KWARGS.items():
        for option in fields.mapping(name).keys() - set(known):
            import difflib

            near = difflib.get_close_matches(str(option), known, n=1, cutoff=0.85)
            if near:
                raise fields.error(f"{name}.{option}", "is not known", hint=f"Did you mean {near[0]!r}?")


# --- credentials


@dataclass(frozen=True)
class _Source:
    """Where credentials come from (None: the client finds them itself) and the region that comes with them."""

    credentials: Callable[[], Mapping[str, Any]] | None = None
    region: str | None = None


def _source(fields: ConnectionFields) -> _Source:
    if _is_unsigned(fields):
        return _Source()
    keys = _keys(fields)
    if keys is not None:
        return _Source(keys)
    if fields.connection is None:
        return _from_environment(fields)
    hook = fields.hook("airflow.providers.amazon.aws.hooks.base_aws", "AwsGenericHook", extra="amazon")
    return _from_session(fields, lambda: hook(aws_conn_id=fields.root.connection_id, client_type="s3").get_session())


def _keys(fields: ConnectionFields) -> StaticCredentials | None:
    """The connection's own key, secret and token. None when a role or profile does the signing.

    Raises ConfigurationError for half a pair, which would end as somebody else's credentials.
    """
    legacy = fields.mapping("session_kwargs")
    pairs = {
        "login and password": (fields.login.strip(), fields.password.strip()),
        "aws_access_key_id and aws_secret_access_key": (
            fields.text("aws_access_key_id"),
            fields.text("aws_secret_access_key"),
        ),
        "session_kwargs": tuple(
            str(legacy.get(f"aws_{name}") or "").strip() for name in ("access_key_id", "secret_access_key")
        ),
    }
    key, secret = next((pair for pair in pairs.values() if all(pair)), ("", ""))
    if not key:
        for name, pair in pairs.items():
            if any(pair):
                raise fields.error(name, "must both be set")
    if not key or fields.get("role_arn"):
        return None
    token = fields.text("aws_session_token") or str(legacy.get("aws_session_token") or "").strip()
    if not (key + token).isprintable():  # the client would panic
        raise fields.error("aws_session_token" if key.isprintable() else "login", "holds a character that no key has")
    return StaticCredentials(access_key_id=key, secret_access_key=secret, token=token or None)


def _is_unsigned(fields: ConnectionFields) -> bool:
    version = fields.mapping("config_kwargs").get("signature_version")
    if version in (None, ""):
        return False
    return fields.choice("config_kwargs.signature_version", version, _SIGNATURES) == "unsigned"


def _from_environment(fields: ConnectionFields) -> _Source:
    """The default chain: the client's own where it has all it takes, boto3 for profiles and SSO."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        if not os.environ.get(name, "").isprintable():  # a line's end, as secrets out of files have it
            raise fields.error(f"the variable {name}", "holds a character that no key has")
    if any(os.environ.get(name) for name in _CLIENT_VARIABLES):
        return _Source()
    if "AWS_PROFILE" in os.environ or any(name in _profile() for name in _PROFILE_SOURCES):
        profile = os.environ.get("AWS_PROFILE") or "default"
        needs = f"has its AWS credentials in profile {profile!r} and needs boto3"
        return _from_session(fields, fields.library("boto3", needs=needs, extra="amazon").session.Session)
    if os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        raise fields.no_credentials("AWS", needed=_NEEDED)
    return _Source()


def _from_session(fields: ConnectionFields, make_session: Callable[[], Any]) -> _Source:
    """What a boto3 session gives. Assuming a role asks STS at once."""
    with fields.mapped_errors():
        session = make_session()
        credentials = session.get_credentials()
    if credentials is None:
        raise fields.no_credentials("AWS", needed=_NEEDED)
    return _Source(RenewedCredentials(fields, partial(_frozen, credentials)), session.region_name)


def _frozen(credentials: Any) -> Mapping[str, Any]:
    frozen = credentials.get_frozen_credentials()
    # botocore has no public name for it, and other credential classes have none at all.
    expires = getattr(credentials, "_expiry_time", None)
    if not isinstance(expires, datetime):
        expires = datetime.now(timezone.utc) + _UNKNOWN_LIFE
    return {
        "access_key_id": frozen.access_key,
        "secret_access_key": frozen.secret_key,
        "token": frozen.token,
        "expires_at": expires.astimezone(timezone.utc),
    }


def _profile() -> dict[str, str]:
    """The environment's profile in the two shared files. An unreadable file counts as empty: boto3 will complain."""
    name = os.environ.get("AWS_PROFILE") or "default"
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


# --- addresses


def _region(fields: ConnectionFields) -> str:
    options, legacy = fields.mapping("config_kwargs"), fields.mapping("session_kwargs")
    region = fields.text("region_name") or options.get("region_name") or legacy.get("region_name")
    return str(region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "").strip()


def _addressing(fields: ConnectionFields, region: str) -> dict[str, Any]:
    """Endpoint and style: buckets in the path for an endpoint of one's own, in the host name for AWS."""
    bucket = fields.root.bucket
    style = fields.mapping("config_kwargs.s3").get("addressing_style")
    style = "auto" if style is None else fields.choice("config_kwargs.s3.addressing_style", style, _STYLES)
    own_endpoint = _own_endpoint(fields)
    endpoint = own_endpoint or _aws_endpoint(fields, region)
    if style == "auto":
        style = "virtual" if not own_endpoint and _VIRTUAL_HOST.fullmatch(bucket) else "path"
    if "s3-accelerate" in endpoint:
        style = "virtual"
    if not endpoint:
        return {"virtual_hosted_style_request": style == "virtual"}
    if style == "virtual":
        endpoint = _with_bucket(fields, endpoint, bucket)
    # The last name is what AWS_ENDPOINT_URL_S3 sets, which would win over the one before.
    return {
        "virtual_hosted_style_request": style == "virtual",
        "endpoint": endpoint,
        "aws_endpoint_url_s3": endpoint,
    }


def _own_endpoint(fields: ConnectionFields) -> str:
    """The endpoint of connection or environment; "" for AWS itself."""
    service = fields.mapping("service_config.s3")
    if "endpoint_url" in service:
        value = service["endpoint_url"]
        return fields.url("service_config.s3.endpoint_url", value) if value else ""
    for name in ("endpoint_url", "host"):
        if fields.get(name):
            return fields.url(name, fields.get(name))
    if fields.host:
        # The official hook ignores the field too: values meant for another store would go to Amazon.
        hint = 'Write the endpoint into its extra: {"endpoint_url": "https://HOST:PORT"}.'
        raise fields.error("host", "is not read in a connection of type aws", hint=hint)
    for name in _ENDPOINT_VARIABLES:
        if os.environ.get(name):
            return fields.url(name, os.environ[name])
    return ""


def _aws_endpoint(fields: ConnectionFields, region: str) -> str:
    """AWS's own endpoint where the client would not find it: other partitions, dual stack, FIPS, acceleration."""
    options, s3_options = fields.mapping("config_kwargs"), fields.mapping("config_kwargs.s3")
    dual = ".dualstack" if options.get("use_dualstack_endpoint") or s3_options.get("use_dualstack_endpoint") else ""
    fips = "-fips" if options.get("use_fips_endpoint") else ""
    domain = next((domain for start, domain in _PARTITIONS.items() if region.startswith(start)), "amazonaws.com")
    if s3_options.get("use_accelerate_endpoint"):
        return f"https://s3-accelerate{dual}.{domain}"
    # The client reads these variables itself, also when the connection says that it is to be AWS.
    is_overridden = any(os.environ.get(name) for name in _ENDPOINT_VARIABLES)
    if not dual and not fips and domain == "amazonaws.com" and not is_overridden:
        return ""
    return f"https://s3{fips}{dual}.{region}.{domain}"


def _with_bucket(fields: ConnectionFields, endpoint: str, bucket: str) -> str:
    host = urlsplit(endpoint).hostname or ""
    if host.startswith(f"{bucket}."):
        return endpoint
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return endpoint.replace("://", f"://{bucket}.", 1)
    raise fields.error("config_kwargs.s3.addressing_style", "cannot be virtual for an endpoint that is an IP address")


# --- requests


def _upload(fields: ConnectionFields) -> dict[str, Any]:
    """Encryption and other upload arguments of ``extra_args`` and ``service_config.s3``, as client options."""
    extra_args = fields.mapping("extra_args")
    unknown = sorted(set(extra_args) - set(_UPLOAD))
    if unknown:
        raise fields.error("extra_args", f"may hold {', '.join(_UPLOAD)}; not {', '.join(unknown)}")
    service = {name: value for name, value in fields.mapping("service_config.s3").items() if name in _UPLOAD}
    arguments = {**service, **extra_args}
    if "ServerSideEncryption" in arguments:
        fields.choice("ServerSideEncryption", arguments["ServerSideEncryption"], _ENCRYPTIONS)
    if "ChecksumAlgorithm" in arguments:
        fields.choice("ChecksumAlgorithm", arguments["ChecksumAlgorithm"], _CHECKSUMS)
    if "SSEKMSKeyId" in arguments and not str(arguments.get("ServerSideEncryption", "")).startswith("aws:kms"):
        raise fields.error("SSEKMSKeyId", "needs ServerSideEncryption aws:kms or aws:kms:dsse")
    return {_UPLOAD[name]: value for name, value in arguments.items()}


def _tls(fields: ConnectionFields, endpoint: str) -> dict[str, Any]:
    """``verify``: false, or a PEM file trusted in addition to the system's. Else AWS_CA_BUNDLE. Nothing for http."""
    verify = fields.get("verify")
    if isinstance(verify, str) and verify.lower() in ("true", "false"):
        verify = verify.lower() == "true"
    if verify is False:
        return {"allow_invalid_certificates": True}
    if isinstance(verify, str):
        return {"root_certificate": fields.pem("verify", verify)}
    if verify not in (None, True):
        raise fields.error("verify", "must be true, false or the path of a PEM file")
    bundle = os.environ.get("AWS_CA_BUNDLE")
    if bundle and not endpoint.startswith("http://"):
        return {"root_certificate": fields.pem("(from the environment) AWS_CA_BUNDLE", bundle)}
    return {}


def _proxy(fields: ConnectionFields, endpoint: str) -> dict[str, Any]:
    """Proxy of ``config_kwargs``. Without ``proxies`` the client reads HTTP(S)_PROXY and NO_PROXY."""
    proxy = fields.mapping("config_kwargs.proxies").get("http" if endpoint.startswith("http://") else "https")
    if not proxy:
        return {}
    text = str(proxy) if "://" in str(proxy) else f"http://{proxy}"
    client = {"proxy_url": fields.url("config_kwargs.proxies", text, may_log_in=True)}
    bundle = fields.mapping("config_kwargs.proxies_config").get("proxy_ca_bundle")
    if bundle:
        client["proxy_ca_certificate"] = fields.pem("config_kwargs.proxies_config.proxy_ca_bundle", str(bundle))
    return client


def _timeouts(fields: ConnectionFields) -> dict[str, Any]:
    options = fields.mapping("config_kwargs")
    if options.get("client_cert"):
        raise fields.error("config_kwargs.client_cert", "cannot be used; client certificates are not supported")
    client = {}
    for name in ("connect_timeout", "read_timeout"):
        seconds = options.get(name)
        if seconds is None:
            continue
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds < math.inf:
            raise fields.error(f"config_kwargs.{name}", "must be a number of seconds above 0")
        client[name] = f"{round(seconds * 1000)}ms"
    return client
