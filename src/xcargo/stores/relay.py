"""A store in a helper process, for children forked after their parent used obstore.

Such a child inherits a runtime whose threads are gone; only a program started afresh gets a working one. The child
therefore starts ``python -m xcargo.stores.relay`` and speaks to it through its standard input and output: a message is
a JSON header and any number of bodies, each behind its length, then a length of 0. Credentials travel in that pipe,
never on the command line. The helper ends when its input does.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import xcargo.errors as errors
from xcargo.errors import StoreError, StoreUnavailableError, XCargoError
from xcargo.root import Root
from xcargo.stores.base import Access, Buffer, Limits, ObjectInfo, PutMode, Watched

__all__ = ["RelayStore"]

_LENGTH = struct.Struct("!Q")
_END = 0
_BROKEN = 2**64 - 1
"""Instead of a length: what gave the bodies failed, the message has no end."""


class RelayStore:
    """Store that does its work in a helper process. Calls from several threads take turns."""

    def __init__(self, root: Root, access: Access, limits: Limits) -> None:
        self._root = root
        self._access = access
        self._limits = limits
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def put(
        self, key: str, parts: Iterable[Buffer], *, mode: PutMode = "overwrite", expected_bytes: int | None = None
    ) -> None:
        self._call({"op": "put", "key": key, "mode": mode, "expected_bytes": expected_bytes}, parts)

    def get(self, key: str, *, start: int = 0, end: int | None = None) -> Buffer:
        return self._call({"op": "get", "key": key, "start": start, "end": end})[1]

    def head(self, key: str) -> ObjectInfo:
        return _info(self._call({"op": "head", "key": key})[0]["info"])

    def delete(self, keys: Iterable[str]) -> None:
        self._call({"op": "delete", "keys": list(keys)})

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        yield from map(_info, self._call({"op": "list", "prefix": prefix})[0]["infos"])

    def _call(self, header: dict[str, Any], parts: Iterable[Buffer] = ()) -> tuple[dict[str, Any], Buffer]:
        watched = Watched(parts)
        if self._access.credentials is not None:
            header["credentials"] = _with_iso_dates(self._access.credentials())
        with self._lock:
            try:
                process = self._started()
                assert process.stdin is not None
                assert process.stdout is not None
                try:
                    _write(process.stdin, header, watched)
                except BaseException as error:
                    if error is not watched.error:  # the message has no end: this helper is of no more use
                        self._process = None
                        process.kill()
                        process.wait()
                        raise
                answer, bodies = _read(process.stdout)
                body = next(bodies, b"")
                next(bodies, None)
            except (OSError, EOFError) as error:
                self._process = None
                raise StoreUnavailableError(
                    f"The helper process of a forked child ended: {error}", where=self._root
                ) from error
        if watched.error is not None:
            raise watched.error
        if "error" in answer:
            raise _rebuilt(answer["error"])
        return answer, body

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            package_dir = str(Path(__file__).parents[2])
            path = os.pathsep.join(p for p in (package_dir, os.environ.get("PYTHONPATH", "")) if p)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "xcargo.stores.relay"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": path},
            )
            assert self._process.stdin
            opening = {
                "root": asdict(self._root),
                "config": dict(self._access.config),
                "client": dict(self._access.client),
                "limits": asdict(self._limits),
            }
            _write(self._process.stdin, opening)
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
    return error


def _serve(source: IO[bytes], sink: IO[bytes]) -> None:
    from xcargo.stores.objectstore import ObjectStore

    opening, nothing = _read(source)
    credentials: dict[str, Any] = {}

    def current() -> dict[str, Any]:
        expires = credentials.get("expires_at")
        return {**credentials, "expires_at": datetime.fromisoformat(expires) if expires else None}

    store: ObjectStore | None = None
    bodies = nothing
    while True:
        try:
            for _ in bodies:  # left by a put that failed
                pass
            request, bodies = _read(source)
        except EOFError:
            return
        credentials = request.get("credentials") or credentials
        if store is None:
            access = Access(opening["config"], opening["client"], current if credentials else None)
            store = ObjectStore(Root(**opening["root"]), access, Limits(**opening["limits"]))
        try:
            answer, parts = _do(store, request, bodies)
        except XCargoError as error:
            if isinstance(error, _BrokenError):
                bodies = iter(())
            where = None if error.where is None else str(error.where)
            described = {"class": type(error).__name__, "what": error.what, "where": where, "hint": error.hint}
            answer, parts = {"error": described}, []
        _write(sink, answer, parts)


def _do(store: Any, request: Mapping[str, Any], bodies: Iterator[Buffer]) -> tuple[dict[str, Any], list[Buffer]]:
    op = request["op"]
    if op == "put":
        store.put(request["key"], bodies, mode=request["mode"], expected_bytes=request["expected_bytes"])
    elif op == "get":
        return {}, [store.get(request["key"], start=request["start"], end=request["end"])]
    elif op == "head":
        return {"info": _with_iso_dates(asdict(store.head(request["key"])))}, []
    elif op == "delete":
        store.delete(request["keys"])
    elif op == "list":
        return {"infos": [_with_iso_dates(asdict(info)) for info in store.list(request["prefix"])]}, []
    return {}, []


if __name__ == "__main__":
    _serve(sys.stdin.buffer, sys.stdout.buffer)
