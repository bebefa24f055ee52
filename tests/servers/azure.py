"""azure: azurite-blob, which checks shared-key signatures."""

from __future__ import annotations

import base64
import functools
import hmac
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree

from .node import find_node, installed
from .processes import StartError, free_ports, running, scratch_directory
from .server import BUCKET, Server
from .wire import Reply, call, expect, quote_all, quote_key

ACCOUNT = "devstoreaccount1"
_API_VERSION = "2023-11-03"


@contextmanager
def run() -> Iterator[Server]:
    """An azurite-blob with a container, its data in a scratch directory.

    The first call on a machine installs azurite with npm, which takes the better part of a minute.
    """
    node = find_node()
    program = installed(node) / "azurite" / "dist" / "src" / "blob" / "main.js"
    # A key of its own: the first signed request proves that this server answers, not another.
    key = base64.b64encode(secrets.token_bytes(64)).decode()
    port = free_ports(1)[0]
    endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
    raw = AzureBucket(endpoint, key)
    data = scratch_directory("azure")
    command = [
        *(str(node.program), str(program)),
        *("--blobHost", "127.0.0.1"),
        *("--blobPort", str(port)),
        *("--location", str(data)),
        "--silent",
        "--disableTelemetry",
        "--skipApiVersionCheck",
    ]
    accounts = {"AZURITE_ACCOUNTS": f"{ACCOUNT}:{key}"}
    with running(command, is_ready=raw.create, remove=[str(data)], env=accounts):
        yield Server(
            kind="azure",
            endpoint=endpoint,
            root=f"azblob://xcargo_azure@{BUCKET}/demo",
            connection_id="xcargo_azure",
            connect=functools.partial(_connection, key),
            raw=raw,
        )


def _connection(key: str, endpoint: str) -> dict[str, Any]:
    return {"conn_type": "wasb", "login": ACCOUNT, "password": key, "host": endpoint}


@dataclass(frozen=True)
class AzureBucket:
    """The container by plain HTTP and a shared-key signature of its own."""

    endpoint: str
    key: str

    def create(self) -> bool:
        """Create the container. Raises StartError when the answer is another's server's."""
        reply = self._call("PUT", "", {"restype": "container"})
        if reply.status in (403, 409):
            raise StartError(f"another server answers at {self.endpoint}")
        return reply.status == 201

    def list_keys(self) -> list[str]:
        keys: list[str] = []
        query = {"restype": "container", "comp": "list", "maxresults": "1000"}
        while True:
            page = ElementTree.fromstring(expect(self._call("GET", "", query), 200).body)
            keys += [node.text or "" for node in page.iterfind("Blobs/Blob/Name")]
            marker = page.findtext("NextMarker")
            if not marker:
                return sorted(keys)
            query["marker"] = marker

    def get(self, key: str) -> bytes:
        return expect(self._call("GET", key), 200).body

    def put(self, key: str, data: bytes) -> None:
        expect(self._call("PUT", key, body=data, blob_type="BlockBlob"), 201)

    def delete(self, key: str) -> None:
        expect(self._call("DELETE", key), 202, 404)

    def _call(
        self,
        method: str,
        key: str,
        query: dict[str, str] | None = None,
        body: bytes = b"",
        blob_type: str | None = None,
    ) -> Reply:
        path = f"{urlsplit(self.endpoint).path}/{BUCKET}"
        if key:
            path += f"/{quote_key(key)}"
        pairs = sorted((query or {}).items())
        headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": _API_VERSION}
        if blob_type:
            headers = {"x-ms-blob-type": blob_type, **headers}
        length = str(len(body)) if body else ""
        to_sign = [method, "", "", length, *[""] * 8]
        to_sign += [f"{name}:{value}" for name, value in headers.items()]
        to_sign += [f"/{ACCOUNT}{path}", *(f"{name}:{value}" for name, value in pairs)]
        digest = hmac.digest(base64.b64decode(self.key), "\n".join(to_sign).encode(), "sha256")
        headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}"
        text = "&".join(f"{name}={quote_all(value)}" for name, value in pairs)
        return call(self.endpoint, method, f"{path}?{text}" if text else path, headers, body)
