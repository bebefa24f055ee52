"""What answers of a store come to.

obstore passes most of them on as text: a release of it that words one otherwise fails here, by the answer's name.
"""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from xcargo.errors import (
    AccessDeniedError,
    ConfigurationError,
    IntegrityError,
    ObjectExistsError,
    ObjectNotFoundError,
    RootNotFoundError,
    StoreError,
    StoreUnavailableError,
    XCargoError,
)
from xcargo.model.root import Root
from xcargo.stores.base import Access, Limits
from xcargo.stores.object_store import ObstoreRequests


class Answer(http.server.BaseHTTPRequestHandler):
    """Gives every request the same answer."""

    status = 200
    body = b""

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(self.body)

    do_PUT = do_HEAD = do_GET

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def outcome(port: int, verb: str = "get") -> XCargoError:
    """The error of one request to S3 there."""
    config = {"endpoint": f"http://127.0.0.1:{port}", "access_key_id": "id", "secret_access_key": "c2VjcmV0"}
    requests = ObstoreRequests(Root.parse("s3://conn@bucket/prefix"), Access(config), Limits(5))
    calls: dict[str, Callable[[], object]] = {
        "get": lambda: requests.get("d/k~1", start=5, end=9, seconds=2),
        "head": lambda: requests.head("d/k~1", seconds=2),
        "put": lambda: requests.put("d/k~1", [b"x"], mode="overwrite", seconds=2),
        "create": lambda: requests.put("d/k~1", [b"x"], mode="create", seconds=2),
    }
    with pytest.raises(XCargoError) as caught:
        calls[verb]()
    assert "s3://bucket/prefix/d/k~1" in str(caught.value)
    assert "c2VjcmV0" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("status", "code", "verb", "expected"),
    [
        (404, "NoSuchKey", "get", ObjectNotFoundError),
        (404, "", "head", ObjectNotFoundError),
        (404, "NoSuchBucket", "get", RootNotFoundError),
        (404, "ContainerNotFound", "get", RootNotFoundError),
        (404, "", "put", RootNotFoundError),
        (404, "NoSuchUpload", "put", StoreError),
        (409, "BlobAlreadyExists", "create", ObjectExistsError),
        (412, "PreconditionFailed", "create", ObjectExistsError),
        (401, "", "get", AccessDeniedError),
        (403, "SignatureDoesNotMatch", "put", AccessDeniedError),
        (400, "ExpiredToken", "get", AccessDeniedError),
        (400, "ExpiredTokenException", "get", AccessDeniedError),
        (301, "PermanentRedirect", "get", ConfigurationError),
        (416, "InvalidRange", "get", IntegrityError),
        (400, "InvalidRequest", "put", StoreError),
        (501, "NotImplemented", "put", StoreError),
    ],
)
def test_a_refusal_is_told_apart_from_what_passes(
    port: int, monkeypatch: pytest.MonkeyPatch, status: int, code: str, verb: str, expected: type[XCargoError]
) -> None:
    """Each answer has the class that says what to do; none of these is repeated."""
    monkeypatch.setattr(Answer, "status", status)
    monkeypatch.setattr(Answer, "body", f"<Error><Code>{code}</Code></Error>".encode() if code else b"")
    assert type(outcome(port, verb)) is expected


def test_a_wrong_clock_is_named_in_the_message_itself(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task's log may show no more than that."""
    monkeypatch.setattr(Answer, "status", 403)
    monkeypatch.setattr(Answer, "body", b"<Error><Code>RequestTimeTooSkewed</Code></Error>")
    assert "because this machine's clock is wrong" in outcome(port, "put").what


@pytest.mark.parametrize(
    ("status", "code", "busy", "lost"),
    [
        (500, "InternalError", False, True),
        (503, "ServiceUnavailable", True, False),
        (503, "SlowDown", True, False),
        (429, "TooManyRequests", True, False),
        (500, "ServerBusy", True, True),
        (408, "RequestTimeout", False, False),
        (400, "RequestTimeout", False, False),
        (500, "OperationTimedOut", False, True),
    ],
)
def test_what_passes_says_whether_it_is_busy_and_whether_it_may_be_done(
    port: int, monkeypatch: pytest.MonkeyPatch, status: int, code: str, busy: bool, lost: bool
) -> None:
    """A busy store gets more time; after a lost answer the object is looked for."""
    monkeypatch.setattr(Answer, "status", status)
    monkeypatch.setattr(Answer, "body", f"<Error><Code>{code}</Code></Error>".encode())
    error = outcome(port, "put")
    assert isinstance(error, StoreUnavailableError)
    assert (error.busy, error.lost) == (busy, lost)
    assert f"PUT at http://127.0.0.1:{port}: " in error.what
    assert str(status) in error.what


def test_a_connection_that_fails_says_why() -> None:
    """The cause is in obstore's debug output alone."""
    error = outcome(9)
    assert isinstance(error, StoreUnavailableError)
    assert (error.busy, error.lost) == (False, True)
    assert "Connection refused" in error.what
    assert "\n" not in error.what
