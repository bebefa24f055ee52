"""One plain HTTP call, for the clients that reach a store without the product's library."""

from __future__ import annotations

import http.client
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class Reply:
    """A whole reply; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def call(
    endpoint: str,
    method: str,
    target: str,
    headers: Mapping[str, str] | None = None,
    body: bytes | Iterable[bytes] = b"",
) -> Reply:
    """Send one request on a connection of its own. Raises OSError when there is no reply.

    An iterable body needs a Content-Length among the headers.
    """
    link = http.client.HTTPConnection(urlsplit(endpoint).netloc, timeout=_TIMEOUT_SECONDS)
    try:
        link.request(method, target, body=body, headers=dict(headers or {}))
        reply = link.getresponse()
        fields = {name.lower(): value for name, value in reply.getheaders()}
        return Reply(reply.status, fields, reply.read())
    except http.client.HTTPException as error:
        raise ConnectionError(f"no HTTP reply from {endpoint}: {error!r}") from error
    finally:
        link.close()


def expect(reply: Reply, *statuses: int) -> Reply:
    """The reply itself if its status is one of these.

    Raises FileNotFoundError on any other 404, else OSError with the beginning of the body.
    """
    if reply.status in statuses:
        return reply
    message = f"HTTP {reply.status}: {reply.body[:500]!r}"
    raise FileNotFoundError(message) if reply.status == 404 else OSError(message)


def quote_key(key: str) -> str:
    """An object key as a URL path: slashes stay, everything but A-Z a-z 0-9 - _ . ~ is quoted."""
    return quote(key, safe="/-_.~")


def quote_all(text: str) -> str:
    """Text as a single URL path segment or query value."""
    return quote(text, safe="-_.~")
