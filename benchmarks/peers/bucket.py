"""The bucket behind a client's back, on the S3 server that keeps objects in memory."""

from __future__ import annotations

import http.client
import json
import os
import re
from urllib.parse import quote, urlsplit
from xml.sax.saxutils import unescape

__all__ = ["Traffic", "delete", "flip", "sizes"]

_ROW = re.compile(r"<Key>([^<]*)</Key><Size>(\d+)</Size>")


def sizes() -> dict[str, int]:
    """The objects of this run with their sizes."""
    prefix = json.loads(os.environ["BENCHMARKS_RAW"])["prefix"]
    listing = _ask("GET", f"?list-type=2&max-keys=1000000&prefix={prefix}")
    return {unescape(key): int(size) for key, size in _ROW.findall(listing)}


class Traffic:
    """Counts what reaches the server from now on."""

    def __init__(self) -> None:
        self._start = _traffic()

    def metrics(self, verb: str) -> dict[str, float]:
        """Requests, and bytes sent and received, heads included; not those of the counting itself."""
        requests, sent, received = (now - then for now, then in zip(_traffic(), self._start, strict=True))
        return {f"{verb}_requests": requests - 1, f"{verb}_sent_bytes": sent, f"{verb}_received_bytes": received}


def _traffic() -> list[int]:
    return [int(number) for number in _ask("GET", "?traffic").split()]


def delete(key: str) -> None:
    """Delete an object."""
    _ask("DELETE", f"/{quote(key)}")


def flip(key: str, offset: int) -> None:
    """Flip a bit of an object where it is stored; the same again mends it."""
    _ask("POST", f"/{quote(key)}?flip={offset}")


def _ask(method: str, target: str) -> str:
    where = json.loads(os.environ["BENCHMARKS_RAW"])
    link = http.client.HTTPConnection(urlsplit(where["endpoint"]).netloc, timeout=60)
    link.request(method, f"/{where['bucket']}{target}")
    reply = link.getresponse()
    text = reply.read().decode()
    link.close()
    if reply.status >= 300:
        raise OSError(f"{method} {target}: {reply.status} {text[:200]}")
    return text
