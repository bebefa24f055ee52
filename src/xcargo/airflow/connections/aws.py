"""Connections of type ``aws``: Amazon S3 and what speaks its protocol.

Keys given by the connection travel as a credentials callable, not as client options: an environment's
``AWS_SESSION_TOKEN`` would otherwise be sent along with them.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from xcargo.airflow.connections import aws_chain
from xcargo.airflow.connections.fields import Fields, pem, url
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

_UPLOAD = {
    "ServerSideEncryption": "server_side_encryption",
    "SSEKMSKeyId": "sse_kms_key_id",
    "BucketKeyEnabled": "sse_bucket_key_enabled",
    "RequestPayer": "request_payer",
    "ChecksumAlgorithm": "checksum_algorithm",
}
"""Names of boto3's upload arguments -> the client's options."""


def access(fields: Fields) -> Access:
    """Access to an S3 root.

    With key and secret in the connection nothing else is imported or asked. Role, profile, or a connection without
    keys: the official hook's session, asked again before its credentials expire. No connection: keys, web identity,
    container or instance role of the environment by the client itself, profiles and SSO by boto3.
    """
    fields.require_type(_TYPES)
    if fields.connection is not None and fields.get("role_arn"):
        fields.choice("assume_role_method", fields.get("assume_role_method") or "assume_role", _ASSUME_ROLE)
    options = fields.mapping("config_kwargs")
    s3_options = _object(fields, "config_kwargs.s3", options.get("s3"))
    service = _object(fields, "service_config.s3", fields.mapping("service_config").get("s3"))

    region = _region(fields, options)
    if _is_unsigned(fields, options):
        chain = aws_chain.Chain(None, None)
    elif keys := _keys(fields):
        chain = aws_chain.Chain(_Static(keys), None)
    elif fields.connection is not None:
        chain = aws_chain.of_hook(fields)
    else:
        chain = aws_chain.of_environment(fields)
    region = region or chain.region or aws_chain.profile_region() or "us-east-1"

    config: dict[str, Any] = {"region": region}
    if chain.credentials is not None:
        # The environment's AWS_SKIP_SIGNATURE would send requests without them.
        config["skip_signature"] = False
    elif _is_unsigned(fields, options):
        config["skip_signature"] = True
    config.update(_addressing(fields, service, options, s3_options, region))
    if s3_options.get("payload_signing_enabled") is not None:
        config["unsigned_payload"] = not s3_options["payload_signing_enabled"]
    config.update(_upload(fields, service))
    endpoint = config.get("endpoint", "")
    client = {**_tls(fields, endpoint), **_http(fields, options, endpoint)}
    return Access(config=config, client=client, credentials=chain.credentials)


class _Static:
    """Keys that do not expire."""

    def __init__(self, keys: tuple[str, str, str]) -> None:
        self._keys = keys

    def __call__(self) -> Mapping[str, Any]:
        key, secret, token = self._keys
        return {"access_key_id": key, "secret_access_key": secret, "token": token or None, "expires_at": None}


def _keys(fields: Fields) -> tuple[str, str, str] | None:
    """Key, secret and token that the connection itself gives for signing. None when a role or profile does the signing.

    Raises ConfigurationError for half a pair, which would end as somebody else's credentials.
    """
    legacy = fields.mapping("session_kwargs")
    pairs = [
        ("login and password", fields.login, fields.password),
        ("aws_access_key_id and aws_secret_access_key", *_texts(fields, "aws_access_key_id", "aws_secret_access_key")),
        ("session_kwargs", str(legacy.get("aws_access_key_id", "")), str(legacy.get("aws_secret_access_key", ""))),
    ]
    pair = next(((key, secret) for _, key, secret in pairs if key and secret), None)
    if pair is None:
        for name, key, secret in pairs:
            if key or secret:
                raise fields.error(name, "must both be given")
        return None
    if fields.get("role_arn"):
        return None
    return (*pair, fields.text("aws_session_token") or str(legacy.get("aws_session_token") or ""))


def _texts(fields: Fields, *names: str) -> tuple[str, ...]:
    return tuple(fields.text(name) for name in names)


def _is_unsigned(fields: Fields, options: Mapping[str, Any]) -> bool:
    version = options.get("signature_version")
    if version in (None, ""):
        return False
    return fields.choice("config_kwargs.signature_version", version, _SIGNATURES) == "unsigned"


def _region(fields: Fields, options: Mapping[str, Any]) -> str:
    legacy = fields.mapping("session_kwargs")
    found = fields.text("region_name") or options.get("region_name") or legacy.get("region_name")
    return str(found or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "")


def _addressing(
    fields: Fields,
    service: Mapping[str, Any],
    options: Mapping[str, Any],
    s3_options: Mapping[str, Any],
    region: str,
) -> dict[str, Any]:
    """Endpoint and style: buckets in the path for an endpoint of one's own, in the host name for AWS."""
    style = s3_options.get("addressing_style")
    style = "auto" if style is None else fields.choice("config_kwargs.s3.addressing_style", style, _STYLES)
    endpoint = _endpoint(fields, service)
    own = bool(endpoint)
    endpoint = endpoint or _aws_endpoint(options, s3_options, region)
    if style == "auto":
        style = "virtual" if not own and _VIRTUAL_HOST.fullmatch(fields.root.bucket) else "path"
    if "s3-accelerate" in endpoint:
        style = "virtual"
    if endpoint and style == "virtual":
        endpoint = _with_bucket(fields, endpoint, fields.root.bucket)
    found: dict[str, Any] = {"virtual_hosted_style_request": style == "virtual"}
    if endpoint:
        # The second name is what AWS_ENDPOINT_URL_S3 sets, which would win over the first.
        found.update(endpoint=endpoint, aws_endpoint_url_s3=endpoint)
    return found


