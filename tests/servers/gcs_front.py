"""A front for fake-gcs-server: turns writes of the XML API into uploads of the JSON API.

obstore writes by the XML API, which fake-gcs-server answers with 400. Reads, lists and plain
deletes go through as they are.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from .relay import Exchange, Relay
from .wire import Reply, call, quote_all

_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_JSON_API = ("storage", "upload", "download", "batch", "_internal")
_PIECE_BYTES = 256 * 1024
# XML API header -> property of the object in the JSON API
_PROPERTIES = {
    "content-type": "contentType",
    "content-encoding": "contentEncoding",
    "content-disposition": "contentDisposition",
    "content-language": "contentLanguage",
    "cache-control": "cacheControl",
}
_META = "x-goog-meta-"
_CONDITION = "x-goog-if-generation-match"


@dataclass(frozen=True)
class _Object:
    """What a request addresses in the XML API."""

    bucket: str
    key: str
    query: Mapping[str, str]

    @classmethod
    def of(cls, path: str) -> _Object:
        parts = urlsplit(path)
        bucket, _, key = parts.path.lstrip("/").partition("/")
        query = parse_qs(parts.query, keep_blank_values=True)
        return cls(bucket, unquote(key), {name: values[-1] for name, values in query.items()})


class GcsFront(Relay):
    """A Relay to fake-gcs-server under which the XML API can write.

    Knows PUT of an object, with x-goog-if-generation-match, and multipart uploads: initiate,
    part, complete, abort, list. Parts lie in `spool` until then. Copies are made by the server itself.
    """

    def __init__(self, upstream_url: str, spool: Path) -> None:
        self._server = upstream_url
        self._spool = spool
        super().__init__(upstream_url)

    def handle(self, exchange: Exchange) -> None:
        self.log(exchange)
        # fake-gcs-server serves the XML API under its own name only.
        exchange.head = exchange.head.with_field("Host", urlsplit(self._server).netloc)
        target = _Object.of(exchange.path)
        upload = target.query.get("uploadId")
        if not target.key and "uploads" in target.query:
            self._list_uploads(exchange, target)
        elif not target.key or target.bucket in _JSON_API:
            exchange.forward()
        elif exchange.method == "POST" and "uploads" in target.query:
            self._initiate(exchange, target)
        elif upload is not None:
            self._go_on(exchange, target, self._spool / Path(upload).name)
        elif exchange.method != "PUT":
            exchange.forward()
        elif "x-goog-copy-source" in exchange.head.fields:
            exchange.read_body()
            self._copy(exchange, target, unquote(exchange.head.fields["x-goog-copy-source"]))
        else:
            data = exchange.read_body()
            reply = self._upload(target, exchange.head.fields, len(data), iter([data]))
            _answer(exchange, reply)

    def _copy(self, exchange: Exchange, target: _Object, source: str) -> None:
        bucket, _, key = source.lstrip("/").partition("/")
        to = f"b/{target.bucket}/o/{quote_all(target.key)}"
        path = f"/storage/v1/b/{bucket}/o/{quote_all(key)}/rewriteTo/{to}"
        reply = call(self._server, "POST", path, {"Content-Type": "application/json"}, b"{}")
        if reply.status == 200:
            _answer_xml(exchange, "CopyObjectResult", "ETag", json.loads(reply.body)["resource"]["etag"])
        else:
            _refuse(exchange, reply.status, "NoSuchKey")

    def _list_uploads(self, exchange: Exchange, target: _Object) -> None:
        """Two at a time, so that every client has to turn pages."""
        after = (target.query.get("key-marker", ""), target.query.get("upload-id-marker", ""))
        begun = sorted(((folder / "key").read_text(), folder.name) for folder in self._spool.iterdir())
        begun = [one for one in begun if one > after and one[0].startswith(target.query.get("prefix", ""))]
        page = begun[:2]
        parts = [f"<IsTruncated>{str(len(begun) > len(page)).lower()}</IsTruncated>"]
        for key, name in page:
            since = datetime.fromtimestamp((self._spool / name / "key").stat().st_mtime, timezone.utc)
            parts.append(
                f"<Upload><Key>{escape(key)}</Key><UploadId>{name}</UploadId>"
                f"<Initiated>{since:%Y-%m-%dT%H:%M:%S.%fZ}</Initiated></Upload>"
            )
        for key, name in page[-1:]:
            parts.append(f"<NextKeyMarker>{escape(key)}</NextKeyMarker><NextUploadIdMarker>{name}</NextUploadIdMarker>")
        body = f'<ListMultipartUploadsResult xmlns="{_NAMESPACE}">{"".join(parts)}</ListMultipartUploadsResult>'
        exchange.reply(200, {"Content-Type": "application/xml"}, body.encode())

    def _initiate(self, exchange: Exchange, target: _Object) -> None:
        exchange.read_body()
        folder = self._spool / secrets.token_hex(8)
        folder.mkdir()
        (folder / "key").write_text(target.key)
        # The headers of the first request count for the object that the last one makes.
        (folder / "headers").write_text(json.dumps(dict(exchange.head.fields)))
        _answer_xml(exchange, "InitiateMultipartUploadResult", "UploadId", folder.name)

    def _go_on(self, exchange: Exchange, target: _Object, folder: Path) -> None:
        body = exchange.read_body()
        if not folder.is_dir():
            _refuse(exchange, 404, "NoSuchUpload")
        elif exchange.method == "PUT":
            (folder / target.query["partNumber"]).write_bytes(body)
            exchange.reply(200, {"ETag": f'"{target.query["partNumber"]}"'})
        elif exchange.method == "DELETE":
            shutil.rmtree(folder)
            exchange.reply(204, {})
        else:
            self._complete(exchange, target, folder, body.decode())

    def _complete(self, exchange: Exchange, target: _Object, folder: Path, listed: str) -> None:
        parts = [folder / number for number in re.findall(r"<PartNumber>(\d+)<", listed)]
        if not parts or not all(part.is_file() for part in parts):
            _refuse(exchange, 400, "InvalidPart")
            return
        fields = json.loads((folder / "headers").read_text())
        condition = exchange.head.fields.get(_CONDITION)
        if condition is not None:
            fields[_CONDITION] = condition
        size = sum(part.stat().st_size for part in parts)
        reply = self._upload(target, fields, size, _read_all(parts))
        shutil.rmtree(folder)
        if reply.status != 200:
            _answer(exchange, reply)
            return
        _answer_xml(exchange, "CompleteMultipartUploadResult", "ETag", _etag(reply))

    def _upload(self, target: _Object, fields: Mapping[str, str], size: int, data: Iterator[bytes]) -> Reply:
        """One JSON-API upload of metadata and data: a multipart/related body of two parts."""
        properties: dict[str, object] = {name: fields[field] for field, name in _PROPERTIES.items() if field in fields}
        properties["metadata"] = {
            name.removeprefix(_META): value for name, value in fields.items() if name.startswith(_META)
        }
        mark = f"xcargo-{secrets.token_hex(16)}"
        kind = fields.get("content-type", "application/octet-stream")
        before = (
            f"--{mark}\r\nContent-Type: application/json\r\n\r\n{json.dumps(properties)}\r\n"
            f"--{mark}\r\nContent-Type: {kind}\r\n\r\n"
        ).encode()
        after = f"\r\n--{mark}--\r\n".encode()

        def body() -> Iterator[bytes]:
            yield before
            yield from data
            yield after

        path = f"/upload/storage/v1/b/{target.bucket}/o?uploadType=multipart"
        path += f"&name={quote_all(target.key)}"
        if _CONDITION in fields:
            path += f"&ifGenerationMatch={fields[_CONDITION]}"
        headers = {
            "Content-Type": f"multipart/related; boundary={mark}",
            "Content-Length": str(len(before) + size + len(after)),
        }
        return call(self._server, "POST", path, headers, body())


def _read_all(paths: list[Path]) -> Iterator[bytes]:
    for path in paths:
        with path.open("rb") as file:
            while piece := file.read(_PIECE_BYTES):
                yield piece


def _etag(upload: Reply) -> str:
    return '"{}"'.format(json.loads(upload.body)["etag"].strip('"'))


def _answer(exchange: Exchange, upload: Reply) -> None:
    if upload.status == 200:
        generation = str(json.loads(upload.body)["generation"])
        exchange.reply(200, {"ETag": _etag(upload), "x-goog-generation": generation})
    else:
        exchange.reply(upload.status, {"Content-Type": "application/json"}, upload.body)


def _answer_xml(exchange: Exchange, root: str, field: str, text: str) -> None:
    body = f"<{root}><{field}>{text}</{field}></{root}>".encode()
    exchange.reply(200, {"Content-Type": "application/xml"}, body)


def _refuse(exchange: Exchange, status: int, code: str) -> None:
    body = f"<Error><Code>{code}</Code></Error>".encode()
    exchange.reply(status, {"Content-Type": "application/xml"}, body)
