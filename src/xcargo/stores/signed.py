"""URLs for one object, one method and a short time, signed here without a request.

Azure's by hand: obstore signs the key as it stands in the URL, where the service expects it as it is, so every key with
a character that URLs quote is refused, as ours are. S3's by obstore, which finds keys where nobody else does; by hand
for a browser, which is to be told a name, if the keys are known here. Google's by obstore, with the key of a service
account: other credentials would have to ask Google to sign.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Literal
from urllib.parse import quote, unquote, urlencode, urlsplit

from xcargo.model.root import Root

__all__ = ["Method", "signed_url"]

Method = Literal["GET", "HEAD", "PUT", "DELETE"]

_AZURE_VERSION = "2020-12-06"
_AZURE_RIGHTS: Mapping[Method, str] = {"GET": "r", "HEAD": "r", "PUT": "cw", "DELETE": "d"}


def signed_url(
    root: Root,
    config: Mapping[str, Any],
    credentials: Mapping[str, Any],
    by_client: Callable[[Method, str, timedelta], str],
    method: Method,
    key: str,
    life: timedelta,
    disposition: str = "",
) -> str | None:
    """The URL, or None without credentials that can sign here.

    ``by_client`` signs with obstore; ``credentials`` are what the connection gives beside its ``config``. The store
    answers with ``disposition`` as the header Content-Disposition, unless ``by_client`` had to sign.
    """
    if config.get("skip_signature"):
        return None
    name = f"{root.prefix}/{key}" if root.prefix else key
    wanted = _Wanted(root, name, method, life, disposition)
    if root.scheme == "s3":
        if not disposition or not credentials.get("secret_access_key"):
            return by_client(method, key, life)
        return _s3(wanted, config, credentials, datetime.now(timezone.utc))
    if root.scheme == "az":
        return _azure(wanted, config, credentials, datetime.now(timezone.utc))
    account = json.loads(config.get("service_account_key") or "{}")
    if root.scheme != "gs" or not account.get("private_key") or account.get("disable_oauth"):
        return None
    # obstore puts the key into the URL as it is: one with ``%`` would name another object.
    url = by_client(method, quote(key), life)
    return url if unquote(urlsplit(url).path).endswith(f"/{root.bucket}/{name}") else None


@dataclass(frozen=True)
class _Wanted:
    """What a URL is to allow."""

    root: Root
    name: str
    """Of the object in its bucket."""
    method: Method
    life: timedelta
    disposition: str


def _s3(wanted: _Wanted, config: Mapping[str, Any], credentials: Mapping[str, Any], now: datetime) -> str:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html"""
    bucket, name = wanted.root.bucket, wanted.name
    region, in_host = str(config.get("region") or "us-east-1"), bool(config.get("virtual_hosted_style_request"))
    usual = f"https://{f'{bucket}.' if in_host else ''}s3.{region}.amazonaws.com"
    endpoint = urlsplit(str(config.get("endpoint") or usual).rstrip("/"))
    host = endpoint.netloc.removesuffix({"https": ":443", "http": ":80"}[endpoint.scheme])  # as browsers tell it
    path = f"{endpoint.path}/{quote(name if in_host else f'{bucket}/{name}')}"
    date, time = now.strftime("%Y%m%d"), now.strftime("%Y%m%dT%H%M%SZ")
    scope = f"{date}/{region}/s3/aws4_request"
    told = {
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"{credentials['access_key_id']}/{scope}",
        "X-Amz-Date": time,
        "X-Amz-Expires": str(int(wanted.life.total_seconds())),
        "X-Amz-Security-Token": credentials.get("token"),
        "X-Amz-SignedHeaders": "host",
        "response-content-disposition": wanted.disposition,
    }
    query = "&".join(f"{field}={quote(value, safe='')}" for field, value in told.items() if value)  # sorted
    request = "\n".join([wanted.method, path, query, f"host:{host}", "", "host", "UNSIGNED-PAYLOAD"])
    digest = hashlib.sha256(request.encode()).hexdigest()
    key = f"AWS4{credentials['secret_access_key']}".encode()
    for part in (date, region, "s3", "aws4_request", "\n".join(["AWS4-HMAC-SHA256", time, scope, digest])):
        key = hmac.digest(key, part.encode(), "sha256")
    return f"{endpoint.scheme}://{host}{path}?{query}&X-Amz-Signature={key.hex()}"


def _azure(wanted: _Wanted, config: Mapping[str, Any], credentials: Mapping[str, Any], now: datetime) -> str | None:
    """https://learn.microsoft.com/rest/api/storageservices/create-service-sas"""
    bucket, name = wanted.root.bucket, wanted.name
    account = str(config.get("account_name") or wanted.root.account or "")
    base = str(config.get("endpoint") or f"https://{account}.blob.core.windows.net").rstrip("/")
    url = f"{base}/{bucket}/{quote(name)}"
    if token := credentials.get("sas_token"):
        return f"{url}?{token}"
    secret = credentials.get("access_key")
    if not secret or not account:
        return None
    until = (now + wanted.life).strftime("%Y-%m-%dT%H:%M:%SZ")
    rights, blob = _AZURE_RIGHTS[wanted.method], f"/blob/{account}/{bucket}/{name}"
    told = [rights, "", until, blob, "", "", "", _AZURE_VERSION, "b", "", "", "", wanted.disposition, "", "", ""]
    digest = hmac.digest(base64.b64decode(str(secret)), "\n".join(told).encode(), "sha256")
    query = {"sv": _AZURE_VERSION, "sr": "b", "sp": rights, "se": until, "sig": base64.b64encode(digest).decode()}
    if wanted.disposition:
        query["rscd"] = wanted.disposition
    return f"{url}?{urlencode(query)}"