def _endpoint(fields: Fields, service: Mapping[str, Any]) -> str:
    """An endpoint that connection or environment give; "" for AWS itself."""
    if "endpoint_url" in service:
        value = service["endpoint_url"]
        return url(fields, "service_config.s3.endpoint_url", value) if value else ""
    for name in ("endpoint_url", "host"):
        if fields.get(name):
            return url(fields, name, fields.get(name))
    for name in _ENDPOINT_VARIABLES:
        if os.environ.get(name):
            return url(fields, name, os.environ[name])
    return ""


def _aws_endpoint(options: Mapping[str, Any], s3_options: Mapping[str, Any], region: str) -> str:
    """AWS's own endpoint where the client would not find it: other partitions, dual stack, FIPS, acceleration."""
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


def _with_bucket(fields: Fields, endpoint: str, bucket: str) -> str:
    parts = urlsplit(endpoint)
    host = parts.hostname or ""
    if host.startswith(f"{bucket}."):
        return endpoint
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return endpoint.replace("://", f"://{bucket}.", 1)
    raise fields.error("config_kwargs.s3.addressing_style", "cannot be virtual for an endpoint that is an IP address")


def _upload(fields: Fields, service: Mapping[str, Any]) -> dict[str, Any]:
    """Encryption and other upload arguments of ``extra_args`` and ``service_config.s3``, as client options."""
    given = {name: value for name, value in service.items() if name in _UPLOAD}
    extra_args = fields.mapping("extra_args")
    unknown = sorted(set(extra_args) - set(_UPLOAD))
    if unknown:
        raise fields.error("extra_args", f"may hold {', '.join(_UPLOAD)}; not {', '.join(unknown)}")
    given.update(extra_args)
    if "ServerSideEncryption" in given:
        fields.choice("ServerSideEncryption", given["ServerSideEncryption"], _ENCRYPTIONS)
    if "ChecksumAlgorithm" in given:
        fields.choice("ChecksumAlgorithm", given["ChecksumAlgorithm"], _CHECKSUMS)
    if "SSEKMSKeyId" in given and not str(given.get("ServerSideEncryption", "")).startswith("aws:kms"):
        raise fields.error("SSEKMSKeyId", "needs ServerSideEncryption aws:kms or aws:kms:dsse")
    return {_UPLOAD[name]: value for name, value in given.items()}


def _tls(fields: Fields, endpoint: str) -> dict[str, Any]:
    """``verify``: false, or a PEM file trusted in addition to the system's. Else AWS_CA_BUNDLE. Nothing for http."""
    verify = fields.get("verify")
    if isinstance(verify, str) and verify.lower() in ("true", "false"):
        verify = verify.lower() == "true"
    if verify is False:
        return {"allow_invalid_certificates": True}
    if isinstance(verify, str):
        return {"root_certificate": pem(fields, "verify", verify)}
    if verify not in (None, True):
        raise fields.error("verify", "must be true, false or the path of a PEM file")
    bundle = os.environ.get("AWS_CA_BUNDLE")
    if bundle and not endpoint.startswith("http://"):
        return {"root_certificate": pem(fields, "(from the environment) AWS_CA_BUNDLE", bundle)}
    return {}


def _http(fields: Fields, options: Mapping[str, Any], endpoint: str) -> dict[str, Any]:
    """Proxy and time limits of ``config_kwargs``. Without ``proxies`` the client reads HTTP(S)_PROXY and NO_PROXY."""
    if options.get("client_cert"):
        raise fields.error("config_kwargs.client_cert", "cannot be used; client certificates are not supported")
    client: dict[str, Any] = {}
    proxies = _object(fields, "config_kwargs.proxies", options.get("proxies"))
    proxy = proxies.get("http" if endpoint.startswith("http://") else "https")
    if proxy:
        text = str(proxy) if "://" in str(proxy) else f"http://{proxy}"
        client["proxy_url"] = url(fields, "config_kwargs.proxies", text, may_log_in=True)
        tls = _object(fields, "config_kwargs.proxies_config", options.get("proxies_config"))
        if tls.get("proxy_ca_bundle"):
            name = "config_kwargs.proxies_config.proxy_ca_bundle"
            client["proxy_ca_certificate"] = pem(fields, name, str(tls["proxy_ca_bundle"]))
    for name in ("connect_timeout", "read_timeout"):
        seconds = options.get(name)
        if seconds is None:
            continue
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or seconds <= 0:
            raise fields.error(f"config_kwargs.{name}", "must be a number of seconds above 0")
        client[name] = f"{round(seconds * 1000)}ms"
    return client


def _object(fields: Fields, name: str, value: Any) -> Mapping[str, Any]:
    if value in (None, ""):
        return {}
    if not isinstance(value, Mapping):
        raise fields.error(name, "must be a JSON object")
    return value
