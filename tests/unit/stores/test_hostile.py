"""Hostile stores and odd object keys; and where credentials are never seen."""

from __future__ import annotations

import http.server
import logging
import os
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest

from tests.servers import Server
from tests.unit.conftest import HERE, google_key, in_fork, make_pipeline
from xcargo.errors import EnvelopeError, IntegrityError, StoreError, XCargoError

VALUE = {f"key{i}": "x" * 100 for i in range(100)}
SECRET = "c2VjcmV0LW9mLW1pbmU="


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers every request with ``status`` and ``body``, or sends the client on to ``location``."""

    status = 200
    location = ""
    body = b""
    seen: list[tuple[str, bytes]]

    def do_GET(self) -> None:
        self.seen.append((self.command, self.rfile.read(int(self.headers.get("Content-Length") or 0))))
        self.send_response(307 if self.location else self.status)
        for name, value in (("Location", self.location), ("ETag", '"1"'), ("Content-Length", str(len(self.body)))):
            if value:
                self.send_header(name, value)
        self.send_header("Last-Modified", "Wed, 21 Oct 2026 07:28:00 GMT")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(self.body)

    do_PUT = do_POST = do_HEAD = do_GET

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def answering(**attributes: Any) -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """A server that answers so: its URL, and the verbs and bodies that it has seen."""
    seen: list[tuple[str, bytes]] = []
    handler = type("Handler", (Answers,), {**attributes, "seen": seen})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", seen
        server.shutdown()
        thread.join()


def test_a_redirect_gives_no_other_value_and_takes_no_value_along() -> None:
    """A store may send a read on to another host: what comes from there is compared as well. A put is not sent on."""
    row: Any = make_pipeline("memory://bucket/xcom").push(VALUE, HERE)
    row = {**row, "uri": row["uri"].replace("memory://", "s3://")}
    with answering(body=b"of somebody else") as (elsewhere, seen), answering(location=elsewhere) as (endpoint, _):
        fields = {"conn_type": "aws", "login": "id", "password": SECRET, "extra": {"endpoint_url": endpoint}}
        pipeline = make_pipeline("s3://c@bucket/xcom", connection=fields, timeout_seconds=2)
        with pytest.raises(IntegrityError):
            pipeline.pull(row)
        assert {verb for verb, _ in seen} == {"GET"}
        with pytest.raises(StoreError):
            pipeline.push(VALUE, HERE)
        assert not any(body for _, body in seen)


TRICKS = ("..%2F{dag}", "%2E%2E/{dag}", "%2e%2e%2f{dag}", "x/../../{dag}", "./../{dag}", "~2E~2E/{dag}", ".%2E%2F{dag}")


@pytest.mark.servers
@pytest.mark.parametrize("kind", ["s3", "gcs", "azure", "file"])
def test_no_spelling_of_a_key_reaches_another_dags_object(
    kind: str, request: pytest.FixtureRequest, tmp_path: Any
) -> None:
    """Who knows another object's key and checksum, and writes rows of another Dag, gets nowhere by dots and escapes."""
    server: Server | None = None if kind == "file" else request.getfixturevalue(f"{kind}_server")
    root = f"{server.root}/tricks" if server else tmp_path.as_uri()
    pipeline = make_pipeline(root, connection=server.connection if server else None)
    row: Any = pipeline.push(VALUE, HERE)
    base, _, key = row["uri"].rpartition(f"/{HERE.dag_id}/")
    assert pipeline.pull(row, HERE.dag_id) == VALUE
    for trick in TRICKS:
        forged = {**row, "uri": f"{base}/attacker/{trick.format(dag=HERE.dag_id)}/{key}"}
        for use in (pipeline.pull, pipeline.verify):
            with pytest.raises((EnvelopeError, StoreError)):
                use(forged, "attacker")
        pipeline.purge(forged, "attacker")
    assert pipeline.pull(row, HERE.dag_id) == VALUE


CONNECTIONS: dict[str, dict[str, Any]] = {
    "s3://c@bucket/x": {"conn_type": "aws", "login": "id", "password": SECRET, "extra": {"aws_session_token": SECRET}},
    "az://c@box/x": {"conn_type": "wasb", "login": "mine", "extra": {"sas_token": f"sv=2024-01-01&sig={SECRET}"}},
    "az://key@box/x": {"conn_type": "wasb", "login": "mine", "password": SECRET},
    "gs://c@bucket/x": {"conn_type": "google_cloud_platform", "extra": {"keyfile_dict": google_key()}},
}


@pytest.mark.parametrize("root", CONNECTIONS)
@pytest.mark.parametrize("status", [403, 500, 0])
def test_no_credential_is_in_an_error_its_causes_or_a_log(
    root: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether the store refuses, fails or is not there; in the whole traceback, as Airflow logs it, and in reprs."""
    caplog.set_level(logging.DEBUG)
    fields = dict(CONNECTIONS[root])
    with answering(body=b"<Code>Odd</Code>", status=status or 200) as (endpoint, _):
        endpoint = endpoint if status else "http://127.0.0.1:1"
        if fields["conn_type"] == "wasb":
            fields["host"] = f"{endpoint}/mine"
        else:
            fields["extra"] = {**fields["extra"], "endpoint_url": endpoint}
        pipeline = make_pipeline(root, connection=fields, timeout_seconds=1)
        with pytest.raises(XCargoError) as caught:
            pipeline.push(VALUE, HERE)
    shown = "".join(traceback.format_exception(caught.value)) + caplog.text + repr(vars(pipeline)) + repr(caught.value)
    for secret in (SECRET, SECRET.replace("=", "%3D"), google_key()["private_key"].splitlines()[1]):
        assert secret not in shown


@pytest.mark.servers
def test_the_helper_of_a_forked_child_shows_no_credential(s3_server: Server) -> None:
    """Neither in the list of processes nor in its environment, which other processes of the same user can read."""
    pipeline = make_pipeline(s3_server.root, connection=s3_server.connection)
    row = pipeline.push(VALUE, HERE)
    secret = s3_server.connection["password"].encode()

    def child() -> bool:
        assert pipeline.pull(row) == VALUE
        (helper,) = psutil.Process(os.getpid()).children()
        seen = [open(f"/proc/{helper.pid}/{name}", "rb").read() for name in ("cmdline", "environ")]
        return b"fork_helper" in seen[0] and not any(secret in text for text in seen)

    assert in_fork(child) == 0
