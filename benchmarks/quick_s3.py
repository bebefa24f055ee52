"""An S3 server that costs next to nothing, so that what is measured is the client: it keeps objects in memory.

``python -m benchmarks.quick_s3`` prints the port it listens on and serves until standard input ends. It knows the
requests that the measured clients make, one bucket, and no signatures. ``POST KEY?flip=OFFSET`` damages an object,
``GET BUCKET?traffic`` says how many requests there were, and how many bytes of them and of the replies.
"""

from __future__ import annotations

import itertools
import mmap
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.utils import formatdate
from pathlib import Path
from urllib.parse import parse_qs, unquote
from xml.sax.saxutils import escape

__all__ = ["BUCKET", "running"]

BUCKET = "xcom"

_HUGE = 1024 * 1024
_HEAD_BYTES = 64 * 1024
_PARTS = re.compile(rb"<PartNumber>(\d+)</PartNumber>")
_KEYS = re.compile(r"<Key>([^<]*)</Key>")
_NAMES = {"&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": '"', "&apos;": "'"}

_STAMP = f'ETag: "0"\r\nLast-Modified: {formatdate(usegmt=True)}\r\n'
"""All objects were written when the server began."""


class Bucket:
    """The objects by key, each as the pieces it was put in. A single operation on a dictionary needs no lock."""

    def __init__(self) -> None:
        self.objects: dict[str, list[memoryview]] = {}
        self.checksums: dict[str, str] = {}
        self.traffic: list[list[int]] = []  # of each connection
        self.uploads: dict[str, dict[int, memoryview]] = {}
        self.numbers = itertools.count(1)


class Fields:
    """The header fields of a request, looked for when asked for, since most never are. One that is absent is empty."""

    def __init__(self, head: str) -> None:
        self._head = head
        self._lower = head.lower()

    def __getitem__(self, name: str) -> str:
        at = self._lower.find(f"\r\n{name}:")
        if at < 0:
            return ""
        start = at + len(name) + 3
        return self._head[start : self._head.index("\r\n", start)].strip()

    def line(self, start: str) -> str:
        """The first field whose name begins so, as a line."""
        at = self._lower.find(f"\r\n{start}")
        return "" if at < 0 else self._head[at + 2 : self._head.index("\r\n", at + 2) + 2]


