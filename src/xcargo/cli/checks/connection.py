"""The connection: is it defined, does it give credentials, for how long, and does the endpoint answer."""

from __future__ import annotations

import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Any
from urllib.parse import parse_qs, urlsplit

from xcargo.airflow.connections import access_of
from xcargo.cli.checks import Finding, Status, failed, failure, ok, warning
from xcargo.cli.deployment import get_connection
from xcargo.errors import XCargoError
from xcargo.model.root import Root
from xcargo.stores.base import Access

__all__ = ["clock", "credentials", "endpoint_of", "is_loopback", "reach", "resolve"]

_SKEW_REFUSED_SECONDS = 15 * 60
"""What AWS, Google Cloud and Azure all still take."""
_SKEW_SUSPECT_SECONDS = 60
_SOON_SECONDS = 24 * 3600
_CLOUD_SCHEMES = ("s3", "gs", "az")


def resolve(root: Root) -> tuple[Finding, Access | None]:
    """The access that the root's connection gives, or why it gives none."""
    name = "connection.resolves"
    variable = f"AIRFLOW_CONN_{(root.connection_id or '').upper()}"
    try:
        access = access_of(root, get_connection)
    except XCargoError as error:
        return failure(name, error), None
    except Exception as error:  # a secrets backend or a provider of anyone's
        what = f"Connection {root.connection_id!r} cannot be read: {type(error).__name__}: {error}"
        return failed(name, what[:500], fix="Correct the secrets backend or the provider."), None
    if root.connection_id is None:
        what = "The path names no connection; the environment's default credentials count"
        return ok(name, what if root.scheme in _CLOUD_SCHEMES else "No connection is needed"), access
    origin = f"variable {variable}" if variable in os.environ else "a secrets backend or the metadata database"
    return ok(name, f"Connection {root.connection_id!r} comes from {origin}"), access


def credentials(access: Access) -> Finding:
    """Whether credentials can be had, and when they expire. May ask the cloud's token service."""
    name = "connection.credentials"
    if access.config.get("skip_signature") in (True, "true"):
        return warning(name, "Requests carry no credentials", fix="Give the connection a key or a role.")
    if access.credentials is None:
        return ok(name, "The client finds or holds its credentials itself; see the requests below")
    started = time.perf_counter()
    try:
        fields = access.credentials()
    except XCargoError as error:
        return failure(name, error)
    milliseconds = (time.perf_counter() - started) * 1000
    expires, is_renewed = _expiry(fields)
    if expires is None:
        return ok(name, "Credentials without an end", milliseconds=milliseconds)
    seconds_left = (expires - datetime.now(timezone.utc)).total_seconds()
    until = f"{expires:%Y-%m-%d %H:%M} UTC ({_duration(seconds_left)})"
    if seconds_left <= 0:
        return failed(name, f"The credentials expired at {until}", fix="Put new ones into the connection.")
    if is_renewed:
        return ok(name, f"Credentials until {until}, renewed by then", milliseconds=milliseconds)
    if seconds_left < _SOON_SECONDS:
        return warning(name, f"The credentials expire at {until}", fix="Put new ones into the connection.")
    return ok(name, f"Credentials until {until}", milliseconds=milliseconds)


def _expiry(fields: Mapping[str, Any]) -> tuple[datetime | None, bool]:
    """When credentials end, and whether they are renewed before."""
    if fields.get("sas_token"):  # a shared access signature says itself until when it holds, and nobody renews it
        end = parse_qs(str(fields["sas_token"])).get("se")
        if end:
            try:
                expires = datetime.fromisoformat(end[0].replace("Z", "+00:00"))
            except ValueError:
                return None, False
            return (expires if expires.tzinfo else expires.replace(tzinfo=timezone.utc)), False
    until = fields.get("expires_at")
    return (until, True) if isinstance(until, datetime) else (None, False)


def endpoint_of(root: Root, access: Access) -> str | None:
    """The URL that requests go to; None for a store without one."""
    config = access.config
    if root.scheme == "s3":
        return str(config.get("endpoint") or f"https://s3.{config.get('region', 'us-east-1')}.amazonaws.com")
    if root.scheme == "gs":
        return str(config.get("base_url") or "https://storage.googleapis.com")
    if root.scheme == "az":
        return str(config.get("endpoint") or f"https://{config.get('account_name')}.blob.core.windows.net")
    return None


def is_loopback(url: str | None) -> bool:
    """Whether the endpoint is on this very machine, as a test server is."""
    host = urlsplit(url or "").hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def reach(url: str, access: Access, *, timeout_seconds: float) -> tuple[Finding, float | None]:
    """Whether the endpoint answers, and by how many seconds this machine's clock is ahead of its clock.

    One request without credentials; any answer will do.
    """
    name = "connection.endpoint"
    request = urllib.request.Request(url, method="HEAD", headers={"User-Agent": "xcargo-doctor"})  # noqa: S310
    opener = _opener(url, access)
    started, sent_at = time.perf_counter(), time.time()
    try:
        with opener.open(request, timeout=timeout_seconds) as answer:
            headers = answer.headers
    except urllib.error.HTTPError as error:
        with error:
            headers = error.headers
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        what = f"{url} does not answer: {getattr(reason, 'strerror', None) or reason}"
        fix = "Check the endpoint's name and port, firewall, proxy (HTTPS_PROXY, NO_PROXY) and certificates."
        return failed(name, what, fix=fix), None
    except HTTPException:
        fix = "Check the endpoint's port, and whether its URL begins with http or https."
        return failed(name, f"What answers at {url} does not speak HTTP", fix=fix), None
    seconds = time.perf_counter() - started
    finding = ok(name, f"{url} answers", milliseconds=seconds * 1000)
    try:
        server_time = parsedate_to_datetime(headers["Date"]).timestamp()
    except (TypeError, ValueError):
        return finding, None
    return finding, sent_at + seconds / 2 - server_time - 0.5  # its second is cut off: half of one on average


def clock(skew_seconds: float | None) -> Finding:
    """Whether this machine's clock agrees with the store's, which signatures and sweeps rest on."""
    name = "connection.clock"
    if skew_seconds is None:
        return Finding(name, Status.SKIPPED, "The endpoint does not send its time")
    off = abs(skew_seconds)
    what = f"This machine's clock is {_duration(off)} {'ahead of' if skew_seconds > 0 else 'behind'} the store's"
    fix = "Synchronise this machine's clock (chrony, systemd-timesyncd, the host of the container)."
    if off >= _SKEW_REFUSED_SECONDS:
        return failed(name, f"{what}: requests are refused", fix=fix)
    if off >= _SKEW_SUSPECT_SECONDS:
        return warning(name, what, fix=fix)
    return ok(name, f"Clocks agree within {max(1, round(off))} s")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Where an endpoint sends browsers, workers need not reach."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _opener(url: str, access: Access) -> urllib.request.OpenerDirector:
    """An HTTP client with the proxy and the certificates that the store's client uses."""
    handlers: list[Any] = [_NoRedirect()]
    if url.startswith("https:"):
        context = ssl.create_default_context()
        certificate = access.client.get("root_certificate")
        if certificate:
            context.load_verify_locations(cadata=str(certificate))
        if access.client.get("allow_invalid_certificates"):
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        handlers.append(urllib.request.HTTPSHandler(context=context))
    proxy = access.client.get("proxy_url")
    if proxy:
        handlers.append(urllib.request.ProxyHandler({"http": str(proxy), "https": str(proxy)}))
    return urllib.request.build_opener(*handlers)


def _duration(seconds: float) -> str:
    """Seconds in the unit that a person would use."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if abs(seconds) >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
