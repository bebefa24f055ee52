"""A store in a helper process, for children forked after their parent used obstore.

Such a child inherits a runtime whose threads are gone; only a program started afresh gets a working one. The child
therefore starts ``python -m xcargo.stores.fork_helper`` and speaks to it through its standard input and output: a
message is a JSON header and any number of bodies, each behind its length, then a length of 0. Credentials travel
in that pipe, never on the command line. The helper ends when its input does.
"""

from __future__ import annotations

import json
import os
import select
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import IO, Any, cast

import xcargo.errors as errors
from xcargo.errors import StoreError, StoreUnavailableError, XCargoError
from xcargo.model.root import Root
from xcargo.stores.base import Access, Limits, ObjectInfo, PutMode, Watched
from xcargo.types import Buffer

__all__ = ["Relay"]

_LENGTH = struct.Struct("!Q")
_END = 0
_BROKEN = 2**64 - 1
"""Instead of a length: what gave the bodies failed, the message has no end."""
_PATIENCE_SECONDS = 5.0
"""How much longer than a request may take its answer may: a new helper has to load its libraries first."""


class Relay:
    """Requests by a helper process. Calls from several threads take turns."""

    def __init__(self, root: Root, access: Access, limits: Limits) -> None:
        self._root = root
        self._access = access
        self._limits = limits
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def put(self, key: str, parts: Sequence[Buffer], mode: PutMode, seconds: float) -> None:
        self._call({"op": "put", "key": key, "mode": mode}, seconds, parts)

    def put_in_parts(self, key: str, parts: Iterable[Buffer], part_bytes: int, at_once: int, seconds: float) -> None:
        told = {"part_bytes": part_bytes, "at_once": at_once, "left": seconds}
        self._call({"op": "put_in_parts", "key": key, **told}, None, parts)

    def get(self, key: str, start: int, end: int | None, seconds: float) -> Buffer:
        return self._call({"op": "get", "key": key, "start": start, "end": end}, seconds)[1]

    def get_into(self, key: str, view: memoryview, start: int, seconds: float) -> int:
        data = self.get(key, start, start + len(view), seconds)
        view[: len(data)] = data
        return len(data)

    def head(self, key: str, seconds: float) -> ObjectInfo:
        return _info(self._call({"op": "head", "key": key}, seconds)[0]["info"])

    def delete(self, key: str, seconds: float) -> None:
        self._call({"op": "delete", "key": key}, seconds)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        yield from map(_info, self._call({"op": "list", "prefix": prefix}, None)[0]["infos"])

    def _call(
        self, header: dict[str, Any], seconds: float | None, parts: Iterable[Buffer] = ()
    ) -> tuple[dict[str, Any], Buffer]:
        """Ask the helper. ``seconds`` bounds the wait for its turn too; None leaves the bound to obstore's own."""
        watched = Watched(parts)
        until = time.monotonic() + (seconds or 0)
        if self._access.credentials is not None:
            header["credentials"] = _with_iso_dates(self._access.credentials())
        if not self._lock.acquire(timeout=-1 if seconds is None else max(seconds, 0)):
            raise StoreUnavailableError(
                f"The helper process of a forked child was busy for {seconds:.1f} s", where=self._root
            )
        try:
            header["seconds"] = None if seconds is None else max(until - time.monotonic(), 0.05)
            answer, body = self._exchange(header, watched)
        except (OSError, EOFError) as error:
            self._end()
            ended = StoreUnavailableError(f"The helper process of a forked child ended: {error}", where=self._root)
            ended.lost = True
            raise ended from error
        finally:
            self._lock.release()
        if watched.error is not None:
            raise watched.error
        if "error" in answer:
            raise _rebuilt(answer["error"])
        return answer, body

    def _exchange(self, header: dict[str, Any], watched: Watched) -> tuple[dict[str, Any], Buffer]:
        process = self._started()
        stdin, stdout = cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)  # both are pipes
        try:
            _write(stdin, header, watched)
        except BaseException as error:
            if error is not watched.error:  # the message has no end: this helper is of no more use
                self._end()
                raise
        if header["seconds"] is not None:
            patience = header["seconds"] + _PATIENCE_SECONDS
            if not select.select([stdout], [], [], patience)[0]:
                raise EOFError(f"it did not answer in {patience:.1f} s")
        answer, bodies = _read(stdout)
        body = next(bodies, b"")
        next(bodies, None)
        return answer, body

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            package_dir = str(Path(__file__).parents[2])
            path = os.pathsep.join(p for p in (package_dir, os.environ.get("PYTHONPATH", "")) if p)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "xcargo.stores.fork_helper"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": path},
            )
            opening = {
                "root": asdict(self._root),
                "config": dict(self._access.config),
                "client": dict(self._access.client),
                "limits": asdict(self._limits),
            }
            _write(cast("IO[bytes]", self._process.stdin), opening)
        return self._process