class Connection:
    """One client's connection: requests one after another."""

    def __init__(self, bucket: Bucket, link: socket.socket) -> None:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._bucket = bucket
        self._link = link
        self._early = b""
        self._traffic = [0, 0, 0]
        bucket.traffic.append(self._traffic)

    def serve(self) -> None:
        """Answer until the client goes."""
        with self._link, suppress(ConnectionError):
            while (head := self._head()) is not None:
                method, target, _ = head.split(" ", 2)
                fields = Fields(head)
                if fields["expect"]:
                    self._link.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                body = self._body(fields)
                self._traffic[0] += 1
                self._traffic[1] += len(head) + 2 + int(fields["content-length"] or 0)
                path, _, query = target.partition("?")
                key = unquote(path).partition("/")[2].partition("/")[2]
                self._answer(method, key, parse_qs(query, keep_blank_values=True) if query else {}, fields, body)

    def _head(self) -> str | None:
        data = self._early
        while (end := data.find(b"\r\n\r\n")) < 0:
            more = self._link.recv(_HEAD_BYTES)
            if not more:
                return None
            data += more
        self._early = data[end + 4 :]
        return data[: end + 2].decode("latin-1")

    def _body(self, fields: Fields) -> memoryview:
        """The body of a request; of one in signed chunks their content."""
        size = int(fields["content-length"] or 0)
        if size == 0 and "chunked" in fields["transfer-encoding"]:
            raise ConnectionError("this server wants to know the length")
        body = _memory(size)
        early, self._early = self._early[:size], self._early[size:]
        body[: len(early)] = early
        filled = len(early)
        while filled < size:
            got = self._link.recv_into(body[filled:])
            if not got:
                raise ConnectionError("the client went")
            filled += got
        if "aws-chunked" not in fields["content-encoding"]:
            return body
        content, place, at = _memory(int(fields["x-amz-decoded-content-length"])), 0, 0
        while at < len(content):
            end = bytes(body[place : place + 200]).index(b"\r\n")
            length = int(bytes(body[place : place + end]).partition(b";")[0], 16)
            place += end + 2
            content[at : at + length] = body[place : place + length]
            place, at = place + length + 2, at + length
        return content

    def _answer(self, method: str, key: str, query: dict[str, list[str]], fields: Fields, body: memoryview) -> None:
        objects = self._bucket.objects
        if method == "PUT" and "uploadId" in query:
            self._bucket.uploads[query["uploadId"][0]][int(query["partNumber"][0])] = body
            self._reply(200, e_tag=True)
        elif method == "PUT" and (source := fields["x-amz-copy-source"]):
            objects[key] = [
                memoryview(bytes(piece)) for piece in objects[unquote(source).lstrip("/").partition("/")[2]]
            ]
            self._bucket.checksums.pop(key, None)
            self._reply_xml("<CopyObjectResult><ETag>&quot;0&quot;</ETag></CopyObjectResult>")
        elif method == "PUT":
            objects[key] = [body]
            self._bucket.checksums[key] = fields.line("x-amz-checksum-")
            self._reply(200, e_tag=True)
        elif method == "GET" and "traffic" in query:
            self._reply_xml(" ".join(str(sum(numbers)) for numbers in zip(*self._bucket.traffic, strict=True)))
        elif method in ("GET", "HEAD") and key:
            self._give(method, key, fields["range"], checked=bool(fields["x-amz-checksum-mode"]))
        elif method == "HEAD":
            self._reply(200)
        elif method == "GET":
            self._reply_xml(self._listing({name: values[0] for name, values in query.items()}))
        elif method == "DELETE":
            objects.pop(key, None)
            self._reply(204)
        elif method == "POST" and "delete" in query:
            for name in _KEYS.findall(bytes(body).decode()):
                for written, meant in _NAMES.items():
                    name = name.replace(written, meant)
                objects.pop(name, None)
            self._reply_xml("<DeleteResult></DeleteResult>")
        elif method == "POST" and "uploads" in query:
            number = str(next(self._bucket.numbers))
            self._bucket.uploads[number] = {}
            self._reply_xml(
                f"<InitiateMultipartUploadResult><UploadId>{number}</UploadId></InitiateMultipartUploadResult>"
            )
        elif method == "POST" and "uploadId" in query:
            parts = self._bucket.uploads.pop(query["uploadId"][0])
            self._bucket.checksums.pop(key, None)
            objects[key] = [parts[int(number)] for number in _PARTS.findall(bytes(body))]
            self._reply_xml(
                f"<CompleteMultipartUploadResult><Key>{escape(key)}</Key><ETag>&quot;0&quot;</ETag></CompleteMultipartUploadResult>"
            )
        elif method == "POST" and "flip" in query:
            (piece,) = _between(objects[key], int(query["flip"][0]), int(query["flip"][0]) + 1)
            piece[0] ^= 1
            self._reply(200)
        else:
            self._reply_xml("<Error><Code>NotImplemented</Code></Error>", 501)

    def _give(self, method: str, key: str, wanted: str, *, checked: bool) -> None:
        """An object or a range of it; of a whole one also the checksum that it was put with, as S3 does if asked."""
        pieces = self._bucket.objects.get(key)
        if pieces is None:
            self._reply_xml(f"<Error><Code>NoSuchKey</Code><Key>{escape(key)}</Key></Error>" * (method == "GET"), 404)
            return
        size = sum(map(len, pieces))
        start, end = 0, size
        status = 200
        if wanted:
            low, _, high = wanted.removeprefix("bytes=").partition("-")
            start, end = int(low), min(int(high) + 1 if high else size, size)
            status = 206
        more = f"Content-Range: bytes {start}-{end - 1}/{size}\r\n" if wanted else ""
        if checked and not wanted:
            more = self._bucket.checksums.get(key, "")
        self._reply(status, f"{more}Accept-Ranges: bytes\r\n", _between(pieces, start, end), end - start, method, True)

    def _listing(self, query: dict[str, str]) -> str:
        prefix = query.get("prefix", "")
        most = int(query.get("max-keys", "1000"))
        keys = sorted(key for key in list(self._bucket.objects) if key.startswith(prefix))[:most]
        rows = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{sum(map(len, self._bucket.objects[key]))}</Size>"
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;0&quot;</ETag></Contents>"
            for key in keys
        )
        return (
            f"<ListBucketResult><Name>{BUCKET}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(keys)}</KeyCount>"
            f"<MaxKeys>{most}</MaxKeys><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>"
        )

    def _reply_xml(self, text: str, status: int = 200) -> None:
        data = memoryview(text.encode())
        self._reply(status, "Content-Type: application/xml\r\n", [data], len(data))

    def _reply(
        self,
        status: int,
        more: str = "",
        pieces: list[memoryview] | None = None,
        length: int = 0,
        method: str = "",
        e_tag: bool = False,
    ) -> None:
        stamp = _STAMP if e_tag else ""
        size = "" if status == 204 else f"Content-Length: {length}\r\n"
        head = f"HTTP/1.1 {status} OK\r\n{stamp}{more}{size}\r\n".encode()
        self._traffic[2] += len(head) + (length if method != "HEAD" else 0)
        if not pieces or method == "HEAD":
            self._link.sendall(head)
        elif length < _HEAD_BYTES:
            self._link.sendall(b"".join([head, *pieces]))
        else:
            self._link.sendall(head)
            for piece in pieces:
                self._link.sendall(piece)


def _memory(size: int) -> memoryview:
    if size < _HUGE:
        return memoryview(bytearray(size))
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(memory)


def _between(pieces: list[memoryview], start: int, end: int) -> list[memoryview]:
    found, place = [], 0
    for piece in pieces:
        view = piece[max(0, start - place) : max(0, end - place)]
        if len(view):
            found.append(view)
        place += len(piece)
    return found


@contextmanager
def running() -> Iterator[str]:
    """The address (``http://host:port``) of such a server, in a process of its own."""
    root = Path(__file__).resolve().parent.parent
    command = [sys.executable, "-m", "benchmarks.quick_s3"]
    process = subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.stdin.close()
        process.wait(10)


def _serve(listening: socket.socket) -> None:
    bucket = Bucket()
    while True:
        link, _ = listening.accept()
        threading.Thread(target=Connection(bucket, link).serve, daemon=True).start()


if __name__ == "__main__":
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listening:
        print(listening.getsockname()[1], flush=True)
        threading.Thread(target=_serve, args=[listening], daemon=True).start()
        sys.stdin.read()
