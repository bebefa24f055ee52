"""Requests to a store that said it is busy, by signed URLs over plain connections.

obstore hands on a status and a body and no header, so what a store asks for in ``Retry-After`` is not seen there. For a
minute after such an answer requests go this way, where it is: on S3, on Azure with an account key or a signature, and
on Google Cloud Storage with the key of a service account.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from email.message import Message
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from xcargo.errors import StoreUnavailableError
from xcargo.model.root import Root
from xcargo.stores.base import Access
from xcargo.stores.direct import may_sign, tls
from xcargo.stores.retry import retry_after_seconds
from xcargo.stores.signed import Method
from xcargo.types import Buffer

__all__ = ["Answer", "HeedfulRequests"]

_HEED_SECONDS = 60.0
_PIECE_BYTES = 1024 * 1024
"""After so many bytes the clock is looked at."""
_LIFE = timedelta(seconds=120)
_SSE = ("sse", "server_side")
"""Beginnings of options that ask for headers which a PUT by a signed URL does not carry."""

_KIND = {"az": {"x-ms-blob-type": "BlockBlob"}}
"""What a PUT has to say by scheme."""

Sign = Callable[[Method, str, timedelta], str | None]


class Answer:
    """What a store gave to a request that it carried out."""

    def __init__(self, headers: Message, body: bytes) -> None:
        self.body = body
        self.size_bytes = int(headers.get("Content-Length") or 0)
        self.e_tag: str | None = headers.get("ETag")
        modified = headers.get("Last-Modified")
        self.last_modified: datetime | None = parsedate_to_datetime(modified) if modified else None


class HeedfulRequests:
    """Requests while a store is busy: nothing else, and nothing is spent on it, until ``heed`` is called.

    An answer that is neither what was asked for nor busy explains nothing; then the caller asks by other means. After
    no answer at all the store is taken for one that is not busy. Methods may be called from many threads.
    """

    def __init__(self, root: Root, access: Access, sign: Sign, quiet_seconds: float) -> None:
        self._root = root
        self._access = access
        self._sign = sign
        self._quiet_seconds = quiet_seconds
        self._until = 0.0

    def heed(self) -> None:
        """The store said that it is busy."""
        self._until = time.monotonic() + _HEED_SECONDS

    def ask(
        self, method: Method, key: str, seconds: float, span: tuple[int, int | None] | None = None
    ) -> Answer | None:
        """GET, HEAD or DELETE. None if it is refused. Raises StoreUnavailableError if still busy."""
        if span is None:
            return self._request(method, key, seconds, {})
        last = "" if span[1] is None else span[1] - 1
        return self._request(method, key, seconds, {"Range": f"bytes={span[0]}-{last}"}, expected=(206,))

    def put(self, key: str, parts: Sequence[Buffer], seconds: float) -> bool:
        """Whether the object was put, replacing one that is there. Raises StoreUnavailableError, as above."""
        if not self._heeds() or any(name.removeprefix("aws_").startswith(_SSE) for name in self._access.config):
            return False
        headers = {"Content-Length": str(sum(map(len, parts))), **_KIND.get(self._root.scheme, {})}
        return self._request("PUT", key, seconds, headers, parts, expected=(200, 201)) is not None

    def _heeds(self) -> bool:
        return time.monotonic() < self._until

    def _request(
        self,
        method: Method,
        key: str,
        seconds: float,
        headers: Mapping[str, str],
        parts: Sequence[Buffer] = (),
        expected: Sequence[int] = (200, 202, 204),
    ) -> Answer | None:
        if not self._heeds() or not may_sign(self._root, self._access, "s3", "az", "gs"):
            return None
        deadline = time.monotonic() + seconds
        try:
            signed = self._sign(method, key, _LIFE)
        except Exception:  # the caller's own request will tell
            return None
        if signed is None:
            return None
        url = urlsplit(signed)
        quiet = min(seconds, self._quiet_seconds)
        if url.scheme == "https":
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                url.netloc, timeout=quiet, context=tls()
            )
        else:
            connection = http.client.HTTPConnection(url.netloc, timeout=quiet)
        told = {"User-Agent": "xcargo", **headers}
        try:
            connection.request(method, f"{url.path}?{url.query}", _in_time(parts, deadline) if parts else None, told)
            reply = connection.getresponse()
            body = _body(reply, deadline)
        except Exception as error:
            self._until = 0.0
            lost = StoreUnavailableError(
                f"The store did not do its work: {type(error).__name__}",
                where=self._root.uri(key),
                hint="Check that this machine reaches the endpoint, then let Airflow retry the task.",
            )
            lost.lost = True
            raise lost from None
        finally:
            connection.close()
        if reply.status in expected:
            return Answer(reply.headers, body)
        status, asked = reply.status, retry_after_seconds(reply.headers.get("Retry-After"))
        if status not in (429, 503):
            return None
        self.heed()
        busy = StoreUnavailableError(
            f"The store is busy: status code {status}" + ("" if asked is None else f", Retry-After {asked:.0f} s"),
            where=self._root.uri(key),
            hint="It answers so to too many requests. Let Airflow retry the task, or spread the load.",
        )
        busy.busy, busy.retry_after_seconds = True, asked
        raise busy


def _in_time(parts: Sequence[Buffer], deadline: float) -> Iterator[Buffer]:
    for part in parts:
        if time.monotonic() > deadline:
            raise TimeoutError
        yield part


def _body(reply: http.client.HTTPResponse, deadline: float) -> bytes:
    pieces = []
    while piece := reply.read1(_PIECE_BYTES):
        pieces.append(piece)
        if time.monotonic() > deadline:
            raise TimeoutError
    if reply.length:
        raise http.client.IncompleteRead(b"", reply.length)
    return b"".join(pieces)
