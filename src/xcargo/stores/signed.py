"""URLs for one object, one method and a short time, signed here without a request.

S3's by obstore. Azure's by hand: obstore signs the key as it stands in the URL, where the service expects it as it is,
so every key with a character that URLs quote is refused, as ours are. Google's by obstore, with the key of a service
account: other credentials would have to ask Google to sign.
"""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, Literal
from urllib.parse import quote, unquote, urlencode, urlsplit

from xcargo.root import Root

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
) -> str | None:
    """The URL, or None without credentials that can sign here.

    ``by_client`` signs with obstore; ``credentials`` are what the connection gives beside its ``config``.
    """
    if config.get("skip_signature"):
        return None
    if root.scheme == "s3":
        return by_client(method, key, life)
    name = f"{root.prefix}/{key}" if root.prefix else key
    if root.scheme == "az":
        return _azure(root, name, config, credentials, method, life)
    account = json.loads(config.get("service_account_key") or "{}")
    if root.scheme != "gs" or not account.get("private_key") or account.get("disable_oauth"):
        return None
    # obstore puts the key into the URL as it is: one with ``%`` would name another object.
    url = by_client(method, quote(key), life)
    return url if unquote(urlsplit(url).path).endswith(f"/{root.bucket}/{name}") else None


def _azure(
    root: Root, name: str, config: Mapping[str, Any], credentials: Mapping[str, Any], method: Method, life: timedelta
) -> str | None:
    """https://learn.microsoft.com/rest/api/storageservices/create-service-sas"""
    account = str(config.get("account_name") or root.account or "")
    base = str(config.get("endpoint") or f"https://{account}.blob.core.windows.net").rstrip("/")
    url = f"{base}/{root.bucket}/{quote(name)}"
    if token := credentials.get("sas_token"):
        return f"{url}?{token}"
    secret = credentials.get("access_key")
    if not secret or not account:
        return None
    until = (datetime.now(timezone.utc) + life).strftime("%Y-%m-%dT%H:%M:%SZ")
    rights, blob = _AZURE_RIGHTS[method], f"/blob/{account}/{root.bucket}/{name}"
    told = [rights, "", until, blob, "", "", "", _AZURE_VERSION, "b", "", "", "", "", "", "", ""]
    digest = hmac.digest(base64.b64decode(str(secret)), "\n".join(told).encode(), "sha256")
    query = {"sv": _AZURE_VERSION, "sr": "b", "sp": rights, "se": until, "sig": base64.b64encode(digest).decode()}
    return f"{url}?{urlencode(query)}"