def _write(stream: IO[bytes], header: Mapping[str, Any], bodies: Iterable[Buffer] = ()) -> None:
    encoded = json.dumps(header).encode()
    stream.write(_LENGTH.pack(len(encoded)) + encoded)
    watched = Watched(bodies)
    try:
        for body in watched:
            if len(body):
                stream.write(_LENGTH.pack(len(body)))
                stream.write(body)
    finally:
        stream.write(_LENGTH.pack(_END if watched.error is None else _BROKEN))
        stream.flush()


def _read(stream: IO[bytes]) -> tuple[dict[str, Any], Iterator[Buffer]]:
    """Header and bodies of the next message. The bodies must be read to their end before the next."""
    header: dict[str, Any] = json.loads(_body(stream))
    return header, iter(lambda: _body(stream), b"")


def _body(stream: IO[bytes]) -> bytes:
    (length,) = _LENGTH.unpack(_exactly(stream, _LENGTH.size))
    if length == _BROKEN:
        raise _BrokenError
    return _exactly(stream, length)


class _BrokenError(XCargoError):
    """The other side could not give all bodies of its message."""

    def __init__(self) -> None:
        super().__init__("The value could not be read to its end")


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise EOFError("the pipe closed")
    return data


def _with_iso_dates(credentials: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v.isoformat() if isinstance(v, datetime) else v for k, v in credentials.items()}


def _info(fields: dict[str, Any]) -> ObjectInfo:
    modified = fields.pop("last_modified")
    return ObjectInfo(last_modified=datetime.fromisoformat(modified) if modified else None, **fields)


def _rebuilt(fields: dict[str, Any]) -> XCargoError:
    cls = getattr(errors, fields["class"], StoreError)
    error: XCargoError = cls(fields["what"], where=fields["where"], hint=fields["hint"])
    if isinstance(error, StoreUnavailableError):
        error.busy, error.lost, error.retry_after_seconds = fields["busy"], fields["lost"], fields["retry_after"]
    return error


def _serve(source: IO[bytes], sink: IO[bytes]) -> None:
    from xcargo.stores.client import Client

    opening, nothing = _read(source)
    credentials: dict[str, Any] = {}

    def current() -> dict[str, Any]:
        expires = credentials.get("expires_at")
        return {**credentials, "expires_at": datetime.fromisoformat(expires) if expires else None}

    client: Client | None = None
    bodies = nothing
    while True:
        try:
            for _ in bodies:  # left by a put that failed
                pass
            request, bodies = _read(source)
        except EOFError:
            return
        credentials = request.get("credentials") or credentials
        if client is None:
            access = Access(opening["config"], opening["client"], current if credentials else None)
            client = Client(Root(**opening["root"]), access, Limits(**opening["limits"]))
        try:
            answer, parts = _do(client, request, bodies)
        except XCargoError as error:
            if isinstance(error, _BrokenError):
                bodies = iter(())
            where = None if error.where is None else str(error.where)
            described: dict[str, Any] = {
                "class": type(error).__name__,
                "what": error.what,
                "where": where,
                "hint": error.hint,
            }
            if isinstance(error, StoreUnavailableError):
                described.update(busy=error.busy, lost=error.lost, retry_after=error.retry_after_seconds)
            answer, parts = {"error": described}, []
        _write(sink, answer, parts)


def _do(client: Any, request: Mapping[str, Any], bodies: Iterator[Buffer]) -> tuple[dict[str, Any], list[Buffer]]:
    op, seconds = request["op"], request["seconds"]
    if op == "put":
        client.put(request["key"], list(bodies), request["mode"], seconds)
    elif op == "put_in_parts":
        client.put_in_parts(request["key"], bodies, request["part_bytes"], request["at_once"], request["left"])
    elif op == "get":
        return {}, [client.get(request["key"], request["start"], request["end"], seconds)]
    elif op == "head":
        return {"info": _with_iso_dates(asdict(client.head(request["key"], seconds)))}, []
    elif op == "delete":
        client.delete(request["key"], seconds)
    elif op == "list":
        return {"infos": [_with_iso_dates(asdict(info)) for info in client.list(request["prefix"])]}, []
    return {}, []


if __name__ == "__main__":
    _serve(sys.stdin.buffer, sys.stdout.buffer)
